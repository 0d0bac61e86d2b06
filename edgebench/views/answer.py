"""What is best for what, said only of what may be compared and only where a difference was shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgebench import stats
from edgebench.core import Record
from edgebench.views import units
from edgebench.views.reading import Kind, by_kind, fell_back, labels, latest, metric


@dataclass(frozen=True)
class Best:
    """The best of one kind of work in one respect, and what was not shown to differ from it."""

    respect: str
    noun: str
    name: str
    value: str
    interval: str
    record: str
    ties: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What the records of one kind of work say."""

    kind: Kind
    compared: int
    bests: tuple[Best, ...]
    left_out: int = 0
    """Configurations that used another backend than asked for: never compared."""


RESPECTS = {
    "decode_tps": ("is fastest", "decode", True),
    "peak_footprint_b": ("takes the least memory", "memory", False),
    "load_s": ("loads quickest", "load", False),
    "j_per_token": ("takes the least energy per token", "energy per token", False),
}
"""By metric: what its best is said to do, what the reading is called, whether more is better."""

TIES = 3
"""Names that are spelled out; more are counted."""


def answers(records: Sequence[Record]) -> list[Answer]:
    """One answer for each kind of work that has a measured configuration, the widest first."""
    found = []
    for kind, group in by_kind([record for record in latest(records) if record.status == "ok"]):
        fit = [record for record in group if not fell_back(record)]
        bests = tuple(best for name in RESPECTS if (best := _best(fit, name)) is not None)
        if bests:
            found.append(Answer(kind, len(fit), bests, len(group) - len(fit)))
    return found


def differs(a: Record, b: Record, name: str) -> bool:
    """Whether the rounds show a difference: paired where both were measured in one run."""
    x, y = metric(a, name), metric(b, name)
    if x is None or y is None:
        return False
    same_run = a.run.get("id") is not None and a.run.get("id") == b.run.get("id")
    change = (stats.paired if same_run else stats.unpaired)(x.rounds, y.rounds)
    return change is not None and change.verdict != "no difference shown"


def _best(records: Sequence[Record], name: str) -> Best | None:
    respect, noun, more = RESPECTS[name]
    able = [(found.value, record) for record in records if (found := metric(record, name))]
    if not able:
        return None
    able.sort(key=lambda pair: (-pair[0] if more else pair[0], pair[1].id))
    names = labels([record for _, record in able])
    first = able[0][1]
    found = metric(first, name)
    assert found is not None
    ties: list[str] = []
    for _, other in able[1:]:
        # In the order of the medians, so that the first clear difference ends the tie.
        if differs(first, other, name):
            break
        ties.append(names[other.id])
    if len(ties) > TIES:
        ties = [*ties[:TIES], f"{len(ties) - TIES} more"]
    return Best(
        respect,
        noun,
        names[first.id],
        units.quantity(found.value, found.unit),
        units.interval(found),
        first.id,
        tuple(ties),
        tuple(doubt.id for doubt in first.doubts),
    )
