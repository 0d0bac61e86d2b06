"""Records as a table for a terminal or a text file: headline metrics, doubts and the next command."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from io import StringIO
from typing import TYPE_CHECKING, ClassVar

from edgebench.core import MetricDefinition, Record
from edgebench.judging import doubts, metrics
from edgebench.views.fields import outcome
from edgebench.views.headline import measured_metrics, metric_cell
from edgebench.views.text import WIDE, clean, describe, split_varying, text_console, trim

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as Grid

_MIN_WIDTH = 6
"""Minimum width of a column of names before figures are omitted."""
MAX_LOG_LINE = 200
"""Maximum characters of an engine's last log line, shown if a failure has no hint."""


class Table:
    """A table in plain text without a width limit; ``draw`` fits it to a terminal."""

    suffix: ClassVar[str] = ".txt"

    def render(self, records: Sequence[Record]) -> str:
        return draw(records)


def draw(records: Sequence[Record], *, width: int | None = None, colour: bool = False) -> str:
    """The table in ``width`` columns (None: unlimited), with or without colour.

    Each scenario has its own options, and therefore its own part of the table.
    """
    from rich.text import Text

    if not records:
        return "No results.\n"
    out = StringIO()
    console = text_console(out, width=width, colour=colour)
    scenarios: dict[str, list[Record]] = {}
    for record in records:
        scenarios.setdefault(record.trial.scenario, []).append(record)
    hidden = dict.fromkeys(entry for group in scenarios.values() for entry in _print_group(console, group))
    if hidden:
        omitted_columns = ", ".join(entry.column for entry in metrics.headline() if entry in hidden)
        console.print(Text(f"columns that do not fit: {omitted_columns}", style="dim"))
    for line, style in remarks(records, lambda record: record.id):
        console.print(Text(line, style=style))
    console.print(Text(f"Next: edgebench results show {records[-1].id}", style="dim"))
    return trim(out)


def _print_group(console: Console, records: Sequence[Record]) -> list[MetricDefinition]:
    """Print the records of one scenario: common parts, then the grid. Returns the omitted metrics."""
    from rich.text import Text

    differ, common = split_varying([describe(record) for record in records])
    columns, hidden = _fit_columns(console, records, differ)
    console.print(Text(" · ".join(_label(name, text) for name, text in common.items()), style="bold"))
    console.print(_grid(records, differ, columns))
    console.print()
    return hidden


def _fit_columns(
    console: Console, records: Sequence[Record], differ: Sequence[str]
) -> tuple[list[MetricDefinition], list[MetricDefinition]]:
    """The metrics that fit the console, and those that do not."""
    visible = measured_metrics(records)
    hidden: list[MetricDefinition] = []
    roomy = console.options.update(max_width=WIDE)
    while visible[1:]:
        # The first four are kept as long as folding the names makes them fit.
        names = differ if visible[4:] else []
        width = console.measure(_grid(records, names, visible), options=roomy).maximum
        if width + (0 if names else sum(_narrowest(records, name) + 2 for name in differ)) <= console.width:
            break
        hidden.insert(0, visible.pop())
    return visible, hidden


def remarks(records: Sequence[Record], name: Callable[[Record], str]) -> Iterator[tuple[str, str]]:
    """(line, style) of the failures, notes and doubts of these records; ``name``: the label of a record."""
    yield from _failure_lines(records, name)
    yield from _doubt_lines(records, name)


def _label(name: str, text: str) -> str:
    return text if name in ("model", "engine", "backend", "scenario") else f"{name} {text}"


def _grid(records: Sequence[Record], differ: Sequence[str], columns: Sequence[MetricDefinition]) -> Grid:
    from rich import box
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    grid.add_column("result", no_wrap=True)
    for name in differ:
        grid.add_column(Text(_option(name)), overflow="fold", min_width=_narrowest(records, name))
    for entry in columns:
        grid.add_column(_fold(entry.column), justify="right", no_wrap=True)
    for record in records:
        parts = describe(record)
        cells = [Text(parts.get(name, "")) for name in differ]
        figures = [Text("\n".join(metric_cell(record, entry)).rstrip()) for entry in columns]
        mark = record.id + (" !" if record.doubts else "")
        first = Text(f"{mark}\n{outcome(record)}".rstrip(), style="red" if outcome(record) else "")
        grid.add_row(first, *cells, *figures)
    return grid


def _option(name: str) -> str:
    return _fold(name.replace("-", " "))


def _narrowest(records: Sequence[Record], name: str) -> int:
    """Minimum width of a column of names."""
    from rich.cells import cell_len

    cells = (describe(record).get(name, "") for record in records)
    return min(_MIN_WIDTH, max(map(cell_len, (*_option(name).split("\n"), *cells))))


def _fold(title: str) -> str:
    """A heading on two lines, split before its last word."""
    first, _, last = title.rpartition(" ")
    return f"{first}\n{last}" if first else title


def _failure_lines(records: Sequence[Record], name: Callable[[Record], str]) -> Iterator[tuple[str, str]]:
    for record in records:
        if record.failure:
            yield f"{name(record)} {outcome(record)}: {clean(record.failure.message)}", "red"
            if record.failure.hint:
                yield f"  {clean(record.failure.hint)}", ""
            elif last := next((line for line in reversed(record.failure.log) if line.strip()), ""):
                yield f"  last line of its log: {clean(last.strip())[:MAX_LOG_LINE]}", ""
    records_by_note: dict[str, list[str]] = {}
    for record in records:
        for note in record.notes:
            records_by_note.setdefault(note, []).append(name(record))
    for note, names in records_by_note.items():
        yield f"note: {clean(note)}{_scope(names, records)}", ""


def _doubt_lines(records: Sequence[Record], name: Callable[[Record], str]) -> Iterator[tuple[str, str]]:
    """Each type of doubt once, with its results, meaning and remedy."""
    cases_by_id: dict[str, list[tuple[str, str]]] = {}
    for record in records:
        for doubt in record.doubts:
            cases_by_id.setdefault(doubt.id, []).append((name(record), clean(doubt.detail)))
    for id, cases in cases_by_id.items():
        details = list(dict.fromkeys(detail for _, detail in cases if detail))
        detail_text = f": {'; '.join(details[:3])}" + ("; …" if len(details) > 3 else "") if details else ""
        doubt_type = doubts.DOUBT_TYPES.get(id)
        yield f"! {clean(id)}{detail_text}{_scope([record for record, _ in cases], records)}", "yellow"
        if doubt_type:
            yield f"  {doubt_type.meaning} {doubt_type.remedy}", ""


def _scope(names: Sequence[str], records: Sequence[Record]) -> str:
    """The results that a remark applies to; empty for a single result."""
    which = list(dict.fromkeys(names))
    if len(which) == len(records):
        return "" if len(records) == 1 else "  (every result)"
    return f"  ({', '.join(which[:3])}{' …' if len(which) > 3 else ''})"
