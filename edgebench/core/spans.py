"""Stretches of time, and turns that share one: what overlaps is counted once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from edgebench.core.turn import Turn

Span = tuple[float, float]
"""Two ``time.monotonic()`` of the controller."""
Phase = Literal["prefill", "decode"]


def union(spans: Sequence[Span]) -> list[Span]:
    """The same time as disjoint spans, in order. Spans that only touch stay apart."""
    merged: list[Span] = []
    for start, end in sorted(span for span in spans if span[1] > span[0]):
        if merged and start < merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        else:
            merged.append((start, end))
    return merged


def without(spans: Sequence[Span], taken: Sequence[Span]) -> list[Span]:
    """The time of ``spans`` that is not in ``taken``."""
    rest = union(spans)
    for begin, end in taken:
        pieces = [piece for span in rest for piece in ((span[0], min(span[1], begin)), (max(span[0], end), span[1]))]
        rest = [(start, stop) for start, stop in pieces if stop > start]
    return rest


def seconds(spans: Sequence[Span]) -> float:
    """How long spans last together, overlaps counted once."""
    return sum(end - start for start, end in union(spans))


def request_span(turn: Turn) -> Span | None:
    """Request sent to last token; None where nobody noted when."""
    return (turn.sent_at, turn.ended_at) if turn.sent_at else None


def decode_span(turn: Turn) -> Span | None:
    """First token to last, by their arrival."""
    return (turn.first_token_at, turn.ended_at) if turn.sent_at and turn.first_token_at is not None else None


def concurrent(turns: Sequence[Turn], span: Callable[[Turn], Span | None] = request_span) -> list[list[Turn]]:
    """Turns in groups that overlap, directly or by way of others; one that overlaps none is a group alone."""
    groups: list[list[Turn]] = [[turn] for turn in turns if span(turn) is None]
    placed = [(found, turn) for turn in turns if (found := span(turn)) is not None]
    until = float("-inf")
    for (start, end), turn in sorted(placed, key=lambda one: one[0]):
        if start < until:
            groups[-1].append(turn)
        else:
            groups.append([turn])
        until = max(until, end)
    return groups


def busy_s(turns: Sequence[Turn], phase: Phase) -> float:
    """Seconds in which at least one of the turns was in a phase.

    A turn that overlaps no other counts by the engine's own clock. Of turns that overlap, each phase
    is placed by the arrival of the first token, and time that several share counts once.
    """
    total = 0.0
    for group in concurrent(turns):
        own = [(turn, (turn.prefill_s if phase == "prefill" else turn.decode_s) or 0.0) for turn in group]
        first = [turn.first_token_at for turn in group]
        if len(group) == 1 or None in first:
            total += sum(time for _, time in own)
        else:
            places = [(at or 0.0, time) for at, (_, time) in zip(first, own, strict=True)]
            total += seconds([(at - time, at) if phase == "prefill" else (at, at + time) for at, time in places])
    return total


def phase_spans(turns: Sequence[Turn], phase: Phase, counted: Callable[[Turn], bool] = lambda turn: True) -> list[Span]:
    """When turns were in a phase, by the arrival of tokens: disjoint spans, in order.

    A request that overlaps others may wait in a queue before it is evaluated: its prefill is then the
    engine's time before the first token. Time in which others decode counts as decode alone.
    """
    found: list[Span] = []
    for group in concurrent(turns):
        spans = [span for turn in group if counted(turn) and (span := _phase(turn, phase, alone=len(group) == 1))]
        if phase == "prefill" and len(group) > 1:
            spans = without(spans, [span for turn in group if (span := _phase(turn, "decode", alone=False))])
        found += spans
    return union(found)


def _phase(turn: Turn, phase: Phase, *, alone: bool) -> Span | None:
    first = turn.first_token_at
    if first is None:
        return None
    begin = turn.sent_at if alone or turn.prefill_s is None else max(turn.sent_at, first - turn.prefill_s)
    start, end = (begin, first) if phase == "prefill" else (first, turn.ended_at)
    return (start, end) if end > start else None
