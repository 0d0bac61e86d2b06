"""What a model needs on a device, estimated from its header and seen; what need not be tried once memory ran out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from edgebench.core import DeviceSession, Json, Option, Record
from edgebench.errors import TimedOut

UBATCH = 512
"""llama.cpp's physical batch where nobody says otherwise."""
_EXHAUSTED = re.compile(
    r"out of memory|failed to allocate|cannot allocate|bad_alloc|std::length_error|ErrorOutOf\w*Memory|"
    r"insufficient (gpu )?memory|cudaMalloc failed|unable to allocate|CL_OUT_OF_|LOW_MEMORY",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Estimate:
    """Bytes, before anything has started."""

    weights_b: float
    kv_b: float
    compute_b: float

    @property
    def total_b(self) -> float:
        return self.weights_b + self.kv_b + self.compute_b

    def facts(self) -> dict[str, Json]:
        return {**asdict(self), "total_b": self.total_b}


def estimate(model: Mapping[str, Json], options: Mapping[str, Option]) -> Estimate | None:
    """Weights, KV cache at that context (F16), and llama.cpp's compute buffer; None without a header.

    The compute buffer holds a physical batch of activations and its attention mask:
    ubatch × (4 × context + 40 × embedding length) bytes, within 5 % of what llama.cpp b11549 says of
    SmolLM2-135M at a context of 4096. A copy of the weights in another layout (repacking) is not in it.
    """
    weights = model.get("weights_bytes")
    if not weights:
        return None
    ctx = int(options.get("ctx", 0))
    batch = int(options.get("ubatch") or min(UBATCH, int(options.get("batch") or UBATCH)))
    compute = batch * (4.0 * ctx + 40.0 * float(model.get("embedding") or 0))
    return Estimate(float(weights), float(model.get("kv_bytes_per_token") or 0) * ctx, compute)


@dataclass(frozen=True)
class Beside:
    """One part of what a model needs: estimated, and what it came to. Bytes."""

    part: str
    estimated: float
    found: float | None
    by: str
    """Who says what it came to."""


_PARTS = {
    "weights": ("weights_b", ("model",)),
    "KV cache": ("kv_b", ("KV", "RS")),
    "compute": ("compute_b", ("compute",)),
}


def beside(record: Record) -> list[Beside]:
    """The estimate part by part beside the engine's own buffers, and as a whole beside the measured footprint."""
    model, engine = record.facts.get("model"), record.facts.get("engine")
    need = model.get("estimate") if isinstance(model, Mapping) else None
    if not isinstance(need, Mapping):
        return []
    buffers = engine.get("buffers") if isinstance(engine, Mapping) else None
    found = []
    for part, (name, kinds) in _PARTS.items():
        sizes = [size for key, size in (buffers or {}).items() if key.rpartition(" ")[2] in kinds]
        found.append(Beside(part, float(need.get(name, 0)), float(sum(sizes)) if sizes else None, "engine"))
    peak = record.metrics.get("peak_footprint_b")
    whole = float(need.get("total_b", 0))
    return [*found, Beside("together", whole, peak.value if peak else None, "measured")]


def mapped(session: DeviceSession, pid: int, path: str) -> int | None:
    """Resident bytes of a file that a process has mapped, by /proc/PID/smaps; None where nobody tells."""
    name = session.system.quote([path])
    try:
        said = session.run(
            f"[ -r /proc/{pid}/smaps ] && echo read && grep -F -A 6 -- {name} /proc/{pid}/smaps", timeout=60
        )
    except TimedOut:
        return None
    if not said.stdout.startswith("read"):
        return None
    return sum(int(size) * 1024 for size in re.findall(r"^Rss:\s+(\d+) kB$", said.stdout, re.MULTILINE))


def exhausted(log: Sequence[str], signal: str | None) -> bool:
    """Whether an engine ended because memory did: by its last words, or killed by the system."""
    return signal == "SIGKILL" or any(_EXHAUSTED.search(line) for line in log)


def must_fail_too(failed: Mapping[str, Option], other: Mapping[str, Option]) -> bool:
    """Whether a trial that differs only in its options needs at least as much of everything.

    ``gpu_layers`` decides where memory is needed: only equal ones can be compared.
    """
    if failed.get("gpu_layers") != other.get("gpu_layers"):
        return False
    return all(_size(other.get(name)) >= _size(failed.get(name)) for name in ("ctx", "batch", "ubatch"))


def _size(value: Option | None) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
