"""How much memory a model needs on a device, estimated from its header by the engine that runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace

from edgebench import engine_options, plugins
from edgebench.core import MemoryEstimate, ModelFacts, Option


def estimate(engine: str, model: ModelFacts, options: Mapping[str, Option]) -> MemoryEstimate | None:
    """By the engine's own estimate, and what each of its launch options adds; None without a header."""
    with plugins.boundary("engines", engine):
        need = plugins.load("engines", engine).estimate_memory(model, options)
        if need is None:
            return None
        more = sum(
            one.memory_b(options[name], model)
            for name, one in engine_options.declared(engine).items()
            if one.memory_b is not None and name in options
        )
    return replace(need, compute_b=need.compute_b + more)


def facts(need: MemoryEstimate) -> dict[str, float]:
    """As a record keeps it."""
    return {**asdict(need), "total_b": need.total_b}
