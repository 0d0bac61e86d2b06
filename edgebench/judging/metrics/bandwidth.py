"""Memory bandwidth utilisation of decoding."""

from __future__ import annotations

from statistics import fmean

from edgebench.core import MetricDefinition, RoundData
from edgebench.core.spans import concurrent, decode_span


def bytes_per_token(weights_b: float, kv_b_per_token: float, depth: float) -> float:
    """Bytes read to decode one token: the weights that are used, and the KV cache at that depth."""
    return weights_b + kv_b_per_token * depth


def utilisation_by_depth(data: RoundData) -> list[tuple[float, float]]:
    """(mean depth in tokens, share of the bandwidth) of each decoding turn.

    Bytes read per token × decode rate ÷ read bandwidth. Excludes turns with a draft, and turns that
    decode at the same time: reading the weights once then yields several tokens.
    """
    weights_b = data.model.weights_read_bytes or data.model.weights_bytes
    if not weights_b or not data.bytes_per_s or data.bytes_per_s <= 0:
        return []
    result = []
    groups = concurrent(data.turns, decode_span)
    single = [group[0] for group in groups if len(group) == 1 and "decode" in group[0].measures]
    for turn in single:
        if turn.decode_tps is not None and not turn.draft_tokens:
            depth = turn.depth - turn.completion_tokens / 2
            read_b = bytes_per_token(weights_b, data.model.kv_bytes_per_token or 0.0, depth)
            result.append((depth, read_b * turn.decode_tps / data.bytes_per_s))
    return result


def utilisation(data: RoundData) -> float | None:
    values = [value for _, value in utilisation_by_depth(data)]
    return fmean(values) if values else None


METRICS = (
    MetricDefinition(
        "mbu",
        "ratio",
        "memory bandwidth utilisation",
        "(weights read per token + KV cache at that depth) × decode_tps ÷ measured read bandwidth of the "
        "processor or GPU that computes; a value above 1 indicates an error (doubt mbu-above-one)",
        "higher",
        source="Databricks, LLM Inference Performance Engineering: Best Practices, 2023 (model bandwidth utilization)",
        compute=utilisation,
    ),
)
