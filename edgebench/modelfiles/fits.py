"""How much memory a model needs on a device, estimated from its header."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from edgebench.core import Json, Option

UBATCH = 512
"""llama.cpp's physical batch where nobody says otherwise."""


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
