"""Matches published results with records, and finds their differences in method."""

from __future__ import annotations

from collections.abc import Sequence

from edgebench import plugins
from edgebench.core import MetricDefinition, Record
from edgebench.judging import metrics
from edgebench.profiles.references import PublishedResult

OWN_RATE_SCENARIOS = frozenset({"speculative", "kvcache", "decoding"})
"""Scenarios whose rates are only comparable within the scenario."""


def matches(row: PublishedResult, record: Record) -> bool:
    """Whether a record matches this row: same device, engine and backend, as far as the row names them."""
    trial = record.trial
    criteria = (
        (row.profiles, trial.device in row.profiles),
        (row.engine, trial.engine == row.engine),
        (row.backend, trial.backend.lower() == row.backend.lower()),
        ({trial.scenario, row.scenario} & OWN_RATE_SCENARIOS, trial.scenario == row.scenario),
        # Strategies must match, and a baseline does not match a draft.
        ("strategy" in row.options, trial.options.get("strategy") == row.options.get("strategy")),
        ("k" in row.options, bool(trial.options.get("k")) == bool(row.options.get("k"))),
    )
    return all(is_same for value, is_same in criteria if value)


def differences(row: PublishedResult, record: Record) -> list[str]:
    """Differences in method, most important first, such as ``model smollm2, not llama-2-7b-chat``."""
    trial, model = record.trial, record.facts.model
    pairs: list[tuple[str, object, object]] = [("model", trial.model, row.model)]
    pairs.append(("quantization", model.quantization, row.quantization))
    pairs.append(("scenario", trial.scenario, row.scenario))
    pairs += [(name.replace("_", " "), trial.options.get(name), find_value) for name, find_value in row.options.items()]
    texts = [] if row.profiles else [f"device {trial.device}, the published device is unknown"]
    return texts + [
        f"{name} {'not given' if measured is None else measured}, not {value}"
        for name, measured, value in pairs
        if value != "" and not _is_same(name, str(measured).lower(), str(value).lower())
    ]


def _is_same(name: str, measured: str, value: str) -> bool:
    """Equality, with profile names that end in a quantization (``llama-2-7b-chat-q4_0``)."""
    return measured == value or (name in ("model", "draft") and measured.startswith(f"{value}-"))


def is_comparable(row: PublishedResult, record: Record) -> bool:
    """Whether a ratio of the two is meaningful: same device, model, quantization and scenario."""
    return not any(
        text.startswith(("device", "model", "quantization", "scenario")) for text in differences(row, record)
    )


def find_value(row: PublishedResult, name: str) -> float | None:
    """A published value, or one derived from others of its row; None if it was not published."""
    values = row.metrics
    if name == "peak_footprint_b" and name not in values:
        parts = [values[part] for part in ("peak_rss_b", "peak_gpu_b") if part in values]
        return sum(parts) if parts else None
    if name == "cache_speedup" and {"with_cache_s", "without_cache_s"} <= values.keys():
        return values["without_cache_s"] / values["with_cache_s"]
    return values.get(name)


def compared_metrics(rows: Sequence[PublishedResult], scenario: str) -> list[MetricDefinition]:
    """The metrics to compare: published headline metrics, and the scenario's own metrics."""
    scenario_metrics: Sequence[MetricDefinition] = ()
    if scenario in plugins.names("scenarios"):
        scenario_metrics = getattr(plugins.load("scenarios", scenario), "metrics", ())
    headline = [entry for entry in metrics.headline() if any(find_value(row, entry.name) is not None for row in rows)]
    return list(dict.fromkeys([*headline, *scenario_metrics]))
