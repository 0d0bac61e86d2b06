"""How much memory a model needs on a device, estimated from its header by the engine that runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace

from edgebench import engine_options, plugins
from edgebench.core import MemoryEstimate, ModelFacts, Option


def estimate(engine: str, model: ModelFacts, options: Mapping[str, Option]) -> MemoryEstimate | None:
    """The engine's own estimate plus what each of its launch options adds; None without a header."""
    with plugins.boundary("engines", engine):
        memory = plugins.load("engines", engine).estimate_memory(model, options)
        if memory is None:
            return None
        extra_b = sum(
            option.memory_b(options[name], model)
            for name, option in engine_options.declared_by(engine).items()
            if option.memory_b is not None and name in options
        )
    return replace(memory, compute_b=memory.compute_b + extra_b)


def facts(memory: MemoryEstimate) -> dict[str, float]:
    """The estimate as records store it, bytes by part."""
    return {**asdict(memory), "total_b": memory.total_b}
