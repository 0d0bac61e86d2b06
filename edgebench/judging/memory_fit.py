"""The memory estimate against what was seen, and what need not be tried once memory ran out."""

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
    """One part of the memory a model needs: estimated, and what the engine or the sampler saw. Bytes."""

    part: str
    estimated: float
    actual: float | None
    by: str
    """Who says so: the engine, or measured."""


_PARTS = {
    "weights": ("weights_b", ("model",)),
    "KV cache": ("kv_b", ("KV", "RS")),
    "compute": ("compute_b", ("compute",)),
}


def check_estimate(record: Record) -> list[EstimateCheck]:
    """The estimate part by part beside the engine's own buffers, and as a whole beside the measured footprint."""
    need, buffers = record.facts.model.estimate, record.facts.engine.buffers
    if not need:
        return []
    found = []
    for part, (name, kinds) in _PARTS.items():
        sizes = [size for key, size in buffers.items() if key.rpartition(" ")[2] in kinds]
        found.append(EstimateCheck(part, float(need.get(name, 0)), float(sum(sizes)) if sizes else None, "engine"))
    peak = record.metrics.get("peak_footprint_b")
    whole = float(need.get("total_b", 0))
    return [*found, EstimateCheck("together", whole, peak.value if peak else None, "measured")]


def ran_out_of_memory(log: Sequence[str], signal: str | None) -> bool:
    """Whether an engine ended because memory did: by its last words, or killed by the system."""
    return signal == "SIGKILL" or any(_EXHAUSTED.search(line) for line in log)


def needs_as_much(engine: str, failed: Mapping[str, Option], other: Mapping[str, Option]) -> bool:
    """Whether a trial that differs only in its options needs at least as much of everything.

    An option that decides where memory is needed must be equal: only then can they be compared.
    """
    for name, option in engine_options.declared(engine).items():
        before, now = failed.get(name), other.get(name)
        if option.memory == "moves" and before != now:
            return False
        if option.memory == "grows" and _size(now) < _size(before):
            return False
    return True


def _size(value: Option | None) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
