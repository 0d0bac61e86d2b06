"""One record in full, for a terminal or a text file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from edgebench.core import Record, Turn
from edgebench.judging import doubts, stats
from edgebench.judging.memory_fit import check_estimate
from edgebench.judging.readings import metrics_of
from edgebench.views import units
from edgebench.views.telemetry import telemetry_lines
from edgebench.views.text import clean, describe

_TURN_FIGURES: Sequence[tuple[str, str, Callable[[Turn], float | None]]] = (
    ("prompt", "tokens", lambda turn: turn.prompt_tokens),
    ("cached", "tokens", lambda turn: turn.cached_tokens),
    ("generated", "tokens", lambda turn: turn.completion_tokens or None),
    ("first token", "s", lambda turn: turn.ttft_s),
    ("prefill", "tokens/s", lambda turn: turn.prefill_tps),
    ("decode", "tokens/s", lambda turn: turn.decode_tps),
)


def detail(record: Record) -> str:
    """Status, figures with every round, memory, turns, doubts with remedies, facts, and the command to repeat it."""
    parts = [
        _head(record),
        _figures(record),
        columns(rows) if (rows := memory_rows(record)) else [],
        _turns(record),
        _doubts(record),
        [f"{title}: {text}" for title, text in telemetry_lines(record)],
        [f"{clean('.'.join(path))}: {clean(text)}" for path, text in flat(record.facts.document())],
        _next(record),
    ]
    return "\n\n".join("\n".join(part) for part in map(list, parts) if part) + "\n"


def _head(record: Record) -> Iterator[str]:
    name = record.run.get("name")
    yield f"{record.id}  {record.status}  {record.started}  run {record.run.get('id', '–')}" + (
        f" ({clean(str(name))})" if name else ""
    )
    yield ", ".join(f"{part} {text}" for part, text in describe(record).items())
    if record.failure:
        signal = record.failure.signal or ""
        yield f"why: {clean(record.failure.message)}" + ("" if signal in record.failure.message else f" ({signal})")
        if record.failure.hint:
            yield f"     {clean(record.failure.hint)}"
        yield from (f"   | {clean(line)}" for line in record.failure.log)
    yield from (f"note: {clean(note)}" for note in record.notes)


def _figures(record: Record) -> list[str]:
    metrics = list(metrics_of(record))
    rows = [("figure", "median", "95 % interval", "IQR", "rounds")] if metrics else []
    notes: dict[str, list[str]] = {}
    for name, metric in metrics:
        factor, _ = units.scale(metric.value, metric.unit)
        iqr = units.number(metric.iqr / factor) if metric.iqr is not None else ""
        rounds = " ".join("–" if value is None else units.number(value / factor) for value in metric.rounds)
        rows.append((clean(name), units.quantity(metric.value, metric.unit), units.interval(metric), iqr, rounds))
        for note in filter(None, metric.note.split("; ")):
            notes.setdefault(clean(note), []).append(clean(name))
    note_lines = (
        f"{names[0] if len(names) == 1 else f'{len(names)} figures'}: {note}" for note, names in notes.items()
    )
    return [*columns(rows), *note_lines]


def memory_rows(record: Record) -> list[tuple[str, ...]]:
    """Estimated and measured memory, with a header row.

    Only the estimate if nothing was measured, for example if the trial never ran; empty without an estimate.
    """
    rows: list[tuple[str, ...]] = [("memory", "estimated", "measured", "measured ÷ estimated", "source")]
    parts = check_estimate(record)
    for part in parts:
        measured_cells = (
            ("—", "—", "not reported")
            if part.actual is None
            else (
                units.quantity(part.actual, "bytes"),
                f"{part.actual / part.estimated:.2f}" if part.estimated else "—",
                part.source,
            )
        )
        rows.append((part.part, units.quantity(part.estimated, "bytes"), *measured_cells))
    if not parts:
        return []
    return rows if any(part.actual is not None for part in parts) else [row[:2] for row in rows]


def _turns(record: Record) -> list[str]:
    """Medians over the rounds of each turn, by its label."""
    turns: dict[str, list[Turn]] = {}
    for one in record.rounds:
        for turn in one.turns:
            turns.setdefault(clean(turn.label), []).append(turn)
    rows = [("turn", *(title for title, _, _ in _TURN_FIGURES))]
    for label, same in turns.items():
        cells = []
        for _, unit, read in _TURN_FIGURES:
            values = [float(value) for turn in same if (value := read(turn)) is not None]
            value = stats.median(values) if values else None
            cells.append("–" if value is None else f"{value:.0f}" if unit == "tokens" else units.quantity(value, unit))
        rows.append((label, *cells))
    return columns(rows) if turns else []


def _doubts(record: Record) -> Iterator[str]:
    """Each doubt with its detail; meaning and remedy once per type."""
    for id in dict.fromkeys(doubt.id for doubt in record.doubts):
        for doubt in record.doubts:
            if doubt.id == id:
                yield f"! {clean(id)}" + (f": {clean(doubt.detail)}" if doubt.detail else "")
        if doubt_type := doubts.DOUBT_TYPES.get(id):
            yield f"  {doubt_type.meaning} {doubt_type.remedy}"


def flat(facts: object, *path: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Nested facts as (path, text) pairs."""
    if isinstance(facts, Mapping):
        for name, inner in facts.items():
            yield from flat(inner, *path, str(name))
    elif isinstance(facts, list | tuple):
        yield path, ", ".join(map(str, facts))
    elif path and path[-1].endswith("_b") and isinstance(facts, int | float) and not isinstance(facts, bool):
        yield path, units.quantity(facts, "bytes")
    elif facts is not None:
        yield path, units.number(facts, 4) if isinstance(facts, float) else str(facts)


def _next(record: Record) -> Iterator[str]:
    if record.run.get("command"):
        yield f"command: {clean(str(record.run['command']))}"
    yield f"Next: edgebench results show {record.id} --log"


def columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows of cells as lines of text; the first column is left-aligned, the others right-aligned."""
    from rich.cells import cell_len

    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *cells in rows:
        padded = [first + " " * (widths[0] - cell_len(first))]
        padded += [" " * (width - cell_len(cell)) + cell for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join(padded).rstrip())
    return lines
