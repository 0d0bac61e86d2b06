"""What is best for what, said only of what may be compared and only where a difference was shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgebench.core import Record
from edgebench.views import units
from edgebench.views.charts.bars import fastest
from edgebench.views.reading import Kind, by_kind, differs, fell_back, labels, metric, regime, some


@dataclass(frozen=True)
class Claim:
    """In one respect the best of its kind of work: how good, and what was not shown to be worse."""

    does: str
    value: str
    ties: tuple[str, ...] = ()


@dataclass(frozen=True)
class Best:
    """A configuration and all that it is best in."""

    name: str
    record: str
    doubts: tuple[str, ...]
    claims: tuple[Claim, ...]


@dataclass(frozen=True)
class Answer:
    """What the records of one kind of work say."""

    kind: Kind
    compared: int
    bests: tuple[Best, ...]
    reduced: bool
    """Whether of several settings only the fastest of each device, engine and backend is compared."""
    left_out: int = 0
    """Configurations that used another backend than asked for: never compared."""


RESPECTS = {
    "decode_tps": ("is fastest", "is among the fastest", True),
    "peak_footprint_b": ("takes the least memory", "is among those that take the least memory", False),
    "load_s": ("loads quickest", "is among those that load quickest", False),
    "j_per_token": ("takes the least energy per token", "is among those that take the least energy", False),
}
"""By metric: what its best does, what it does where others are not shown to be worse, whether more is better."""


def answers(records: Sequence[Record]) -> list[Answer]:
    """One answer for each kind of work that has a measured configuration: that of most devices, engines
    and backends first, then that of most settings.

    ``records`` holds one for each configuration, as ``latest`` gives them.
    """
    found = []
    for kind, group in by_kind([record for record in records if record.status == "ok"]):
        fallen = sum(map(fell_back, group))
        fit = [r for r in group if not fell_back(r) and any(metric(r, name) for name in RESPECTS)]
        places = fastest(fit)
        compared = places if len(places) > 1 else fit
        bests = _bests(compared)
        if bests:
            answer = Answer(kind, len(compared), bests, len(compared) < len(fit), fallen)
            found.append((len(places), answer))
    return [answer for _, answer in sorted(found, key=lambda one: (-one[0], -one[1].compared))]


def _bests(records: Sequence[Record]) -> tuple[Best, ...]:
    """Claims, gathered by the configuration they are about."""
    names = labels(records)
    claims: dict[str, list[Claim]] = {}
    known = {record.id: record for record in records}
    for name in RESPECTS:
        claim = _claim(records, name, names)
        if claim:
            claims.setdefault(claim[0], []).append(claim[1])
    return tuple(
        Best(names[id], id, tuple(some(dict.fromkeys(doubt.id for doubt in known[id].doubts))), tuple(said))
        for id, said in claims.items()
    )


def _claim(records: Sequence[Record], name: str, names: dict[str, str]) -> tuple[str, Claim] | None:
    """The id of the best record and what is claimed of it; None where nobody measured it."""
    alone, among, more = RESPECTS[name]
    able = [(found, record) for record in records if (found := metric(record, name))]
    if not able or len(able) < min(2, len(records)):
        return None  # the only one that was measured is no best
    if name == "load_s":
        # A load from a cold disk and one from memory are two quantities: the more common one is compared.
        regimes = [regime(record) for _, record in able]
        common = max(regimes, key=regimes.count)
        able = [pair for pair in able if regime(pair[1]) == common]
    able.sort(key=lambda pair: (-pair[0].value if more else pair[0].value, pair[1].id))
    found, first = able[0]
    ties: list[str] = []
    for _, other in able[1:]:
        # In the order of the medians, so that the first clear difference ends the tie.
        if differs(first, other, name):
            break
        ties.append(names[other.id])
    ties = some(ties)
    between = units.interval(found)
    parts = (units.quantity(found.value, found.unit), between, regime(first) if name == "load_s" else "")
    value = ", ".join(part for part in parts if part)
    return first.id, Claim(among if ties else alone, value, tuple(ties))
