"""Own records beside published ones, row by row, with what differs in method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgebench.core import Record
from edgebench.references import Published, Reference, comparable, differences, matches
from edgebench.views import units
from edgebench.views.reading import labels, metric

COLUMNS = (
    ("memory", "Memory"),
    ("load_s", "Load"),
    ("decode_tps", "Tokens/s"),
    ("s_per_token", "ms/token"),
)


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
    own: tuple[Own, ...]


def beside(reference: Reference, records: Sequence[Record]) -> list[Beside]:
    """Every row of a reference, with the newest own record of each configuration that matches it."""
    newest = [record for record in records if record.status == "ok"]
    names = labels(newest)
    found = []
    for row in reference.rows:
        own = [record for record in newest if matches(row, record)]
        what = " · ".join((row.what, row.engine, row.backend))
        said = ", ".join(part for part in (f"{row.model} {row.quantization}".strip(), row.scenario, row.note) if part)
        published = tuple(_said(row, name) for name, _ in COLUMNS)
        found.append(Beside(what, published, said, tuple(_own(row, record, names[record.id]) for record in own)))
    return found


def others(reference: Reference, records: Sequence[Record]) -> list[Record]:
    """Own records that no row of the reference stands for."""
    good = [record for record in records if record.status == "ok"]
    return [record for record in good if not any(matches(row, record) for row in reference.rows)]


def _published(row: Published, name: str) -> float | None:
    if name == "memory":
        parts = [row.metrics[part] for part in ("peak_rss_b", "peak_gpu_b") if part in row.metrics]
        return row.metrics.get("peak_footprint_b", sum(parts) if parts else None)
    return row.metrics.get(name)


def _said(row: Published, name: str) -> str:
    gpu = row.metrics.get("peak_gpu_b")
    if name == "memory" and gpu is not None and "peak_rss_b" in row.metrics:
        return f"{_text(row.metrics['peak_rss_b'], name)} + {_text(gpu, name)} GPU"
    return _text(_published(row, name), name)


def _text(value: float | None, name: str) -> str:
    if value is None:
        return "—"
    if name == "s_per_token":
        return units.number(value * 1000)
    return units.number(value) if name == "decode_tps" else units.quantity(value, "B" if name == "memory" else "s")


def _own(row: Published, record: Record, name: str) -> Own:
    cells = []
    like = comparable(row, record)
    for column, _ in COLUMNS:
        found = metric(record, "peak_footprint_b" if column == "memory" else column)
        published = _published(row, column)
        share = f"× {units.number(found.value / published)}" if like and found and published else ""
        factor = 1e-3 if column == "s_per_token" else 1.0
        between = units.interval(found) if found else ""
        if found and column == "s_per_token" and found.low is not None and found.high is not None:
            between = f"{units.number(found.low / factor)}–{units.number(found.high / factor)}"
        cells.append((_text(found.value if found else None, column), between, share))
    doubts = tuple(dict.fromkeys(doubt.id for doubt in record.doubts))
    return Own(name, record.id, tuple(cells), tuple(differences(row, record)), doubts)
