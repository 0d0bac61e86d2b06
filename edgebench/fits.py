"""What a model needs on a device, estimated from its header; and what need not be tried after an out-of-memory."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from edgebench.core import Json, Option

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
