"""The records as a Markdown table, for a README or an issue."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from edgebench.core import MetricDefinition, Record
from edgebench.judging import doubts
from edgebench.judging.readings import footprint
from edgebench.views import units
from edgebench.views.fields import MEMORY, NOT_SPLIT, ended, memory_parts
from edgebench.views.headline import figure, measured
from edgebench.views.text import clean, describe, varying


class Markdown:
    """One row a record: figures with their intervals; doubts as notes below."""

    suffix: ClassVar[str] = ".md"

    def render(self, records: Sequence[Record]) -> str:
        if not records:
            return "No results.\n"
        notes = explained(records)
        return "\n".join([*grid(records), *(["", *notes] if notes else [])]) + "\n"


def grid(records: Sequence[Record]) -> list[str]:
    """What the records have in common, a table of what differs and of their figures, one of memory by kind."""
    differ, common = varying([describe(record) for record in records])
    shown = measured(records)
    return [
        " · ".join(f"{name} {escaped(text)}" for name, text in common.items()),
        "",
        _row([escaped(name) for name in (*differ, *(entry.column for entry in shown), "doubts")]),
        _row(["---"] * len(differ) + ["---:"] * len(shown) + ["---"]),
        *(_row(_cells(record, differ, shown)) for record in records),
        *_memory(records, differ),
    ]


def explained(records: Sequence[Record]) -> list[str]:
    """The doubts of these records: what each means and what to do."""
    found = dict.fromkeys(doubt.id for record in records for doubt in record.doubts)
    known = [doubts.DOUBT_TYPES[id] for id in found if id in doubts.DOUBT_TYPES]
    return [f"- **{kind.id}**: {escaped(kind.meaning)} {escaped(kind.remedy)}" for kind in known]


def _cells(record: Record, differ: Sequence[str], shown: Sequence[MetricDefinition]) -> list[str]:
    parts = describe(record)
    named = [escaped(parts.get(name, "")) for name in differ]
    marks = ", ".join(dict.fromkeys(escaped(doubt.id) for doubt in record.doubts))
    if record.status != "ok":
        why = f": {escaped(record.failure.message)}" if record.failure else ""
        marks = f"**{ended(record)}**{why}" + (f"; {marks}" if marks else "")
    return [*named, *(_figure(record, entry) for entry in shown), marks]


def _memory(records: Sequence[Record], differ: Sequence[str]) -> list[str]:
    """A second table: each footprint by kind of memory, where any was split."""
    parts = {record.id: memory_parts(record) for record in records}
    kinds = [kind for kind in MEMORY if any(kind in found for found in parts.values())]
    if kinds in ([], [NOT_SPLIT]):
        return []
    header = [*differ, "memory footprint", *kinds]
    lines = [
        "",
        "Memory at its peak, by kind:",
        "",
        _row([escaped(name) for name in header]),
        _row(["---"] * len(differ) + ["---:"] * (len(header) - len(differ))),
    ]
    for record in records:
        if whole := footprint(record):
            described, sizes = describe(record), parts[record.id]
            figures = (units.quantity(sizes[kind], "bytes") if kind in sizes else "–" for kind in kinds)
            named = (escaped(described.get(name, "")) for name in differ)
            lines.append(_row([*named, units.quantity(whole.value, "bytes"), *figures]))
    return lines


def _figure(record: Record, entry: MetricDefinition) -> str:
    text, interval = figure(record, entry)
    return f"{text} [{interval}]" if interval else text


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escaped(text: str) -> str:
    """Text as text: nothing in it is Markdown, HTML, a table's bar or a mention."""
    return re.sub(r"([\\`*_{}\[\]<>#+|~@&$])", r"\\\1", clean(text))
