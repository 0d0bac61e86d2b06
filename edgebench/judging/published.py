"""Published results beside one's own: which stand for which, what differs in method, and what may be compared."""

from __future__ import annotations

from collections.abc import Sequence

from edgebench import plugins
from edgebench.core import MetricDefinition, Record
from edgebench.judging import metrics
from edgebench.profiles.references import Published

OWN_FIGURES = frozenset({"speculative", "kvcache", "decoding"})
"""Scenarios whose rates mean something of their own: only ever beside their like."""


def matches(row: Published, record: Record) -> bool:
    """Whether a record stands for this row: same device, engine and backend, as far as they were named."""
    trial = record.trial
    named = (
        (row.profiles, trial.device in row.profiles),
        (row.engine, trial.engine == row.engine),
        (row.backend, trial.backend.lower() == row.backend.lower()),
        ({trial.scenario, row.scenario} & OWN_FIGURES, trial.scenario == row.scenario),
        # One strategy is no other, and the target alone is no draft.
        ("strategy" in row.options, trial.options.get("strategy") == row.options.get("strategy")),
        ("k" in row.options, bool(trial.options.get("k")) == bool(row.options.get("k"))),
    )
    return all(same for published, same in named if published)


def differences(row: Published, record: Record) -> list[str]:
    """What is not alike in method, most important first: ``model smollm2, not llama-2-7b-chat``."""
    trial, model = record.trial, record.facts.model
    pairs: list[tuple[str, object, object]] = [("model", trial.model, row.model)]
    pairs.append(("quantization", model.quantization, row.quantization))
    pairs.append(("scenario", trial.scenario, row.scenario))
    pairs += [(name.replace("_", " "), trial.options.get(name), value) for name, value in row.options.items()]
    found = [] if row.profiles else [f"device {trial.device}, theirs was not named"]
    return found + [
        f"{name} {'not given' if own is None else own}, not {published}"
        for name, own, published in pairs
        if published != "" and not _same(name, str(own).lower(), str(published).lower())
    ]


def _same(name: str, own: str, published: str) -> bool:
    """Profile names carry the quantization at their end: ``llama-2-7b-chat-q4_0``."""
    return own == published or (name in ("model", "draft") and own.startswith(f"{published}-"))


def comparable(row: Published, record: Record) -> bool:
    """Whether a ratio of the two says anything: the same device, model, quantization and scenario."""
    return not any(
        text.startswith(("device", "model", "quantization", "scenario")) for text in differences(row, record)
    )


def value(row: Published, name: str) -> float | None:
    """A published figure, or what follows from others of its row."""
    given = row.metrics
    if name == "peak_footprint_b" and name not in given:
        parts = [given[part] for part in ("peak_rss_b", "peak_gpu_b") if part in given]
        return sum(parts) if parts else None
    if name == "cache_speedup" and {"with_cache_s", "without_cache_s"} <= given.keys():
        return given["without_cache_s"] / given["with_cache_s"]
    return given.get(name)


def compared(rows: Sequence[Published], scenario: str) -> list[MetricDefinition]:
    """The metrics to compare: headline metrics that were published, and those of the scenario's own."""
    own: Sequence[MetricDefinition] = ()
    if scenario in plugins.names("scenarios"):
        own = getattr(plugins.load("scenarios", scenario), "metrics", ())
    published = [entry for entry in metrics.headline() if any(value(row, entry.name) is not None for row in rows)]
    return list(dict.fromkeys([*published, *own]))
