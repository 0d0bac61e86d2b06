"""Records as a Markdown table, for a README or an issue."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from edgebench.core import MetricDefinition, Record
from edgebench.judging import doubts
from edgebench.judging.readings import footprint
from edgebench.views import units
from edgebench.views.fields import MEMORY, NOT_SPLIT, memory_parts, outcome
from edgebench.views.headline import measured_metrics, metric_cell
from edgebench.views.text import clean, describe, split_varying


class Markdown:
    """One row per record: figures with intervals; doubts as notes below."""

    suffix: ClassVar[str] = ".md"

    def render(self, records: Sequence[Record]) -> str:
        if not records:
            return "No results.\n"
        notes = doubt_notes(records)
        return "\n".join([*grid(records), *(["", *notes] if notes else [])]) + "\n"


def grid(records: Sequence[Record]) -> list[str]:
    """The common parts of the records, a table of differing parts and figures, and a table of memory by type."""
    differ, common = split_varying([describe(record) for record in records])
    columns = measured_metrics(records)
    return [
        " · ".join(f"{name} {escape(text)}" for name, text in common.items()),
        "",
        _row([escape(name) for name in (*differ, *(entry.column for entry in columns), "doubts")]),
        _row(["---"] * len(differ) + ["---:"] * len(columns) + ["---"]),
        *(_row(_cells(record, differ, columns)) for record in records),
        *_memory(records, differ),
    ]


def doubt_notes(records: Sequence[Record]) -> list[str]:
    """The doubts of these records with meaning and remedy."""
    ids = dict.fromkeys(doubt.id for record in records for doubt in record.doubts)
    doubt_types = [doubts.DOUBT_TYPES[id] for id in ids if id in doubts.DOUBT_TYPES]
    return [
        f"- **{doubt_type.id}**: {escape(doubt_type.meaning)} {escape(doubt_type.remedy)}" for doubt_type in doubt_types
    ]


def _cells(record: Record, differ: Sequence[str], columns: Sequence[MetricDefinition]) -> list[str]:
    parts = describe(record)
    names = [escape(parts.get(name, "")) for name in differ]
    marks = ", ".join(dict.fromkeys(escape(doubt.id) for doubt in record.doubts))
    if record.status != "ok":
        reason = f": {escape(record.failure.message)}" if record.failure else ""
        marks = f"**{outcome(record)}**{reason}" + (f"; {marks}" if marks else "")
    return [*names, *(_figure(record, entry) for entry in columns), marks]


def _memory(records: Sequence[Record], differ: Sequence[str]) -> list[str]:
    """A second table: each footprint by type of memory, if any is split."""
    parts = {record.id: memory_parts(record) for record in records}
    kinds = [kind for kind in MEMORY if any(kind in split for split in parts.values())]
    if kinds in ([], [NOT_SPLIT]):
        return []
    header = [*differ, "memory footprint", *kinds]
    lines = [
        "",
        "Peak memory by type:",
        "",
        _row([escape(name) for name in header]),
        _row(["---"] * len(differ) + ["---:"] * (len(header) - len(differ))),
    ]
    for record in records:
        if whole := footprint(record):
            labels, sizes = describe(record), parts[record.id]
            figures = (units.quantity(sizes[kind], "bytes") if kind in sizes else "–" for kind in kinds)
            names = (escape(labels.get(name, "")) for name in differ)
            lines.append(_row([*names, units.quantity(whole.value, "bytes"), *figures]))
    return lines


def _figure(record: Record, entry: MetricDefinition) -> str:
    text, interval = metric_cell(record, entry)
    return f"{text} [{interval}]" if interval else text


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escape(text: str) -> str:
    """Text with Markdown, HTML, table separators and mentions escaped."""
    return re.sub(r"([\\`*_{}\[\]<>#+|~@&$])", r"\\\1", clean(text))
