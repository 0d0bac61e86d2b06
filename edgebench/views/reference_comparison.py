"""Own records beside published ones, row by row, with what differs in method."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from edgebench.core import Record
from edgebench.judging import metrics
from edgebench.profiles.references import Published, Reference, comparable, differences, matches
from edgebench.views import units
from edgebench.views.fields import labels, metric

MOST = 3
"""Own records shown beside one row: those whose method is nearest; the others are counted."""

Columns = tuple[tuple[str, str], ...]
"""Metric and heading."""

LEAD: Columns = (
    ("peak_footprint_b", "Memory"),
    ("load_s", "Load"),
    ("decode_tps", "Tokens/s"),
    ("s_per_token", "ms/token"),
)
OF_SCENARIO: dict[str, tuple[str, Columns]] = {
    "speculative": ("Speculative decoding", (*LEAD, ("acceptance", "Acceptance"), ("speedup", "Speed-up"))),
    "kvcache": (
        "KV cache",
        (("with_cache_s", "With cache"), ("without_cache_s", "Without"), ("cache_speedup", "Speed-up")),
    ),
    "decoding": (
        "Decoding strategies",
        (
            ("decode_tps", "Tokens/s"),
            ("log_likelihood", "Log-likelihood"),
            ("repetition", "Repetition"),
            ("distinct_2", "Distinct pairs"),
        ),
    ),
}
"""Title and columns of the scenarios that have figures of their own."""


@dataclass(frozen=True)
class Own:
    """One own record beside a published row: (value, interval, share of the published) by column."""

    name: str
    record: str
    cells: tuple[tuple[str, str, str], ...]
    differs: tuple[str, ...]
    doubts: tuple[str, ...]


@dataclass(frozen=True)
class Beside:
    """A published row and the own records that stand for it."""

    what: str
    published: tuple[str, ...]
    note: str
    repeat: str
    own: tuple[Own, ...]
    more: int
    """Own records that stand for it too and are further from its method."""


@dataclass(frozen=True)
class Part:
    """Rows that have the same figures."""

    title: str
    columns: Columns
    rows: tuple[Beside, ...]


def beside(reference: Reference, records: Sequence[Record]) -> list[Part]:
    """Every row of a reference, with the newest own record of each configuration that matches it."""
    newest = [record for record in records if record.status == "ok"]
    parts = []
    for (title, columns), rows in groupby(reference.rows, _kind):
        parts.append(Part(title, columns, tuple(_beside(row, newest, columns) for row in rows)))
    return parts


def others(reference: Reference, records: Sequence[Record]) -> list[Record]:
    """Own records that no row of the reference stands for."""
    good = [record for record in records if record.status == "ok"]
    return [record for record in good if not any(matches(row, record) for row in reference.rows)]


def _kind(row: Published) -> tuple[str, Columns]:
    return OF_SCENARIO.get(row.scenario) or (f"Devices, engines and backends: {row.scenario}", LEAD)


def _beside(row: Published, records: Sequence[Record], columns: Columns) -> Beside:
    own = [record for record in records if matches(row, record)]
    own.sort(key=lambda r: (len(differences(row, r)), -(found.value if (found := metric(r, "decode_tps")) else 0.0)))
    names = labels(own)
    said = (f"{row.model} {row.quantization}".strip(), row.note)  # the heading has the scenario
    return Beside(
        what=_joined((row.what, row.engine, row.backend), " · "),
        published=tuple(_said(row, name) for name, _ in columns),
        note=_joined(said, ", "),
        repeat=row.repeat,
        own=tuple(_own(row, record, names[record.id], columns) for record in own[:MOST]),
        more=max(0, len(own) - MOST),
    )


def _joined(parts: Iterable[str], between: str) -> str:
    return between.join(part for part in parts if part)


def _published(row: Published, name: str) -> float | None:
    given = row.metrics
    if name == "peak_footprint_b" and name not in given:
        parts = [given[part] for part in ("peak_rss_b", "peak_gpu_b") if part in given]
        return sum(parts) if parts else None
    if name == "cache_speedup" and {"with_cache_s", "without_cache_s"} <= given.keys():
        return given["without_cache_s"] / given["with_cache_s"]
    return given.get(name)


def _said(row: Published, name: str) -> str:
    gpu = row.metrics.get("peak_gpu_b")
    if name == "peak_footprint_b" and gpu is None and (value := _published(row, name)):
        return f"{_text(value, name)} ({value / 1e9:.4g} GB)"
    if name == "peak_footprint_b" and gpu is not None and "peak_rss_b" in row.metrics:
        return f"{_text(row.metrics['peak_rss_b'], name)} + {_text(gpu, name)} GPU"
    return _text(_published(row, name), name)


def _text(value: float | None, name: str) -> str:
    if value is None:
        return "—"
    if name in ("speedup", "cache_speedup"):
        return f"{units.number(value)} ×"
    if name == "s_per_token":
        return units.number(value * 1000)
    if name in ("decode_tps", "log_likelihood"):
        return units.number(value)
    return units.quantity(value, metrics.find(name).unit)


def _own(row: Published, record: Record, name: str, columns: Columns) -> Own:
    cells = []
    like = comparable(row, record)
    for column, _ in columns:
        found = metric(record, column)
        published = _published(row, column)
        share = f"× {units.number(found.value / published)}" if like and found and published else ""
        between = units.interval(found) if found else ""
        if found and found.low is not None and found.high is not None and column == "s_per_token":
            between = f"{units.number(found.low * 1000)}–{units.number(found.high * 1000)}"
        cells.append((_text(found.value if found else None, column), between, share))
    doubts = tuple(dict.fromkeys(doubt.id for doubt in record.doubts))
    return Own(name, record.id, tuple(cells), tuple(differences(row, record)), doubts)
