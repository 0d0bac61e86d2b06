"""Records as tidy CSV: one row per observation (round of a trial), units in the header."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import ClassVar

from edgebench.core import Option, Record
from edgebench.judging import metrics
from edgebench.views.text import clean

_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""Characters that start a formula in spreadsheets; the last four are their full-width forms."""


class Csv:
    """One row per round; a trial without rounds has one row with its status."""

    suffix: ClassVar[str] = ".csv"

    def render(self, records: Sequence[Record]) -> str:
        return "".join(self.pieces(records))

    def pieces(self, records: Iterable[Record]) -> Iterator[str]:
        header, rows = table(records)
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        everything: Iterable[Sequence[Option | None]] = chain([header], rows)
        for row in everything:
            writer.writerow([_safe(value) for value in row])
            yield out.getvalue()
            out.seek(0)
            out.truncate()


def table(records: Iterable[Record]) -> tuple[list[str], Iterator[list[Option | None]]]:
    """Header and rows; each column has values of one type, or None.

    ``records`` is iterated twice: for the columns, then for the rows.
    """
    options: set[str] = set()
    units: dict[str, str] = {}
    for record in records:
        options |= record.trial.options.keys()
        units |= {name: metrics.unit(name, metric.unit) for name, metric in record.metrics.items()}
    names = sorted(units, key=metrics.sort_key)
    header = ["record", "run", "run_name", "started", "status", "device", "model", "model_sha256", "quantization"]
    header += ["engine", "engine_build", "backend", "backend_used", "scenario"]
    header += [f"option_{name}" for name in sorted(options)] + ["doubts", "failure", "round"]
    header += [f"{name} [{units[name]}]" if units[name] else name for name in names]
    return header, _rows(records, sorted(options), names)


def _rows(records: Iterable[Record], options: Sequence[str], names: Sequence[str]) -> Iterator[list[Option | None]]:
    for record in records:
        trial, model, engine = record.trial, record.facts.model, record.facts.engine
        about: list[Option | None] = [
            record.id,
            *(str(record.run.get(name, "")) for name in ("id", "name")),
            record.started,
        ]
        about += [record.status, trial.device, trial.model, model.sha256, model.quantization]
        about += [trial.engine, engine.build, trial.backend, engine.backend, trial.scenario]
        about += [trial.options.get(name) for name in options]
        about += [" ".join(dict.fromkeys(doubt.id for doubt in record.doubts))]
        about += [record.failure.message if record.failure else None]
        for index, one in enumerate(sorted(record.rounds, key=lambda one: one.index)):
            yield [*about, one.index, *(_value_of(record, name, index) for name in names)]
        if not record.rounds:
            yield [*about, None, *(None for _ in names)]


def _value_of(record: Record, name: str, index: int) -> float | None:
    metric = record.metrics.get(name)
    return metric.rounds[index] if metric and index < len(metric.rounds) else None


def _safe(value: Option | None) -> Option | None:
    """Text on one line; an apostrophe precedes what a spreadsheet would evaluate as a formula."""
    if isinstance(value, str):
        value = clean(value)
        return f"'{value}" if value.startswith(_FORMULA) else value
    return value
