"""Energy by phase, and power."""

from __future__ import annotations

from edgebench.core import MetricDefinition

METRICS = (
    MetricDefinition(
        "energy_j",
        "J",
        "energy",
        "energy of the round minus the idle baseline that was measured before the run",
        "lower",
    ),
    MetricDefinition(
        "energy_gross_j",
        "J",
        "energy, gross",
        "energy of the round, including the idle baseline",
        "lower",
    ),
    MetricDefinition(
        "energy_load_j",
        "J",
        "load energy",
        "energy of the load phase minus the idle baseline",
        "lower",
    ),
    MetricDefinition(
        "energy_prefill_j",
        "J",
        "prefill energy",
        "energy of the prefill phase minus the idle baseline",
        "lower",
    ),
    MetricDefinition(
        "energy_decode_j",
        "J",
        "decode energy",
        "energy of the decode phase minus the idle baseline",
        "lower",
    ),
    MetricDefinition(
        "j_per_token",
        "J/token",
        "energy per token",
        "energy_decode_j ÷ generated tokens",
        "lower",
        short_title="energy per token",
    ),
    MetricDefinition(
        "power_w",
        "W",
        "power",
        "mean power during decode, including the idle baseline",
        "lower",
    ),
)
