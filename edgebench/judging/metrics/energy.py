"""Energy by phase, and power."""

from __future__ import annotations

from collections.abc import Sequence

from edgebench.core import MetricDefinition, RoundData, Span
from edgebench.judging.energy import Energy, energy_between, total_energy


def metered(data: RoundData, spans: Sequence[Span]) -> Energy | None:
    """Energy of several stretches of a round; None where one of them was not metered."""
    if data.samples is None:
        return None
    pieces = [
        energy_between(data.samples.integral("power_w", "of", *span), span[1] - span[0], data.idle_w) for span in spans
    ]
    known = [piece for piece in pieces if piece is not None]
    return total_energy(known) if len(known) == len(pieces) else None


def whole(data: RoundData) -> Energy | None:
    """Energy of the round."""
    return metered(data, [(data.begin, data.end)])


def net(data: RoundData) -> float | None:
    found = whole(data)
    return found.net_j if found else None


def gross(data: RoundData) -> float | None:
    found = whole(data)
    return found.gross_j if found else None


def of_load(data: RoundData) -> float | None:
    start = data.start
    if start is None or start.started_at is None or whole(data) is None:
        return None
    found = metered(data, [(start.started_at, start.started_at + start.seconds)])
    return found.net_j if found else None


def of_prefill(data: RoundData) -> float | None:
    found = metered(data, data.spans("prefill")) if whole(data) else None
    return found.net_j if found else None


def of_decode(data: RoundData) -> float | None:
    found = metered(data, data.spans("decode")) if whole(data) else None
    return found.net_j if found else None


def per_token(data: RoundData) -> float | None:
    decode, tokens = of_decode(data), sum(turn.completion_tokens for turn in data.measuring("decode"))
    return decode / tokens if decode is not None and tokens else None


def power(data: RoundData) -> float | None:
    found = metered(data, data.spans("decode")) if whole(data) else None
    return found.gross_j / found.seconds if found else None


METRICS = (
    MetricDefinition(
        "energy_j",
        "J",
        "energy",
        "energy of the round minus the idle baseline that was measured before the run",
        "lower",
        compute=net,
    ),
    MetricDefinition(
        "energy_gross_j",
        "J",
        "energy, gross",
        "energy of the round, including the idle baseline",
        "lower",
        compute=gross,
    ),
    MetricDefinition(
        "energy_load_j",
        "J",
        "load energy",
        "energy of the load phase minus the idle baseline",
        "lower",
        compute=of_load,
    ),
    MetricDefinition(
        "energy_prefill_j",
        "J",
        "prefill energy",
        "energy of the prefill phase minus the idle baseline",
        "lower",
        compute=of_prefill,
    ),
    MetricDefinition(
        "energy_decode_j",
        "J",
        "decode energy",
        "energy of the decode phase minus the idle baseline",
        "lower",
        compute=of_decode,
    ),
    MetricDefinition(
        "j_per_token",
        "J/token",
        "energy per token",
        "energy_decode_j ÷ generated tokens",
        "lower",
        short_title="energy per token",
        compute=per_token,
    ),
    MetricDefinition(
        "power_w",
        "W",
        "power",
        "mean power during decode, including the idle baseline",
        "lower",
        compute=power,
    ),
)
