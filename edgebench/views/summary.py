"""The summary of a report in sentences: how the conclusions of ``judging.best`` are phrased."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgebench.core import MetricDefinition, Record
from edgebench.judging.best import Best, Conclusion, conclusions
from edgebench.judging.comparison import tuning_options
from edgebench.judging.workload import Workload, fell_back, load_regime_of
from edgebench.views import units
from edgebench.views.fields import labels, limit_names


@dataclass(frozen=True)
class Highlight:
    """The best of a workload by one criterion, as shown: its label, a predicate and its value."""

    name: str
    record: str
    predicate: str
    """For example ``is fastest``; for a single configuration without comparison: ``decodes``."""
    value: str
    ties: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class WorkloadSummary:
    """The summary of one workload, as shown."""

    workload: Workload
    compared: int
    """Number of configurations."""
    highlights: tuple[Highlight, ...]
    remarks: tuple[str, ...]
    """Further sentences: exclusions, doubts, metrics without a difference."""


@dataclass(frozen=True)
class Phrases:
    """Predicates for the best by a metric: without ties, with ties, and without a comparison."""

    sole: str
    among: str
    plain: str


PHRASES = {
    "decode_tps": Phrases("is fastest", "is among the fastest", "decodes"),
    "peak_footprint_b": Phrases("uses the least memory", "is among those that use the least memory", "uses"),
    "load_s": Phrases("loads fastest", "is among those that load fastest", "loads in"),
    "j_per_token": Phrases("uses the least energy per token", "is among those that use the least energy", "uses"),
}
"""Predicates of the built-in criteria."""


def phrases_for(entry: MetricDefinition) -> Phrases:
    """The predicates of a metric."""
    extreme = f"the {'highest' if entry.better == 'higher' else 'lowest'} {entry.title}"
    return PHRASES.get(entry.name) or Phrases(
        f"has {extreme}", f"is among those with {extreme}", f"has a {entry.title} of"
    )


def summarize(records: Sequence[Record]) -> list[WorkloadSummary]:
    """One summary for each workload that has a measured configuration, in the order of workloads.

    ``records``: one for each configuration, see ``latest``.
    """
    return [_summarize(conclusion) for conclusion in conclusions(records)]


def _summarize(conclusion: Conclusion) -> WorkloadSummary:
    # If one configuration per device, engine and backend is left, these identify it; otherwise its settings are added.
    records = conclusion.compared
    targets = {(r.trial.device, r.trial.engine, r.trial.backend) for r in records}
    short = labels(records, without=tuple(tuning_options()) if len(targets) == len(records) > 1 else ())
    names = labels(records) if conclusion.fastest_only else short
    highlights = tuple(_highlight(best, len(records), names, short) for best in conclusion.best)
    return WorkloadSummary(conclusion.workload, len(records), highlights, tuple(_remarks(conclusion, highlights)))


def _highlight(best: Best, compared: int, names: Mapping[str, str], short: Mapping[str, str]) -> Highlight:
    """``names``: labels of the best; ``short``: labels of its ties."""
    record, metric, words = best.record, best.metric, phrases_for(best.criterion)
    load_regime = load_regime_of(record) if best.criterion.name == "load_s" else ""
    details = ", ".join(filter(None, (units.interval(metric), load_regime)))
    value = units.quantity(metric.value, metric.unit) + (f" ({details})" if details else "")
    doubts = limit_names(dict.fromkeys(doubt.id for doubt in record.doubts))
    predicate = words.plain if compared == 1 else words.among if best.ties else words.sole
    ties = limit_names(short[tie.id] for tie in best.ties)
    return Highlight(names[record.id], record.id, predicate, value, tuple(ties), tuple(doubts))


def _remarks(conclusion: Conclusion, highlights: Sequence[Highlight]) -> list[str]:
    doubts = ", ".join(highlights[0].doubts) if len(conclusion.compared) == 1 else ""
    undecided = ", ".join(entry.title for entry in conclusion.undecided)
    sentences = {
        f"Doubts: {doubts}.": doubts,
        f"No difference shown in {undecided}.": undecided,
        "Each device, engine and backend at its fastest settings.": conclusion.fastest_only,
        f"{conclusion.fell_back} excluded: the engine fell back to a different backend.": conclusion.fell_back,
    }
    return [sentence for sentence, true in sentences.items() if true]


def explain_no_summary(records: Sequence[Record]) -> str:
    """The reason why there is no summary, in a sentence; empty without records."""
    if not records:
        return ""
    if any(record.status == "running" for record in records):
        return "No trial has ended with a result yet."
    good = [record for record in records if record.status == "ok"]
    if good and all(map(fell_back, good)):
        return "No comparison: every engine fell back to a different backend."
    if good:
        return "No rate, memory footprint, load time or energy was measured. The records below show the available data."
    single = len(records) == 1
    opening = (
        "The only configuration has no result." if single else f"None of {len(records)} configurations has a result."
    )
    reasons = [record.failure for record in records if record.failure]
    if not reasons:
        return opening
    messages = [reason.message for reason in reasons]
    common = max(reasons, key=lambda reason: messages.count(reason.message))
    first = "The reason" if len(set(messages)) == 1 else "The most common reason"
    return " ".join(filter(None, (opening, f"{first}: {common.message.rstrip('.')}.", common.hint)))
