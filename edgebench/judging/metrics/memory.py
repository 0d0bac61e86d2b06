"""Memory of the engine."""

from __future__ import annotations

from edgebench.core import MetricDefinition, RoundData


def memory_footprint(data: RoundData) -> float | None:
    rss_b = data.round_sample_metrics.get("peak_rss_b")
    return None if rss_b is None else rss_b + data.round_sample_metrics.get("peak_gpu_b", 0.0)


def base_memory(data: RoundData) -> float | None:
    return data.engine.base_rss_b


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
        compute=memory_footprint,
    ),
    MetricDefinition(
        "base_rss_b",
        "bytes",
        "baseline resident memory",
        "resident memory of the engine before it loads the model; for the bundled server this includes a "
        "Python interpreter",
        "lower",
        compute=base_memory,
    ),
)
