"""Time that several requests share counts once, and where nothing overlaps nothing changes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from edgebench.core import ModelFacts, RoundData, Turn
from edgebench.core.spans import Span, busy_s, concurrent, phase_spans, seconds, union, without
from edgebench.judging.metrics import bandwidth, rates

SPANS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)).map(lambda pair: (min(pair), max(pair))), max_size=8)


def covered(spans: Sequence[Span]) -> set[int]:
    """The whole seconds that lie in spans with whole bounds: the plain way to count."""
    return {second for start, end in spans for second in range(int(start), int(end))}


@given(SPANS, SPANS)
def test_a_union_holds_every_second_once(spans: list[Span], others: list[Span]) -> None:
    merged = union(spans)
    assert covered(merged) == covered(spans)
    assert seconds(spans) == len(covered(spans))
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(merged))
    assert covered(without(spans, others)) == covered(spans) - covered(others)


TIMES = st.tuples(st.integers(0, 30), st.integers(0, 5), st.integers(1, 5), st.integers(1, 8))
"""When it was sent, how long it waited, how long its prefill and its decode took."""


def turn(sent: int, wait: int, prefill: int, decode: int, tokens: int = 9) -> Turn:
    return Turn(
        measures=("prefill", "decode", "ttft"),
        sent_at=1000.0 + sent,
        total_s=float(wait + prefill + decode),
        ttft_s=float(wait + prefill),
        prefill_s=float(prefill),
        prefill_tokens=100,
        prefill_tps=100 / prefill,
        completion_tokens=tokens,
        decode_s=float(decode),
        decode_tps=(tokens - 1) / decode,
        token_times=tuple(decode * index / (tokens - 1) for index in range(tokens)),
    )


@given(st.lists(TIMES, min_size=1, max_size=6))
def test_no_time_of_turns_is_counted_twice(times: list[tuple[int, int, int, int]]) -> None:
    turns = [turn(*one) for one in times]
    begin, end = min(one.sent_at for one in turns), max(one.ended_at for one in turns)
    for phase, own in (("prefill", "prefill_s"), ("decode", "decode_s")):
        busy = busy_s(turns, phase)  # type: ignore[arg-type]
        each = [getattr(one, own) for one in turns]
        assert max(each) <= busy <= min(sum(each), end - begin)
    decode, prefill = phase_spans(turns, "decode"), phase_spans(turns, "prefill")
    assert not covered(decode) & covered(prefill)
    assert len(covered(decode)) == seconds([(one.ended_at - (one.decode_s or 0), one.ended_at) for one in turns])
    assert sorted(map(id, turns)) == sorted(id(one) for group in concurrent(turns) for one in group)


@given(st.lists(TIMES, min_size=1, max_size=6))
def test_turns_one_after_the_other_count_as_they_are(times: list[tuple[int, int, int, int]]) -> None:
    turns: list[Turn] = []
    for _, wait, prefill, decode in times:
        sent = int(turns[-1].ended_at) - 1000 if turns else 1
        turns.append(turn(sent, wait, prefill, decode))
    assert busy_s(turns, "decode") == sum(one.decode_s or 0 for one in turns)
    assert busy_s(turns, "prefill") == sum(one.prefill_s or 0 for one in turns)
    assert phase_spans(turns, "prefill") == [(one.sent_at, one.first_token_at) for one in turns]
    assert phase_spans(turns, "decode") == [(one.first_token_at, one.ended_at) for one in turns]
    assert [len(group) for group in concurrent(turns)] == [1] * len(turns)


def test_two_equal_streams_at_once_are_twice_as_fast_together() -> None:
    one, two = turn(0, 0, 2, 8), turn(0, 0, 2, 8)
    together = RoundData([one, two])
    assert rates.decode_rate(together) == 2 * (one.decode_tps or 0)
    assert rates.prefill_rate(together) == 2 * (one.prefill_tps or 0)


def test_requests_that_queue_are_as_fast_as_one() -> None:
    """An engine with one slot: the second waits, and waiting is neither prefill nor decode."""
    one, two = turn(0, 0, 2, 8), turn(0, 10, 2, 8)
    together = RoundData([one, two])
    assert rates.decode_rate(together) == one.decode_tps
    assert rates.prefill_rate(together) == one.prefill_tps
    assert together.spans("prefill") == [(1000.0, 1002.0), (1010.0, 1012.0)]


def test_streams_at_once_read_the_weights_together() -> None:
    """The bandwidth used by one of several streams is not known, and so is absent."""
    model = ModelFacts(weights_bytes=1e9)
    alone = RoundData([turn(0, 0, 2, 8)], model=model, bytes_per_s=1e10)
    assert len(bandwidth.utilisation_by_depth(alone)) == 1
    both = RoundData([turn(0, 0, 2, 8), turn(1, 0, 2, 8)], model=model, bytes_per_s=1e10)
    assert bandwidth.utilisation_by_depth(both) == []


def test_tokens_of_streams_at_once_are_one_series() -> None:
    lone = rates.steadiness([turn(0, 0, 1, 200, tokens=2001)])
    both = rates.steadiness([turn(0, 0, 1, 200, tokens=2001), turn(0, 0, 1, 200, tokens=2001)])
    assert lone is not None
    assert both is not None
    assert both.burst / lone.burst > 1.9
