"""The share of the memory bandwidth that decoding used."""

from __future__ import annotations

from edgebench.core import MetricDefinition

METRICS = (
    MetricDefinition(
        "mbu",
        "ratio",
        "memory bandwidth utilisation",
        "(weights read per token + KV cache at that depth) × decode_tps ÷ measured read bandwidth of the "
        "processor or GPU that computes; a value above 1 indicates an error (doubt mbu-above-one)",
        "higher",
        source="Databricks, LLM Inference Performance Engineering: Best Practices, 2023 (model bandwidth utilization)",
    ),
)
