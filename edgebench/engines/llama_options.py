"""Launch options of llama.cpp and engines built on it, and their memory requirements."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from edgebench.core import MemoryEstimate, ModelFacts, Option, option

UBATCH = 512
"""llama.cpp's default physical batch size, tokens."""

_THREADS = re.compile(r"system_info: n_threads = (\d+)")


def threads_used(log: Sequence[str]) -> int | None:
    """From ``system_info: n_threads = 4 (n_threads_batch = 4) / 8 | …``."""
    first = next((match for line in log if (match := _THREADS.search(line))), None)
    return int(first[1]) if first else None


@dataclass(frozen=True)
class LlamaOptions:
    """Values of None are the engine's own defaults."""

    threads: int | None = option(
        "Engine threads",
        minimum=1,
        default="the device profile's, else the engine's",
        flags=("-t", "--threads"),
        read_back=threads_used,
    )
    ctx: int | None = option(
        "Context size in tokens",
        minimum=1,
        default="the device profile's, else 4096",
        flags=("-c", "--ctx-size"),
        tunes=False,
        memory="grows",
    )
    batch: int | None = option(
        "Batch size in tokens",
        minimum=1,
        default="the device profile's, else the engine's",
        flags=("-b", "--batch-size"),
        memory="grows",
    )
    ubatch: int | None = option(
        "Physical batch size in tokens",
        minimum=1,
        default="same as --batch",
        flags=("-ub", "--ubatch-size"),
        memory="grows",
    )
    gpu_layers: int | Literal["all"] | None = option(
        "Number of layers on the GPU, or all",
        minimum=0,
        default="the device profile's, else all",
        preset="all",
        flags=("-ngl", "--n-gpu-layers", "--gpu-layers"),
        memory="moves",
        gpu_only=True,
    )
    draft_gpu_layers: int | Literal["all"] | None = option(
        "Number of layers of the draft model on the GPU, or all",
        minimum=0,
        default="the device profile's, else all",
        memory="moves",
        gpu_only=True,
        drafting=True,
    )
    repack: bool = option(
        "Rearrange weights for the CPU's matrix units (llama.cpp's extra buffer types). Disable it on virtual "
        "machines that report AMX but forbid it",
        initial=True,
        off_flags=("--no-repack", "-nr"),
        exposed=False,
    )


def estimate_memory(model: ModelFacts, options: Mapping[str, Option]) -> MemoryEstimate | None:
    """Weights, KV cache at that context (F16), and llama.cpp's compute buffer; None without a header.

    The compute buffer holds a physical batch of activations and its attention mask:
    ubatch × (4 × context + 40 × embedding length) bytes, within 5 % of what llama.cpp b11549 reports for
    SmolLM2-135M at a context of 4096. A copy of the weights in another layout (repacking) is not included.
    """
    if not model.weights_bytes:
        return None
    ctx = int(options.get("ctx", 0))
    batch = int(options.get("ubatch") or min(UBATCH, int(options.get("batch") or UBATCH)))
    compute = batch * (4.0 * ctx + 40.0 * (model.embedding or 0))
    return MemoryEstimate(model.weights_bytes, (model.kv_bytes_per_token or 0.0) * ctx, compute)
