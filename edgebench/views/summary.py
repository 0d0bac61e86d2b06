"""What is best for what, said only of what may be compared and only where a difference was shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgebench.core import Record
from edgebench.judging import metrics
from edgebench.judging.comparison import SETTINGS
from edgebench.views import units
from edgebench.views.charts.bars import fastest
from edgebench.views.fields import Kind, by_kind, differs, fell_back, labels, metric, regime, some


@dataclass(frozen=True)
class Claim:
    """In one respect the best of its kind of work: how good, and what was not shown to be worse."""

    name: str
    record: str
    does: str
    """What is said of it; where it is the only one of its kind: of any."""
    value: str
    ties: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    among: int = 1
    """So many are not shown to be worse, itself counted."""


@dataclass(frozen=True)
class Answer:
    """What the records of one kind of work say, a claim in each respect."""

    kind: Kind
    compared: int
    claims: tuple[Claim, ...]
    reduced: bool
    """Whether of several settings only the fastest of each device, engine and backend is compared."""
    alike: tuple[str, ...] = ()
    """Metrics in which none of several was shown to be better than any other."""
    left_out: int = 0
    """Configurations that used another backend than asked for: never compared."""

    @property
    def asides(self) -> tuple[str, ...]:
        """What else a reader must know, sentence by sentence."""
        alone = ", ".join(self.claims[0].doubts) if self.compared == 1 else ""
        alike = ", ".join(self.alike)
        said = {
            f"Doubted: {alone}.": alone,
            f"No difference shown in {alike}.": alike,
            "Each device, engine and backend at its fastest settings.": self.reduced,
            f"{self.left_out} left out: the engine fell back to another backend than asked for.": self.left_out,
        }
        return tuple(sentence for sentence, true in said.items() if true)


@dataclass(frozen=True)
class Respect:
    """A metric in which there is a best: what that does, alone or among others, and what any does."""

    alone: str
    among: str
    plain: str
    more: bool = False
    """Whether more is better."""


RESPECTS = {
    "decode_tps": Respect("is fastest", "is among the fastest", "decodes", more=True),
    "peak_footprint_b": Respect("takes the least memory", "is among those that take the least memory", "takes"),
    "load_s": Respect("loads quickest", "is among those that load quickest", "loads in"),
    "j_per_token": Respect("takes the least energy per token", "is among those that take the least energy", "uses"),
}


def answers(records: Sequence[Record]) -> list[Answer]:
    """One answer for each kind of work that has a measured configuration, in their order.

    ``records`` holds one for each configuration, as ``latest`` gives them.
    """
    found = []
    for kind, group in by_kind([record for record in records if record.status == "ok"]):
        fallen = sum(map(fell_back, group))
        fit = [r for r in group if not fell_back(r) and any(metric(r, name) for name in RESPECTS)]
        places = fastest(fit)
        compared = places if len(places) > 1 else fit
        reduced = len(compared) < len(fit)
        # Of places one per device, engine and backend is left: these name it. Settings are named where it had several.
        short = labels(compared, without=tuple(SETTINGS) if compared is places else ())
        names = labels(compared) if reduced else short
        claims = {name: claim for name in RESPECTS if (claim := _claim(compared, name, names, short))}
        alike = [name for name, claim in claims.items() if name != "decode_tps" and claim.among == len(compared) > 1]
        kept = tuple(claim for name, claim in claims.items() if name not in alike)
        if claims:
            same = tuple(metrics.find(name).title for name in alike)
            found.append(Answer(kind, len(compared), kept, reduced, same, fallen))
    return found


def _claim(records: Sequence[Record], name: str, names: Mapping[str, str], short: Mapping[str, str]) -> Claim | None:
    """What is claimed of the best record; None where nobody measured it. ``short`` names those beside it."""
    respect = RESPECTS[name]
    able = [(found, record) for record in records if (found := metric(record, name))]
    if not able or len(able) < min(2, len(records)):
        return None  # the only one that was measured is no best
    if name == "load_s":
        # A load from a cold disk and one from memory are two quantities: the more common one is compared.
        regimes = [regime(record) for _, record in able]
        common = max(regimes, key=regimes.count)
        able = [pair for pair in able if regime(pair[1]) == common]
    able.sort(key=lambda pair: (-pair[0].value if respect.more else pair[0].value, pair[1].id))
    found, first = able[0]
    ties: list[str] = []
    for _, other in able[1:]:
        # In the order of the medians, so that the first clear difference ends the tie.
        if differs(first, other, name):
            break
        ties.append(short[other.id])
    aside = ", ".join(filter(None, (units.interval(found), regime(first) if name == "load_s" else "")))
    value = units.quantity(found.value, found.unit) + (f" ({aside})" if aside else "")
    doubted = some(dict.fromkeys(doubt.id for doubt in first.doubts))
    does = respect.plain if len(records) == 1 else respect.among if ties else respect.alone
    return Claim(names[first.id], first.id, does, value, tuple(some(ties)), tuple(doubted), 1 + len(ties))


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
