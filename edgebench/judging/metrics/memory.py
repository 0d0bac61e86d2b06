"""Memory of the engine."""

from __future__ import annotations

from edgebench.core import MetricDefinition

METRICS = (
    MetricDefinition(
        "peak_footprint_b",
        "bytes",
        "memory footprint",
        "peak_rss_b + peak_gpu_b: peak memory of the engine in RAM and on the GPU, with no double counting",
        "lower",
        short_title="memory",
        heading="memory footprint",
        headline=True,
    ),
    MetricDefinition(
        "base_rss_b",
        "bytes",
        "baseline resident memory",
        "resident memory of the engine before it loads the model; for the bundled server this includes a "
        "Python interpreter",
        "lower",
    ),
)
