"""Rates and times of tokens."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

from edgebench.core import MetricDefinition, RoundData, Turn
from edgebench.core.spans import busy_s, concurrent, decode_span
from edgebench.judging.stats import percentile
from edgebench.judging.steadiness import Steadiness, assess


def prefill_rate(data: RoundData) -> float | None:
    turns = [turn for turn in data.measuring("prefill") if turn.prefill_tps is not None]
    seconds = busy_s(turns, "prefill")
    return sum(turn.prefill_tokens for turn in turns) / seconds if seconds else None


def decoded(data: RoundData) -> list[Turn]:
    """The turns whose decode rate counts."""
    return [turn for turn in data.measuring("decode") if turn.decode_tps is not None]


def decode_rate(data: RoundData) -> float | None:
    turns = decoded(data)
    seconds = busy_s(turns, "decode")
    return sum(turn.completion_tokens - 1 for turn in turns) / seconds if seconds else None


def first_token(data: RoundData) -> float | None:
    return _median([turn.ttft_s for turn in data.measuring("ttft") if turn.ttft_s is not None])


def engine_first_token(data: RoundData) -> float | None:
    return _median([own for _, own in _first_tokens(data)])


def transport_overhead(data: RoundData) -> float | None:
    return _median([whole - own for whole, own in _first_tokens(data)])


def _first_tokens(data: RoundData) -> list[tuple[float, float]]:
    """By the controller's clock and by the engine's, of the turns that have both."""
    return [
        (turn.ttft_s, turn.engine_ttft_s)
        for turn in data.measuring("ttft")
        if turn.ttft_s is not None and turn.engine_ttft_s is not None
    ]


def gap_between_tokens(share: float) -> Callable[[RoundData], float | None]:
    """A quantile of the gaps between tokens."""

    def of_round(data: RoundData) -> float | None:
        gaps = [b - a for turn in decoded(data) for a, b in itertools.pairwise(turn.token_times)]
        return percentile(gaps, share) if gaps else None

    return of_round


def _median(values: Sequence[float]) -> float | None:
    return percentile(values, 0.5) if values else None


CHUNK_S = 1.0
"""Seconds of decoding that make one rate of a series."""


def steadiness(turns: Sequence[Turn]) -> Steadiness | None:
    """Burst and sustained decode rate of a round, on the wall clock: heat goes by that, not by tokens.

    None where nothing was decoded; a round too short to tell has no slope.
    """
    times: list[float] = []
    rates: list[float] = []
    for first, ticks in _streams(turns):
        begin = 0
        for index, at in enumerate(ticks):
            if at - ticks[begin] >= CHUNK_S:
                times.append(first + at)
                rates.append((index - begin) / (at - ticks[begin]))
                begin = index
    return assess(times, rates)


def _streams(turns: Sequence[Turn]) -> Iterator[tuple[float, Sequence[float]]]:
    """Tokens that come one after the other: their start, and their times from there. Turns that decode
    at the same time are one stream."""
    decoding = [turn for turn in turns if "decode" in turn.measures and turn.first_token_at is not None]
    for group in concurrent(decoding, decode_span):
        starts = [(turn.first_token_at or 0.0, turn.token_times) for turn in group]
        if len(group) == 1:
            yield starts[0]
        else:
            first = starts[0][0]
            yield first, sorted(start - first + at for start, times in starts for at in times)


def burst(data: RoundData) -> float | None:
    found = steadiness(data.turns)
    return found.burst if found and found.slope is not None else None


def sustained(data: RoundData) -> float | None:
    found = steadiness(data.turns)
    return found.sustained if found and found.slope is not None else None


DECODE = MetricDefinition(
    "decode_tps",
    "tokens/s",
    "decode rate",
    "(n − 1) ÷ time from the first to the last of n generated tokens; always computed from counts "
    "and times, never copied from a rate the engine printed; requests that overlap share their time, "
    "which counts once: their tokens together ÷ the time in which any of them decoded",
    "higher",
    short_title="decode",
    heading="tokens/s",
    headline=True,
    source="llama-bench's tg; MLPerf Inference's TPOT is its inverse",
    compute=decode_rate,
)

METRICS = (
    DECODE,
    MetricDefinition(
        "s_per_token",
        "s",
        "time per token",
        "1 ÷ decode_tps; computed for display: a record holds only the rate",
        "lower",
        short_title="per token",
        heading="ms per token",
        headline=True,
    ),
    MetricDefinition(
        "ttft_s",
        "s",
        "time to first token",
        "time from sending the request to receiving the first token, on the controller's clock; includes "
        "network and tunnelling overhead on a remote device",
        "lower",
        short_title="first token",
        headline=True,
        source="MLPerf Inference's TTFT",
        compute=first_token,
    ),
    MetricDefinition(
        "prefill_tps",
        "tokens/s",
        "prefill rate",
        "evaluated prompt tokens ÷ prompt time, both as reported by the engine; cached tokens are excluded",
        "higher",
        short_title="prefill",
        heading="prefill tokens/s",
        headline=True,
        source="llama-bench's pp",
        compute=prefill_rate,
    ),
    MetricDefinition(
        "decode_burst_tps",
        "tokens/s",
        "decode rate, burst",
        "median decode rate of the first 30 s of a round that lasts at least two minutes",
        "higher",
        compute=burst,
    ),
    MetricDefinition(
        "decode_sustained_tps",
        "tokens/s",
        "decode rate, sustained",
        "median decode rate of the last 90 s, if the interval of its slope lies within ± 1 % per 30 s; absent if the "
        "rate never settled (doubt never-settled) or scatters too much to tell (doubt steadiness-unknown)",
        "higher",
        compute=sustained,
    ),
    MetricDefinition(
        "engine_ttft_s",
        "s",
        "time to first token, engine-side",
        "time to first token measured by the engine, if it timestamps its tokens",
        "lower",
        compute=engine_first_token,
    ),
    MetricDefinition(
        "wire_s",
        "s",
        "transport overhead",
        "ttft_s − engine_ttft_s: network and tunnelling overhead",
        "lower",
        compute=transport_overhead,
    ),
    MetricDefinition(
        "itl_s_p50",
        "s",
        "inter-token latency, median",
        "median gap between consecutive generated tokens, from the engine's per-token timestamps if "
        "available, otherwise from arrival times (doubt arrival-clock)",
        "lower",
        compute=gap_between_tokens(0.5),
    ),
    MetricDefinition(
        "itl_s_p90",
        "s",
        "inter-token latency, p90",
        "90th percentile of the gap between consecutive generated tokens",
        "lower",
        compute=gap_between_tokens(0.9),
    ),
    MetricDefinition(
        "itl_s_p99",
        "s",
        "inter-token latency, p99",
        "99th percentile of the gap between consecutive generated tokens",
        "lower",
        compute=gap_between_tokens(0.99),
    ),
)
