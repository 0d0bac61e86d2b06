"""Own records beside published ones, row by row, with what differs in method."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from edgebench.core import Metric, MetricDefinition, Record
from edgebench.judging import published
from edgebench.judging.readings import metric
from edgebench.profiles.references import PublishedResult, Reference
from edgebench.views import units
from edgebench.views.fields import labels
from edgebench.views.headline import written

MOST = 3
"""Own records shown beside one row: those whose method is nearest; the others are counted."""

TITLES = {"speculative": "Speculative decoding", "kvcache": "KV cache", "decoding": "Decoding strategies"}
"""Of the scenarios that have figures of their own."""


@dataclass(frozen=True)
class OwnRecord:
    """One own record beside a published row: (value, interval, share of the published) by column."""

    name: str
    record: str
    cells: tuple[tuple[str, str, str], ...]
    differs: tuple[str, ...]
    doubts: tuple[str, ...]


@dataclass(frozen=True)
class RowComparison:
    """A published row and the own records that stand for it."""

    what: str
    published: tuple[str, ...]
    note: str
    repeat: str
    own: tuple[OwnRecord, ...]
    more: int
    """Own records that stand for it too and are further from its method."""


@dataclass(frozen=True)
class Part:
    """Rows that have the same figures."""

    title: str
    columns: tuple[MetricDefinition, ...]
    rows: tuple[RowComparison, ...]


def beside(reference: Reference, records: Sequence[Record]) -> list[Part]:
    """Every row of a reference, with the newest own record of each configuration that matches it."""
    newest = [record for record in records if record.status == "ok"]
    parts = []
    for scenario, group in groupby(reference.rows, lambda row: row.scenario):
        rows = list(group)
        columns = tuple(published.compared_metrics(rows, scenario))
        title = TITLES.get(scenario) or f"Devices, engines and backends: {scenario}"
        parts.append(Part(title, columns, tuple(_row(row, newest, columns) for row in rows)))
    return parts


def others(reference: Reference, records: Sequence[Record]) -> list[Record]:
    """Own records that no row of the reference stands for."""
    good = [record for record in records if record.status == "ok"]
    return [record for record in good if not any(published.matches(row, record) for row in reference.rows)]


def _row(row: PublishedResult, records: Sequence[Record], columns: Sequence[MetricDefinition]) -> RowComparison:
    own = [record for record in records if published.matches(row, record)]
    own.sort(key=lambda r: (len(published.differences(row, r)), -_rate(r)))
    names = labels(own)
    said = (f"{row.model} {row.quantization}".strip(), row.note)  # the heading has the scenario
    return RowComparison(
        what=_joined((row.what, row.engine, row.backend), " · "),
        published=tuple(_published(row, entry) for entry in columns),
        note=_joined(said, ", "),
        repeat=row.repeat,
        own=tuple(_own(row, record, names[record.id], columns) for record in own[:MOST]),
        more=max(0, len(own) - MOST),
    )


def _rate(record: Record) -> float:
    found = metric(record, "decode_tps")
    return found.value if found else 0.0


def _joined(parts: Iterable[str], between: str) -> str:
    return between.join(part for part in parts if part)


def _published(row: PublishedResult, entry: MetricDefinition) -> str:
    gpu = row.metrics.get("peak_gpu_b")
    value = published.find_value(row, entry.name)
    if entry.name == "peak_footprint_b" and gpu is None and value:
        return f"{_text(value, entry)} ({value / 1e9:.4g} GB)"
    if entry.name == "peak_footprint_b" and gpu is not None and "peak_rss_b" in row.metrics:
        return f"{_text(row.metrics['peak_rss_b'], entry)} + {_text(gpu, entry)} GPU"
    return _text(value, entry)


def _text(value: float | None, entry: MetricDefinition) -> str:
    return "—" if value is None else written(Metric(value, entry.unit), entry)[0]


def _own(row: PublishedResult, record: Record, name: str, columns: Sequence[MetricDefinition]) -> OwnRecord:
    cells = []
    like = published.is_comparable(row, record)
    for entry in columns:
        found = metric(record, entry.name)
        theirs = published.find_value(row, entry.name)
        share = f"× {units.number(found.value / theirs)}" if like and found and theirs else ""
        cells.append((*(written(found, entry) if found else ("—", "")), share))
    doubts = tuple(dict.fromkeys(doubt.id for doubt in record.doubts))
    return OwnRecord(name, record.id, tuple(cells), tuple(published.differences(row, record)), doubts)
