"""The share of the memory bandwidth that decoding used."""

from __future__ import annotations

from statistics import fmean

from edgebench.core import MetricDefinition, RoundData
from edgebench.core.spans import concurrent, decode_span


def bytes_per_token(weights_b: float, kv_b_per_token: float, depth: float) -> float:
    """What decoding one token must read: the weights that are used, and the KV cache at that depth."""
    return weights_b + kv_b_per_token * depth


def by_depth(data: RoundData) -> list[tuple[float, float]]:
    """For each decoding turn: (its mean depth in tokens, the share of the bandwidth it used).

    Bytes the model must read per token × decode rate ÷ the read bandwidth. Nothing for turns with a
    draft, or that decode at the same time: one reading of the weights then yields several tokens.
    """
    weights = data.model.weights_read_bytes or data.model.weights_bytes
    if not weights or not data.bytes_per_s or data.bytes_per_s <= 0:
        return []
    found = []
    groups = concurrent(data.turns, decode_span)
    alone = [group[0] for group in groups if len(group) == 1 and "decode" in group[0].measures]
    for turn in alone:
        if turn.decode_tps is not None and not turn.draft_tokens:
            depth = turn.depth - turn.completion_tokens / 2
            read = bytes_per_token(weights, data.model.kv_bytes_per_token or 0.0, depth)
            found.append((depth, read * turn.decode_tps / data.bytes_per_s))
    return found


def utilisation(data: RoundData) -> float | None:
    uses = [use for _, use in by_depth(data)]
    return fmean(uses) if uses else None


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
