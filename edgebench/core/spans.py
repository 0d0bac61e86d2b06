"""Spans of time, and turns that overlap: shared time counts once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from edgebench.core.turn import Turn

Span = tuple[float, float]
"""Start and end on the controller's ``time.monotonic()``."""
Phase = Literal["prefill", "decode"]


def union(spans: Sequence[Span]) -> list[Span]:
    """The same time as disjoint spans, in order. Adjacent spans are not merged."""
    merged: list[Span] = []
    for start, end in sorted(span for span in spans if span[1] > span[0]):
        if merged and start < merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        else:
            merged.append((start, end))
    return merged


def without(spans: Sequence[Span], excluded: Sequence[Span]) -> list[Span]:
    """The time of ``spans`` that is not in ``excluded``."""
    remaining = union(spans)
    for begin, end in excluded:
        pieces = [
            piece for span in remaining for piece in ((span[0], min(span[1], begin)), (max(span[0], end), span[1]))
        ]
        remaining = [(start, stop) for start, stop in pieces if stop > start]
    return remaining


def seconds(spans: Sequence[Span]) -> float:
    """Total duration of spans, overlaps counted once."""
    return sum(end - start for start, end in union(spans))


def request_span(turn: Turn) -> Span | None:
    """From sending the request to the last token; None if the time is unknown."""
    return (turn.sent_at, turn.ended_at) if turn.sent_at else None


def decode_span(turn: Turn) -> Span | None:
    """From the first token to the last, by their arrival."""
    return (turn.first_token_at, turn.ended_at) if turn.sent_at and turn.first_token_at is not None else None


def concurrent(turns: Sequence[Turn], span: Callable[[Turn], Span | None] = request_span) -> list[list[Turn]]:
    """Groups of turns that overlap directly or transitively; a turn without overlap is a group of one."""
    groups: list[list[Turn]] = [[turn] for turn in turns if span(turn) is None]
    timed = [(interval, turn) for turn in turns if (interval := span(turn)) is not None]
    until = float("-inf")
    for (start, end), turn in sorted(timed, key=lambda entry: entry[0]):
        if start < until:
            groups[-1].append(turn)
        else:
            groups.append([turn])
        until = max(until, end)
    return groups


def busy_s(turns: Sequence[Turn], phase: Phase) -> float:
    """Seconds in which at least one of the turns was in a phase.

    A turn without overlap counts by the engine's clock. For overlapping turns, the arrival of the
    first token separates the phases, and shared time counts once.
    """
    total = 0.0
    for group in concurrent(turns):
        durations = [(turn, (turn.prefill_s if phase == "prefill" else turn.decode_s) or 0.0) for turn in group]
        first = [turn.first_token_at for turn in group]
        if len(group) == 1 or None in first:
            total += sum(time for _, time in durations)
        else:
            arrivals = [(at or 0.0, time) for at, (_, time) in zip(first, durations, strict=True)]
            total += seconds([(at - time, at) if phase == "prefill" else (at, at + time) for at, time in arrivals])
    return total


def phase_spans(
    turns: Sequence[Turn], phase: Phase, is_counted: Callable[[Turn], bool] = lambda turn: True
) -> list[Span]:
    """Spans in which turns were in a phase, by the arrival of tokens: disjoint, in order.

    An overlapping request may be queued before it is evaluated, so its prefill is the engine's prefill
    time before the first token. Time in which others decode counts as decode only.
    """
    phases: list[Span] = []
    for group in concurrent(turns):
        spans = [span for turn in group if is_counted(turn) and (span := _phase(turn, phase, is_alone=len(group) == 1))]
        if phase == "prefill" and len(group) > 1:
            spans = without(spans, [span for turn in group if (span := _phase(turn, "decode", is_alone=False))])
        phases += spans
    return union(phases)


def _phase(turn: Turn, phase: Phase, *, is_alone: bool) -> Span | None:
    first = turn.first_token_at
    if first is None:
        return None
    begin = turn.sent_at if is_alone or turn.prefill_s is None else max(turn.sent_at, first - turn.prefill_s)
    start, end = (begin, first) if phase == "prefill" else (first, turn.ended_at)
    return (start, end) if end > start else None
