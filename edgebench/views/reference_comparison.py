"""Measured results next to published ones, row by row, with the differences in method."""

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
from edgebench.views.headline import format_value

MAX_RESULTS = 3
"""Maximum number of results per published row, most similar method first; the others are counted."""

TITLES = {"speculative": "Speculative decoding", "kvcache": "KV cache", "decoding": "Decoding strategies"}
"""Titles of scenarios with their own metrics."""


@dataclass(frozen=True)
class MeasuredResult:
    """A result next to a published row; ``cells``: (value, interval, ratio to the published value) by column."""

    name: str
    record: str
    cells: tuple[tuple[str, str, str], ...]
    differs: tuple[str, ...]
    doubts: tuple[str, ...]


@dataclass(frozen=True)
class RowComparison:
    """A published row and the results that match it."""

    title: str
    published: tuple[str, ...]
    note: str
    repeat: str
    results: tuple[MeasuredResult, ...]
    more: int
    """Number of further results, which differ more in method."""


@dataclass(frozen=True)
class Part:
    """Rows with the same columns."""

    title: str
    columns: tuple[MetricDefinition, ...]
    rows: tuple[RowComparison, ...]


def compare_rows(reference: Reference, records: Sequence[Record]) -> list[Part]:
    """All rows of a reference, each with the newest record of every configuration that matches it."""
    newest = [record for record in records if record.status == "ok"]
    parts = []
    for scenario, group in groupby(reference.rows, lambda row: row.scenario):
        rows = list(group)
        columns = tuple(published.compared_metrics(rows, scenario))
        title = TITLES.get(scenario) or f"Devices, engines and backends: {scenario}"
        parts.append(Part(title, columns, tuple(_row(row, newest, columns) for row in rows)))
    return parts


def unmatched(reference: Reference, records: Sequence[Record]) -> list[Record]:
    """Records that match no row of the reference."""
    good = [record for record in records if record.status == "ok"]
    return [record for record in good if not any(published.matches(row, record) for row in reference.rows)]


def _row(row: PublishedResult, records: Sequence[Record], columns: Sequence[MetricDefinition]) -> RowComparison:
    matching = [record for record in records if published.matches(row, record)]
    matching.sort(key=lambda r: (len(published.differences(row, r)), -_rate(r)))
    names = labels(matching)
    workload = (f"{row.model} {row.quantization}".strip(), row.note)  # the heading has the scenario
    return RowComparison(
        title=_join((row.what, row.engine, row.backend), " · "),
        published=tuple(_published(row, entry) for entry in columns),
        note=_join(workload, ", "),
        repeat=row.repeat,
        results=tuple(_measured_result(row, record, names[record.id], columns) for record in matching[:MAX_RESULTS]),
        more=max(0, len(matching) - MAX_RESULTS),
    )


def _rate(record: Record) -> float:
    rate = metric(record, "decode_tps")
    return rate.value if rate else 0.0


def _join(parts: Iterable[str], between: str) -> str:
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
    return "—" if value is None else format_value(Metric(value, entry.unit), entry)[0]


def _measured_result(
    row: PublishedResult, record: Record, name: str, columns: Sequence[MetricDefinition]
) -> MeasuredResult:
    cells = []
    is_comparable = published.is_comparable(row, record)
    for entry in columns:
        value = metric(record, entry.name)
        published_value = published.find_value(row, entry.name)
        share = (
            f"× {units.number(value.value / published_value)}" if is_comparable and value and published_value else ""
        )
        cells.append((*(format_value(value, entry) if value else ("—", "")), share))
    doubts = tuple(dict.fromkeys(doubt.id for doubt in record.doubts))
    return MeasuredResult(name, record.id, tuple(cells), tuple(published.differences(row, record)), doubts)
