"""The two sides of a comparison: records, or the records that a name selects in a store."""

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
from edgebench.judging.comparison import Axis, Comparison, compare, find_smallest_difference
from edgebench.store.filters import ALL_RECORDS, Filter, TrialRow
from edgebench.store.results import Store

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
    """Both sides with their records, and the axis that they are compared along."""

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
        """The error that names the differences of the closest pair."""
        differences = find_smallest_difference(*self.records, self.axis)
        texts = [f"{name}: {a[:_MAX_VALUE]} vs. {b[:_MAX_VALUE]}" for name, (a, b) in differences.items()]
        more = [f"{len(texts) - _MAX_NAMED} more"] if len(texts) > _MAX_NAMED else []
        return UsageError(
            f"no comparable trials; the closest pair differs in {'; '.join([*texts[:_MAX_NAMED], *more])}",
            "Measure both with the same options.",
        )


@dataclass(frozen=True)
class _Interpretation:
    """One interpretation of a side; ``records`` if they are known without the store."""

    axis: Axis
    value: str
    records: tuple[Record, ...] | None = None


def check_metrics(names: Sequence[str]) -> None:
    """Raises ``UsageError`` for an unknown metric, with the closest one."""
    for name in names:
        if name not in metrics.definitions():
            near = get_close_matches(name, metrics.definitions(), n=1)
            hint = f"Did you mean {near[0]}?" if near else "See docs/glossary.md for all metrics."
            raise UsageError(f"unknown metric {name!r}", hint)


def resolve(
    a: Side, b: Side, open_store: Opener, where: Filter = ALL_RECORDS, names: tuple[str, str] = ("a", "b")
) -> Sides:
    """The records of both sides; ``names`` are the labels in messages of sides that are given as records.

    The store is opened only if a side needs it. Raises ``UsageError`` for a name that is unknown or
    ambiguous, and ``StoreError``.
    """
    direct = tuple(_without_store(side, where) for side in (a, b))
    labels = (_label(a, names[0]), _label(b, names[1]))
    if direct[0] and direct[1]:
        return _sides(direct[0], direct[1], labels, lambda meaning: meaning.records or ())
    with open_store() as store:
        rows = store.rows(where)
        meanings = [
            [first] if first else _interpretations(store, rows, label)
            for first, label in zip(direct, labels, strict=True)
        ]
        side_a, side_b = _disambiguate(meanings, labels)
        return _sides(side_a, side_b, labels, lambda meaning: _records(store, where, meaning))


def _sides(
    side_a: _Interpretation,
    side_b: _Interpretation,
    labels: tuple[str, str],
    read: Callable[[_Interpretation], Sequence[Record]],
) -> Sides:
    return Sides(side_a.axis if side_a.axis == side_b.axis else "run", labels, (read(side_a), read(side_b)))


def _without_store(side: Side, where: Filter) -> _Interpretation | None:
    """The interpretation of a side that does not depend on the store: records and store files."""
    if isinstance(side, Record):
        return _Interpretation("record", side.id, (side,))
    if isinstance(side, str | PathLike):
        return _file(fspath(side), where)
    records = tuple(record for record in side if isinstance(record, Record)) if isinstance(side, Sequence) else ()
    if not isinstance(side, Sequence) or len(records) < len(side):
        raise UsageError(
            f"compare takes names or records, not {side!r}", "Pass a run's name or ID, a record, or Results."
        )
    return _Interpretation("record", "", records)


def _label(side: Side, name: str) -> str:
    return fspath(side) if isinstance(side, str | PathLike) else name


def _file(name: str, where: Filter) -> _Interpretation | None:
    path = Path(name.removeprefix("store:"))
    if not path.is_file() and not name.startswith("store:"):
        return None
    with Store(path, read_only=True) as store:
        return _Interpretation("store", str(path), tuple(store.records(where)))


def _interpretations(store: Store, rows: Sequence[TrialRow], name: str) -> list[_Interpretation]:
    prefix, _, value_part = name.partition(":")
    qualified = value_part != "" and prefix in (*_COLUMNS, "run", "record", "build")
    value = value_part if qualified else name
    meanings = [_Interpretation(axis, value) for axis in _COLUMNS if any(getattr(row, axis) == value for row in rows)]
    runs = {row.run for row in rows if value == row.run_name or _has_prefix(row.run, value)}
    if runs:
        meanings.append(_Interpretation("run", max(runs)))
    ids = {row.id for row in rows if _has_prefix(row.id, value)}
    if len(ids) == 1:
        meanings.append(_Interpretation("record", ids.pop()))
    # Builds are looked up last, because that reads every record.
    if (not meanings or prefix == "build") and any(_build(record) == value for record in store.records()):
        meanings.append(_Interpretation("build", value))
    return [meaning for meaning in meanings if not qualified or meaning.axis == prefix]


def _has_prefix(id: str, value: str) -> bool:
    return len(value) >= _MIN_PREFIX and id.startswith(value)


def _build(record: Record) -> str | None:
    return record.facts.engine.build


def _disambiguate(
    meanings: Sequence[Sequence[_Interpretation]], names: Sequence[str]
) -> tuple[_Interpretation, _Interpretation]:
    """The only interpretation of both sides. Raises ``UsageError`` if there is none or more than one."""
    for name, meanings_of_side in zip(names, meanings, strict=True):
        if not meanings_of_side:
            raise UsageError(
                f"{name!r} matches no run, result, device, engine, backend, build or store file",
                "See: edgebench results list",
            )
    pairs = [
        (left, right)
        for left in meanings[0]
        for right in meanings[1]
        if left.axis == right.axis or {left.axis, right.axis} <= _SETS
    ]
    if not pairs:
        kinds = " and ".join(
            f"{name!r} is a {meanings_of_side[0].axis}" for name, meanings_of_side in zip(names, meanings, strict=True)
        )
        raise UsageError(f"cannot compare different things: {kinds}", "Compare two devices, two engines, two runs, …")
    if len(pairs) > 1:
        ways = ", or ".join(f"{left.axis}:{names[0]} {right.axis}:{names[1]}" for left, right in pairs)
        raise UsageError(f"{names[0]!r} and {names[1]!r} are ambiguous", f"Qualify them: {ways}.")
    if pairs[0][0] == pairs[0][1]:
        raise UsageError(f"{names[0]!r} and {names[1]!r} are the same {pairs[0][0].axis}", "Name two different ones.")
    return pairs[0]


def _records(store: Store, where: Filter, meaning: _Interpretation) -> Sequence[Record]:
    if meaning.records is not None:
        return meaning.records
    value = [meaning.value]
    if meaning.axis == "build":
        return [record for record in store.records(where) if _build(record) == meaning.value]
    filters = {
        "run": replace(where, runs=value),
        "record": replace(where, ids=value),
        "device": replace(where, devices=value),
        "engine": replace(where, engines=value),
        "backend": replace(where, backends=value),
    }
    return list(store.records(filters[meaning.axis]))
