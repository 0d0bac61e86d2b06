"""A sweep over draft tokens as text: one line per K, starting with the target alone, and a verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import StringIO
from typing import ClassVar

from edgebench.core import Metric, Record
from edgebench.judging import costs, metrics, speculation
from edgebench.views import units
from edgebench.views.table import remarks
from edgebench.views.text import clean, text_console, trim

COLUMNS = (
    "k",
    "decode_tps",
    "ms per token",
    "speedup",
    "predicted_speedup",
    "acceptance",
    "tokens_per_verification",
    "peak_footprint_b",
)
"""Metrics, and what is shown beside them."""
SPARE = (7, 2, 6, 5, 4)
"""Columns to omit on narrower terminals, in this order."""


class Speculative:
    """A table in plain text without a width limit; ``draw`` fits it to a terminal."""

    suffix: ClassVar[str] = ".txt"

    def render(self, records: Sequence[Record]) -> str:
        return draw(records)


def draw(records: Sequence[Record], *, width: int | None = None, colour: bool = False) -> str:
    """Each run's sweep in ``width`` columns (None: unlimited), with or without colour."""
    runs: dict[str, list[Record]] = {}
    for record in records:
        if "k" in record.trial.options:
            runs.setdefault(str(record.run.get("id", "")), []).append(record)
    if not runs:
        return "No results of a sweep over draft tokens.\n"
    return "\n".join(_sweep(each, width, colour) for each in runs.values())


def _sweep(records: Sequence[Record], width: int | None, colour: bool) -> str:
    from rich.text import Text

    out = StringIO()
    console = text_console(out, width=width, colour=colour)
    for line in _heading(records):
        console.print(Text(line, style="bold"))
    columns = _fit_columns(records, console.width)
    for line, style in _table(records, columns):
        console.print(Text(line, style=style), soft_wrap=True)
    console.print()
    if hidden := [_heading_text(column) for i, column in enumerate(COLUMNS) if i not in columns]:
        console.print(Text(f"columns that do not fit: {', '.join(hidden)}", style="dim"))
    for line in _sentences(records):
        console.print(Text(line))
    for line, style in remarks(records, _row_name):
        console.print(Text(line, style=style))
    best = speculation.fastest(records) or records[0]
    console.print(Text(f"Next: edgebench results show {best.id}", style="dim"))
    return trim(out)


def _heading(records: Sequence[Record]) -> list[str]:
    trial = records[0].trial
    load = next((record.metrics["load_s"] for record in records if "load_s" in record.metrics), None)
    target = [trial.device, trial.engine, trial.backend, f"ctx {trial.options.get('ctx')}"]
    if load:
        target.append(f"load {units.quantity(load.value, load.unit)}")
    drafts = _drafts(records)
    pair = f"target {trial.model}, alone at k = 0" + (f" · draft {drafts[0]}" if len(drafts) == 1 else "")
    return [clean(" · ".join(map(str, target))), clean(pair)]


def _drafts(records: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(str(record.trial.options["draft"]) for record in records if record.trial.options["k"]))


def _fit_columns(records: Sequence[Record], room: int) -> list[int]:
    """The columns that fit ``room``."""
    columns = list(range(len(COLUMNS)))
    for spare in SPARE:
        if len(next(_lines(records, columns))) <= room:
            break
        columns.remove(spare)
    return columns


def _lines(records: Sequence[Record], columns: Sequence[int]) -> Iterator[str]:
    """Two lines of headings, then one per record, all of the same width."""
    headings = [_two_lines(_heading_text(column)) for column in COLUMNS]
    cells = [*zip(*headings, strict=True), *map(_row, records)]
    widths = {i: max(len(row[i]) for row in cells) for i in columns}
    return ("  ".join(row[i].rjust(widths[i]) for i in columns) for row in cells)


def _heading_text(column: str) -> str:
    """The heading of a column."""
    definition = metrics.definitions().get(column)
    if definition is None:
        return column
    return definition.short if definition.unit == "bytes" else definition.column


def _two_lines(text: str) -> tuple[str, str]:
    """A heading where it takes the fewest columns, so that the table fits 80 columns."""
    words = text.split()
    splits = [(" ".join(words[:count]), " ".join(words[count:])) for count in range(len(words))]
    return min(splits, key=lambda lines: max(map(len, lines)))


def _table(records: Sequence[Record], columns: Sequence[int]) -> Iterator[tuple[str, str]]:
    """(line, style) of headings, rule and rows; several drafts are listed one after the other with titles."""
    first, second, *rows = _lines(records, columns)
    yield first, ""
    yield second, ""
    yield "─" * len(first), ""
    titles = [_title(record, records) for record in records]
    for record, row, title, last in zip(records, rows, titles, ["", *titles], strict=False):
        if title and title != last:
            yield clean(title), ""
        yield row, "" if record.status == "ok" else "red"


def _title(record: Record, records: Sequence[Record]) -> str:
    """The title above the rows that begin with this one; empty if the heading contains it."""
    trial, first = record.trial, records[0].trial
    if trial.options["k"]:
        return f"draft {trial.options['draft']}" if len(_drafts(records)) > 1 else ""
    if trial.model != first.model:
        return f"{trial.model} alone"
    return "" if record is records[0] else f"{trial.model} alone again, and the K predicted best"


def _row(record: Record) -> tuple[str, ...]:
    values = record.metrics
    tps = values.get("decode_tps")
    mark = (" !" if record.doubts else "") + ("" if record.status == "ok" else f" {record.status}")
    return (
        f"{record.trial.options.get('k')}{mark}",
        _plain(tps, 1),
        f"{1000 / tps.value:.1f}" if tps else "–",
        _ratio(values.get("speedup")),
        _plain(values.get("predicted_speedup"), 2, "×"),
        f"{values['acceptance'].value:.1%}" if "acceptance" in values else "–",
        _plain(values.get("tokens_per_verification"), 2),
        _memory(values.get("peak_footprint_b")),
    )


def _row_name(record: Record) -> str:
    """The name of a row in sentences."""
    trial = record.trial
    k = trial.options["k"]
    return f"{trial.options['draft']} with k = {k}" if k else f"{trial.model} alone"


def _plain(metric: Metric | None, digits: int, unit: str = "") -> str:
    return f"{metric.value:.{digits}f}{unit}" if metric else "–"


def _ratio(metric: Metric | None) -> str:
    if metric is None:
        return "–"
    between = f" ({metric.low:.2f}–{metric.high:.2f})" if metric.low is not None and metric.high is not None else ""
    return f"{metric.value:.2f}×{between}"


def _memory(metric: Metric | None) -> str:
    return units.quantity(metric.value, metric.unit) if metric else "–"


def _sentences(records: Sequence[Record]) -> list[str]:
    sentences = [speculation.verdict(records).text, *speculation.explain_best(records)]
    measured = costs.collect_costs(records)
    if measured:
        verify_text = ", ".join(
            f"{size}: {1e3 * seconds:.1f} ms" for size, seconds in sorted(measured.verify_s.items())
        )
        sentences.append(f"time to verify n tokens at once: {verify_text}")
        if measured.draft_s is not None:
            first = measured.first_draft_s
            after = f", the first step {1e3 * first:.1f} ms" if first is not None else ""
            sentences.append(f"a step of the draft takes {1e3 * measured.draft_s:.1f} ms{after}")
        if measured.method:
            sentences.append(f"method: {measured.method}")
    return sentences
