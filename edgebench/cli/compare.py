"""``edgebench compare``: compare two runs, devices, engines, backends, builds or stores."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from edgebench.cli.selection import existing, store_option, terminal, where_options, write
from edgebench.core import Record
from edgebench.errors import UsageError
from edgebench.judging import metrics
from edgebench.judging.comparison import Axis, Comparison, compare, difference
from edgebench.store.records import dumps
from edgebench.store.results import Store
from edgebench.store.where import Row, Where

_COLUMNS: tuple[Axis, ...] = ("device", "engine", "backend")
_SETS = frozenset({"run", "record", "store"})
"""Axes that can be mixed in one comparison: each stands for a set of records."""
_NAMED, _LONGEST = 4, 40
"""Limits of a message: number of differences, characters per value."""
_SHORTEST = 4
"""Minimum length of an id prefix."""


@dataclass(frozen=True)
class _Meaning:
    """One interpretation of a command-line argument."""

    axis: Axis
    value: str


class Share(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.2 only
    """A percentage: ``5%``."""

    name = "percent"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"\s*([0-9]{1,4}(?:\.[0-9]{1,6})?)\s*(%?)\s*", value, re.ASCII)
        if found is None or not found[2]:
            near = f" Did you mean {found[1]}%?" if found else " Write it as 5%."
            self.fail(f"{value!r} is not a percentage.{near}", param, ctx)
        return float(found[1]) / 100


def _metric(ctx: click.Context, param: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    from difflib import get_close_matches

    for name in names:
        if name not in metrics.known():
            near = get_close_matches(name, metrics.known(), n=1)
            hint = f"Did you mean {near[0]}?" if near else "See docs/glossary.md for all metrics."
            raise UsageError(f"unknown metric {name!r}", hint)
    return names


@click.command()
@click.argument("a")
@click.argument("b")
@where_options
@store_option
@click.option(
    "--metric",
    "names",
    multiple=True,
    callback=_metric,
    help="Metric to compare; repeatable.  [default: the headline metrics]",
)
@click.option(
    "--fail-above",
    "limit",
    type=Share(),
    help="Exit with code 1 if B is worse than A by more than this percentage, e.g. 5%.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout.")
@click.pass_context
def command(
    ctx: click.Context,
    a: str,
    b: str,
    path: Path,
    where: Where,
    names: tuple[str, ...],
    limit: float | None,
    as_json: bool,
) -> None:
    """Compare two runs, results, devices, engines, backends, builds or store files.

    A run is given by its ID, a prefix of it, or its name (the newest run of that name). If an
    argument is ambiguous, qualify it: device:local, run:local.

    Only trials with the same model file, quantization, scenario and options are compared.
    Differences within chance are reported as "no difference shown". Exit codes: 1 if B is worse
    by more than --fail-above, 2 if no trials are comparable.
    """
    from edgebench.views import comparison_view

    sides = _sides(path, where, (a, b))
    comparison = compare(*sides.records, sides.axis, names)
    if not comparison.pairs:
        raise _nothing_alike(sides)
    if as_json:
        write(dumps(comparison_view.as_json(comparison), indent=2) + "\n", None)
    else:
        width, _ = terminal()
        write(comparison_view.text(comparison, width=width), None)
    if limit is not None:
        ctx.exit(_judged(comparison, limit))


def _judged(comparison: Comparison, limit: float) -> int:
    """The exit code; prints the reasons to stderr."""
    code = 0
    for pair in comparison.pairs:
        told = [one.change for one in pair.findings if one.change]
        why = ""
        if pair.a.status != "ok" or pair.b.status != "ok":
            why = f"{pair.a.id} {pair.a.status}, {pair.b.id} {pair.b.status}"
        elif not told:
            said = "; ".join(dict.fromkeys(one.why for one in pair.findings)) or "no metrics were measured"
            why = f"{pair.a.id} and {pair.b.id}: {said}"
        elif all(change.few for change in told):
            why = f"{pair.a.id} and {pair.b.id}: too few rounds for a verdict; use --rounds 5 or more"
        if why:
            click.echo(f"not comparable: {why}", err=True)
            code = code or 2
        for finding in pair.findings:
            if finding.worse > limit:
                title = metrics.find(finding.name).title
                click.echo(f"{title} of {pair.b.id} is worse by {finding.worse:.1%} (limit {limit:.1%})", err=True)
                code = 1
    return code


# --- resolving A and B ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sides:
    axis: Axis
    names: tuple[str, str]
    records: tuple[list[Record], list[Record]]


def _sides(path: Path, where: Where, names: tuple[str, str]) -> _Sides:
    files = [_file(name) for name in names]
    if all(files):
        return _Sides("store", names, (_read(files[0], where), _read(files[1], where)))
    with existing(path) as store:
        if store is None:
            raise UsageError("no results to compare yet", "Measure twice, e.g. edgebench run --name before")
        rows = store.rows(where)
        found = [
            [_Meaning("store", str(file))] if file else _meanings(store, rows, name)
            for file, name in zip(files, names, strict=True)
        ]
        one, other = _agreed(found, names)
        axis = one.axis if one.axis == other.axis else "run"
        return _Sides(axis, names, (_records(store, where, one), _records(store, where, other)))


def _file(name: str) -> Path | None:
    path = Path(name.removeprefix("store:"))
    return path if path.is_file() or name.startswith("store:") else None


def _read(path: Path | None, where: Where) -> list[Record]:
    assert path is not None
    with Store(path, read_only=True) as store:
        return list(store.records(where))


def _meanings(store: Store, rows: Sequence[Row], name: str) -> list[_Meaning]:
    prefix, _, rest = name.partition(":")
    said = rest != "" and prefix in (*_COLUMNS, "run", "record", "build")
    value = rest if said else name
    found = [_Meaning(axis, value) for axis in _COLUMNS if any(getattr(row, axis) == value for row in rows)]
    runs = {row.run for row in rows if value == row.run_name or _begins(row.run, value)}
    if runs:
        found.append(_Meaning("run", max(runs)))
    ids = {row.id for row in rows if _begins(row.id, value)}
    if len(ids) == 1:
        found.append(_Meaning("record", ids.pop()))
    # Builds are looked up last, because that reads every record.
    if (not found or prefix == "build") and any(_build(record) == value for record in store.records()):
        found.append(_Meaning("build", value))
    return [one for one in found if not said or one.axis == prefix]


def _begins(id: str, value: str) -> bool:
    return len(value) >= _SHORTEST and id.startswith(value)


def _build(record: Record) -> str | None:
    return record.facts.engine.build


def _agreed(found: Sequence[Sequence[_Meaning]], names: Sequence[str]) -> tuple[_Meaning, _Meaning]:
    """The only interpretation of both arguments. Raises ``UsageError`` if there is none or more than one."""
    for name, meanings in zip(names, found, strict=True):
        if not meanings:
            raise UsageError(
                f"{name!r} matches no run, result, device, engine, backend, build or store file",
                "See: edgebench results list",
            )
    pairs = [
        (one, other)
        for one in found[0]
        for other in found[1]
        if one.axis == other.axis or {one.axis, other.axis} <= _SETS
    ]
    if not pairs:
        kinds = " and ".join(f"{name!r} is a {meanings[0].axis}" for name, meanings in zip(names, found, strict=True))
        raise UsageError(f"cannot compare different things: {kinds}", "Compare two devices, two engines, two runs, …")
    if len(pairs) > 1:
        ways = ", or ".join(f"{one.axis}:{names[0]} {other.axis}:{names[1]}" for one, other in pairs)
        raise UsageError(f"{names[0]!r} and {names[1]!r} are ambiguous", f"Qualify them: {ways}.")
    if pairs[0][0] == pairs[0][1]:
        raise UsageError(f"{names[0]!r} and {names[1]!r} are the same {pairs[0][0].axis}", "Name two different ones.")
    return pairs[0]


def _records(store: Store, where: Where, meaning: _Meaning) -> list[Record]:
    value = [meaning.value]
    if meaning.axis == "store":
        return _read(Path(meaning.value), where)
    if meaning.axis == "build":
        return [record for record in store.records(where) if _build(record) == meaning.value]
    only: dict[str, Any] = {{"record": "ids"}.get(meaning.axis, f"{meaning.axis}s"): value}
    return list(store.records(replace(where, **only)))


def _nothing_alike(sides: _Sides) -> UsageError:
    a, b = sides.records
    for name, records in zip(sides.names, sides.records, strict=True):
        if not records:
            return UsageError(f"{name!r} has no results to compare")
    found = difference(a, b, sides.axis)
    told = [f"{name}: {one[:_LONGEST]} vs. {other[:_LONGEST]}" for name, (one, other) in found.items()]
    more = [f"{len(told) - _NAMED} more"] if len(told) > _NAMED else []
    what = "; ".join([*told[:_NAMED], *more])
    return UsageError(
        f"no comparable trials; the closest pair differs in {what}", "Measure both with the same options."
    )
