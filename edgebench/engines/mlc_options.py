"""Launch options of MLC-LLM, which loads a whole model onto one device."""

from __future__ import annotations

from dataclasses import dataclass

from edgebench.core import option


@dataclass(frozen=True)
class MlcOptions:
    """Values of None are the engine's own defaults."""

    threads: int | None = option("Engine threads", minimum=1, env="TVM_NUM_THREADS")
    ctx: int | None = option(
        "Context size in tokens", minimum=1, key="context_window_size", tunes=False, memory="grows"
    )
    batch: int | None = option("Prefill chunk size in tokens", minimum=1, key="prefill_chunk_size", memory="grows")
    ubatch: int | None = option("Prefill chunk size in tokens if --batch is not given", minimum=1, memory="grows")
