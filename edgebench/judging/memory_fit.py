"""Compares the memory estimate with measurements, and predicts which trials cannot fit."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgebench import engine_options
from edgebench.core import Option, Record

_EXHAUSTED = re.compile(
    r"out of memory|failed to allocate|cannot allocate|bad_alloc|std::length_error|ErrorOutOf\w*Memory|"
    r"insufficient (gpu )?memory|cudaMalloc failed|unable to allocate|CL_OUT_OF_|LOW_MEMORY",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class EstimateCheck:
    """Estimated and actual size of one part of a model's memory, bytes."""

    part: str
    estimated: float
    actual: float | None
    source: str
    """Source of ``actual``: ``engine`` or ``measured``."""


_PARTS = {
    "weights": ("weights_b", ("model",)),
    "KV cache": ("kv_b", ("KV", "RS")),
    "compute": ("compute_b", ("compute",)),
}


def check_estimate(record: Record) -> list[EstimateCheck]:
    """The estimate's parts with the engine's own buffers, and its total with the measured footprint."""
    estimate, buffers = record.facts.model.estimate, record.facts.engine.buffers
    if not estimate:
        return []
    checks = []
    for part, (name, buffer_types) in _PARTS.items():
        sizes = [size for key, size in buffers.items() if key.rpartition(" ")[2] in buffer_types]
        checks.append(EstimateCheck(part, float(estimate.get(name, 0)), float(sum(sizes)) if sizes else None, "engine"))
    peak = record.metrics.get("peak_footprint_b")
    total_b = float(estimate.get("total_b", 0))
    return [*checks, EstimateCheck("together", total_b, peak.value if peak else None, "measured")]


def ran_out_of_memory(log: Sequence[str], signal: str | None) -> bool:
    """Whether an engine ended for lack of memory, by its log or because the system killed it."""
    return signal == "SIGKILL" or any(_EXHAUSTED.search(line) for line in log)


def needs_as_much(engine: str, failed: Mapping[str, Option], other: Mapping[str, Option]) -> bool:
    """Whether a trial that differs only in its options needs at least as much memory everywhere.

    Options that move memory (``memory="moves"``) must be equal, else the two cannot be compared.
    """
    for name, option in engine_options.declared_by(engine).items():
        failed_value, other_value = failed.get(name), other.get(name)
        if option.memory == "moves" and failed_value != other_value:
            return False
        if option.memory == "grows" and _size(other_value) < _size(failed_value):
            return False
    return True


def _size(value: Option | None) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
