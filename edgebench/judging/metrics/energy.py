"""Energy by phase, and power."""

from __future__ import annotations

from collections.abc import Sequence

from edgebench.core import MetricDefinition, RoundData, Span
from edgebench.judging.energy import Energy, energy_between, total_energy


def measure_spans(data: RoundData, spans: Sequence[Span]) -> Energy | None:
    """Energy of several spans of a round; None if one of them was not metered."""
    if data.samples is None:
        return None
    parts = [
        energy_between(data.samples.integral("power_w", "of", *span), span[1] - span[0], data.idle_w) for span in spans
    ]
    available = [part for part in parts if part is not None]
    return total_energy(available) if len(available) == len(parts) else None


def round_energy(data: RoundData) -> Energy | None:
    """Energy of the round."""
    return measure_spans(data, [(data.begin, data.end)])


def net_energy(data: RoundData) -> float | None:
    energy = round_energy(data)
    return energy.net_j if energy else None


def gross_energy(data: RoundData) -> float | None:
    energy = round_energy(data)
    return energy.gross_j if energy else None


def load_energy(data: RoundData) -> float | None:
    start = data.start
    if start is None or start.started_at is None or round_energy(data) is None:
        return None
    energy = measure_spans(data, [(start.started_at, start.started_at + start.seconds)])
    return energy.net_j if energy else None


def prefill_energy(data: RoundData) -> float | None:
    energy = measure_spans(data, data.spans("prefill")) if round_energy(data) else None
    return energy.net_j if energy else None


def decode_energy(data: RoundData) -> float | None:
    energy = measure_spans(data, data.spans("decode")) if round_energy(data) else None
    return energy.net_j if energy else None


def energy_per_token(data: RoundData) -> float | None:
    energy_j, tokens = decode_energy(data), sum(turn.completion_tokens for turn in data.measuring("decode"))
    return energy_j / tokens if energy_j is not None and tokens else None


def decode_power(data: RoundData) -> float | None:
    energy = measure_spans(data, data.spans("decode")) if round_energy(data) else None
    return energy.gross_j / energy.seconds if energy else None


METRICS = (
    MetricDefinition(
        "energy_j",
        "J",
        "energy",
        "energy of the round minus the idle baseline that was measured before the run",
        "lower",
        compute=net_energy,
    ),
    MetricDefinition(
        "energy_gross_j",
        "J",
        "energy, gross",
        "energy of the round, including the idle baseline",
        "lower",
        compute=gross_energy,
    ),
    MetricDefinition(
        "energy_load_j",
        "J",
        "load energy",
        "energy of the load phase minus the idle baseline",
        "lower",
        compute=load_energy,
    ),
    MetricDefinition(
        "energy_prefill_j",
        "J",
        "prefill energy",
        "energy of the prefill phase minus the idle baseline",
        "lower",
        compute=prefill_energy,
    ),
    MetricDefinition(
        "energy_decode_j",
        "J",
        "decode energy",
        "energy of the decode phase minus the idle baseline",
        "lower",
        compute=decode_energy,
    ),
    MetricDefinition(
        "j_per_token",
        "J/token",
        "energy per token",
        "energy_decode_j ÷ generated tokens",
        "lower",
        short_title="energy per token",
        compute=energy_per_token,
    ),
    MetricDefinition(
        "power_w",
        "W",
        "power",
        "mean power during decode, including the idle baseline",
        "lower",
        compute=decode_power,
    ),
)
