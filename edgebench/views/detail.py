"""One record in full, for a terminal or a text file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from edgebench.core import Record, Turn
from edgebench.judging import doubts, stats
from edgebench.judging.memory_fit import check_estimate
from edgebench.judging.readings import metrics_of
from edgebench.views import units
from edgebench.views.telemetry import sampled
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
    """Status, figures with every round, doubts and what to do, turns, facts, how to repeat it."""
    parts = [
        _head(record),
        _figures(record),
        columns(rows) if (rows := needs(record)) else [],
        _turns(record),
        _doubts(record),
        [f"{what}: {text}" for what, text in sampled(record)],
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
    named = list(metrics_of(record))
    rows = [("figure", "median", "95 % interval", "IQR", "rounds")] if named else []
    notes: dict[str, list[str]] = {}
    for name, one in named:
        factor, _ = units.scale(one.value, one.unit)
        iqr = units.number(one.iqr / factor) if one.iqr is not None else ""
        rounds = " ".join("–" if value is None else units.number(value / factor) for value in one.rounds)
        rows.append((clean(name), units.quantity(one.value, one.unit), units.interval(one), iqr, rounds))
        for note in filter(None, one.note.split("; ")):
            notes.setdefault(clean(note), []).append(clean(name))
    said = (f"{names[0] if len(names) == 1 else f'{len(names)} figures'}: {note}" for note, names in notes.items())
    return [*columns(rows), *said]


def needs(record: Record) -> list[tuple[str, ...]]:
    """What the model was estimated to need beside what it came to, under a row of headings.

    The estimate alone where nothing was found, as of a trial that never ran; empty without an estimate.
    """
    rows: list[tuple[str, ...]] = [("memory", "estimated", "found", "found ÷ estimated", "by")]
    parts = check_estimate(record)
    for one in parts:
        found = (
            ("—", "—", "not told")
            if one.actual is None
            else (
                units.quantity(one.actual, "bytes"),
                f"{one.actual / one.estimated:.2f}" if one.estimated else "—",
                one.source,
            )
        )
        rows.append((one.part, units.quantity(one.estimated, "bytes"), *found))
    if not parts:
        return []
    return rows if any(one.actual is not None for one in parts) else [row[:2] for row in rows]


def _turns(record: Record) -> list[str]:
    """Medians over the rounds of each turn that has a name of its own."""
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
    """Each with what was seen; what it means and what to do once a kind."""
    for id in dict.fromkeys(doubt.id for doubt in record.doubts):
        for doubt in record.doubts:
            if doubt.id == id:
                yield f"! {clean(id)}" + (f": {clean(doubt.detail)}" if doubt.detail else "")
        if kind := doubts.DOUBT_TYPES.get(id):
            yield f"  {kind.meaning} {kind.remedy}"


def flat(facts: object, *path: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Nested facts as (names, text), each in one line."""
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
        yield f"made by: {clean(str(record.run['command']))}"
    yield f"Next: edgebench results show {record.id} --log"


def columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows of cells as lines of text; the first column to the left, figures to the right."""
    from rich.cells import cell_len

    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        padded = [first + " " * (widths[0] - cell_len(first))]
        padded += [" " * (width - cell_len(cell)) + cell for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join(padded).rstrip())
    return lines
