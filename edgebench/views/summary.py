"""What is best for what, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgebench.core import MetricDefinition, Record
from edgebench.judging.best import Best, Conclusion, conclusions
from edgebench.judging.comparison import tuning_options
from edgebench.judging.workload import Workload, fell_back, load_regime_of
from edgebench.views import units
from edgebench.views.fields import labels, some


@dataclass(frozen=True)
class Claim:
    """The best of a workload by one criterion, in words."""

    name: str
    record: str
    does: str
    """What is said of it; where it is the only one of its workload: of any."""
    value: str
    ties: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What the records of one workload show, in words."""

    kind: Workload
    compared: int
    claims: tuple[Claim, ...]
    remarks: tuple[str, ...]
    """What else a reader must know, sentence by sentence."""


@dataclass(frozen=True)
class Criterion:
    """How the best by a metric is described: alone, among others, and any single one."""

    alone: str
    among: str
    plain: str


CRITERIA = {
    "decode_tps": Criterion("is fastest", "is among the fastest", "decodes"),
    "peak_footprint_b": Criterion("takes the least memory", "is among those that take the least memory", "takes"),
    "load_s": Criterion("loads quickest", "is among those that load quickest", "loads in"),
    "j_per_token": Criterion("takes the least energy per token", "is among those that take the least energy", "uses"),
}
"""Descriptions of the built-in criteria."""


def criterion(entry: MetricDefinition) -> Criterion:
    """How the best by this metric is described."""
    extreme = f"the {'highest' if entry.better == 'higher' else 'lowest'} {entry.title}"
    return CRITERIA.get(entry.name) or Criterion(
        f"has {extreme}", f"is among those with {extreme}", f"has a {entry.title} of"
    )


def answers(records: Sequence[Record]) -> list[Answer]:
    """One answer for each workload that has a measured configuration, in their order.

    ``records`` holds one for each configuration, as ``latest`` gives them.
    """
    return [_answer(conclusion) for conclusion in conclusions(records)]


def _answer(found: Conclusion) -> Answer:
    # Of places one per device, engine and backend is left: these name it. Settings are named where it had several.
    records = found.compared
    places = {(r.trial.device, r.trial.engine, r.trial.backend) for r in records}
    short = labels(records, without=tuple(tuning_options()) if len(places) == len(records) > 1 else ())
    names = labels(records) if found.fastest_only else short
    claims = tuple(_claim(best, len(records), names, short) for best in found.best)
    return Answer(found.workload, len(records), claims, tuple(_remarks(found, claims)))


def _claim(best: Best, compared: int, names: Mapping[str, str], short: Mapping[str, str]) -> Claim:
    """``short`` names those beside it."""
    first, found, words = best.record, best.metric, criterion(best.criterion)
    started = load_regime_of(first) if best.criterion.name == "load_s" else ""
    aside = ", ".join(filter(None, (units.interval(found), started)))
    value = units.quantity(found.value, found.unit) + (f" ({aside})" if aside else "")
    doubted = some(dict.fromkeys(doubt.id for doubt in first.doubts))
    does = words.plain if compared == 1 else words.among if best.ties else words.alone
    ties = some(short[other.id] for other in best.ties)
    return Claim(names[first.id], first.id, does, value, tuple(ties), tuple(doubted))


def _remarks(found: Conclusion, claims: Sequence[Claim]) -> list[str]:
    alone = ", ".join(claims[0].doubts) if len(found.compared) == 1 else ""
    undecided = ", ".join(entry.title for entry in found.undecided)
    said = {
        f"Doubted: {alone}.": alone,
        f"No difference shown in {undecided}.": undecided,
        "Each device, engine and backend at its fastest settings.": found.fastest_only,
        f"{found.fell_back} left out: the engine fell back to another backend than asked for.": found.fell_back,
    }
    return [sentence for sentence, true in said.items() if true]


def nothing(records: Sequence[Record]) -> str:
    """Where there is no answer: why, in a sentence. Empty without records."""
    if not records:
        return ""
    if any(record.status == "running" for record in records):
        return "No trial has ended with a result yet."
    good = [record for record in records if record.status == "ok"]
    if good and all(map(fell_back, good)):
        return "Nothing is compared: every engine fell back to another backend than asked for."
    if good:
        return "No rate, memory footprint, load time or energy was measured. Each record below has what there is."
    several = f"None of {len(records)} configurations has a result."
    said = several if len(records) > 1 else "The only configuration has no result."
    reasons = [record.failure for record in records if record.failure]
    if not reasons:
        return said
    messages = [reason.message for reason in reasons]
    common = max(reasons, key=lambda reason: messages.count(reason.message))
    first = "The reason" if len(set(messages)) == 1 else "The most common reason"
    return " ".join(filter(None, (said, f"{first}: {common.message.rstrip('.')}.", common.hint)))
