"""The two sides of a comparison: records as they are given, or what a name stands for in a store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from os import PathLike, fspath
from pathlib import Path

from edgebench.core import Record
from edgebench.errors import UsageError
from edgebench.judging import metrics
from edgebench.judging.comparison import Axis, Comparison, compare, difference
from edgebench.store.results import Store
from edgebench.store.where import EVERY, Row, Where

Side = str | PathLike[str] | Record | Sequence[Record]
"""A name (of a run, record, device, engine, backend, build or store file), or records."""
Opener = Callable[[], AbstractContextManager[Store]]

_COLUMNS: tuple[Axis, ...] = ("device", "engine", "backend")
_SETS = frozenset({"run", "record", "store"})
"""Axes that can be mixed in one comparison: each stands for a set of records."""
_MAX_NAMED, _MAX_VALUE = 4, 40
"""Limits of a message: number of differences, characters per value."""
_MIN_PREFIX = 4
"""Minimum length of an ID prefix."""


@dataclass(frozen=True)
class Sides:
    """Both sides with their records, and what is compared."""

    axis: Axis
    names: tuple[str, str]
    records: tuple[Sequence[Record], Sequence[Record]]

    def compare(self, names: Sequence[str] = ()) -> Comparison:
        """Compare the metrics, or the headline metrics. Raises ``UsageError`` if no trials match."""
        check_metrics(names)
        for name, records in zip(self.names, self.records, strict=True):
            if not records:
                raise UsageError(f"{name!r} has no results to compare")
        comparison = compare(*self.records, self.axis, names)
        if not comparison.pairs:
            raise self._no_pairs()
        return comparison

    def _no_pairs(self) -> UsageError:
        """What the closest pair differs in."""
        differences = difference(*self.records, self.axis)
        texts = [f"{name}: {a[:_MAX_VALUE]} vs. {b[:_MAX_VALUE]}" for name, (a, b) in differences.items()]
        more = [f"{len(texts) - _MAX_NAMED} more"] if len(texts) > _MAX_NAMED else []
        return UsageError(
            f"no comparable trials; the closest pair differs in {'; '.join([*texts[:_MAX_NAMED], *more])}",
            "Measure both with the same options.",
        )


@dataclass(frozen=True)
class _Meaning:
    """One interpretation of a side; ``records`` if they are known without the store."""

    axis: Axis
    value: str
    records: tuple[Record, ...] | None = None


def check_metrics(names: Sequence[str]) -> None:
    """Raises ``UsageError`` for an unknown metric, with the closest one."""
    for name in names:
        if name not in metrics.known():
            near = get_close_matches(name, metrics.known(), n=1)
            hint = f"Did you mean {near[0]}?" if near else "See docs/glossary.md for all metrics."
            raise UsageError(f"unknown metric {name!r}", hint)


def resolve(a: Side, b: Side, open_store: Opener, where: Where = EVERY, names: tuple[str, str] = ("a", "b")) -> Sides:
    """The records of both sides; ``names`` is what messages call sides that are given as records.

    The store is opened only if a side needs it. Raises ``UsageError`` for a name that matches nothing,
    or more than one thing, and ``StoreError``.
    """
    known = tuple(_without_store(side, where) for side in (a, b))
    labels = (_label(a, names[0]), _label(b, names[1]))
    if known[0] and known[1]:
        return _sides(known[0], known[1], labels, lambda meaning: meaning.records or ())
    with open_store() as store:
        rows = store.rows(where)
        meanings = [[own] if own else _meanings(store, rows, label) for own, label in zip(known, labels, strict=True)]
        one, other = _agreed(meanings, labels)
        return _sides(one, other, labels, lambda meaning: _records(store, where, meaning))


def _sides(
    one: _Meaning, other: _Meaning, labels: tuple[str, str], read: Callable[[_Meaning], Sequence[Record]]
) -> Sides:
    return Sides(one.axis if one.axis == other.axis else "run", labels, (read(one), read(other)))


def _without_store(side: Side, where: Where) -> _Meaning | None:
    """What needs no store to be looked up in: records, and store files."""
    if isinstance(side, Record):
        return _Meaning("record", side.id, (side,))
    if isinstance(side, str | PathLike):
        return _file(fspath(side), where)
    records = tuple(one for one in side if isinstance(one, Record)) if isinstance(side, Sequence) else ()
    if not isinstance(side, Sequence) or len(records) < len(side):
        raise UsageError(
            f"compare takes names or records, not {side!r}", "Give a run's name or ID, a record, or Results."
        )
    return _Meaning("record", "", records)


def _label(side: Side, name: str) -> str:
    return fspath(side) if isinstance(side, str | PathLike) else name


def _file(name: str, where: Where) -> _Meaning | None:
    path = Path(name.removeprefix("store:"))
    if not path.is_file() and not name.startswith("store:"):
        return None
    with Store(path, read_only=True) as store:
        return _Meaning("store", str(path), tuple(store.records(where)))


def _meanings(store: Store, rows: Sequence[Row], name: str) -> list[_Meaning]:
    prefix, _, rest = name.partition(":")
    qualified = rest != "" and prefix in (*_COLUMNS, "run", "record", "build")
    value = rest if qualified else name
    meanings = [_Meaning(axis, value) for axis in _COLUMNS if any(getattr(row, axis) == value for row in rows)]
    runs = {row.run for row in rows if value == row.run_name or _begins(row.run, value)}
    if runs:
        meanings.append(_Meaning("run", max(runs)))
    ids = {row.id for row in rows if _begins(row.id, value)}
    if len(ids) == 1:
        meanings.append(_Meaning("record", ids.pop()))
    # Builds are looked up last, because that reads every record.
    if (not meanings or prefix == "build") and any(_build(record) == value for record in store.records()):
        meanings.append(_Meaning("build", value))
    return [one for one in meanings if not qualified or one.axis == prefix]


def _begins(id: str, value: str) -> bool:
    return len(value) >= _MIN_PREFIX and id.startswith(value)


def _build(record: Record) -> str | None:
    return record.facts.engine.build


def _agreed(meanings: Sequence[Sequence[_Meaning]], names: Sequence[str]) -> tuple[_Meaning, _Meaning]:
    """The only interpretation of both sides. Raises ``UsageError`` if there is none or more than one."""
    for name, own in zip(names, meanings, strict=True):
        if not own:
            raise UsageError(
                f"{name!r} matches no run, result, device, engine, backend, build or store file",
                "See: edgebench results list",
            )
    pairs = [
        (one, other)
        for one in meanings[0]
        for other in meanings[1]
        if one.axis == other.axis or {one.axis, other.axis} <= _SETS
    ]
    if not pairs:
        kinds = " and ".join(f"{name!r} is a {own[0].axis}" for name, own in zip(names, meanings, strict=True))
        raise UsageError(f"cannot compare different things: {kinds}", "Compare two devices, two engines, two runs, …")
    if len(pairs) > 1:
        ways = ", or ".join(f"{one.axis}:{names[0]} {other.axis}:{names[1]}" for one, other in pairs)
        raise UsageError(f"{names[0]!r} and {names[1]!r} are ambiguous", f"Qualify them: {ways}.")
    if pairs[0][0] == pairs[0][1]:
        raise UsageError(f"{names[0]!r} and {names[1]!r} are the same {pairs[0][0].axis}", "Name two different ones.")
    return pairs[0]


def _records(store: Store, where: Where, meaning: _Meaning) -> Sequence[Record]:
    if meaning.records is not None:
        return meaning.records
    value = [meaning.value]
    if meaning.axis == "build":
        return [record for record in store.records(where) if _build(record) == meaning.value]
    selected = {
        "run": replace(where, runs=value),
        "record": replace(where, ids=value),
        "device": replace(where, devices=value),
        "engine": replace(where, engines=value),
        "backend": replace(where, backends=value),
    }
    return list(store.records(selected[meaning.axis]))
