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


def decode_turns(data: RoundData) -> list[Turn]:
    """The turns whose decode rate counts."""
    return [turn for turn in data.measuring("decode") if turn.decode_tps is not None]


def decode_rate(data: RoundData) -> float | None:
    turns = decode_turns(data)
    seconds = busy_s(turns, "decode")
    return sum(turn.completion_tokens - 1 for turn in turns) / seconds if seconds else None


def time_to_first_token(data: RoundData) -> float | None:
    return _median([turn.ttft_s for turn in data.measuring("ttft") if turn.ttft_s is not None])


def engine_time_to_first_token(data: RoundData) -> float | None:
    return _median([engine_s for _, engine_s in _first_tokens(data)])


def transport_overhead(data: RoundData) -> float | None:
    return _median([controller_s - engine_s for controller_s, engine_s in _first_tokens(data)])


def _first_tokens(data: RoundData) -> list[tuple[float, float]]:
    """(seconds on the controller's clock, on the engine's clock) of the turns that have both."""
    return [
        (turn.ttft_s, turn.engine_ttft_s)
        for turn in data.measuring("ttft")
        if turn.ttft_s is not None and turn.engine_ttft_s is not None
    ]


def token_gap_percentile(share: float) -> Callable[[RoundData], float | None]:
    """A quantile (``share``, 0…1) of the gaps between tokens, seconds."""

    def of_round(data: RoundData) -> float | None:
        gaps = [b - a for turn in decode_turns(data) for a, b in itertools.pairwise(turn.token_times)]
        return percentile(gaps, share) if gaps else None

    return of_round


def _median(values: Sequence[float]) -> float | None:
    return percentile(values, 0.5) if values else None


CHUNK_S = 1.0
"""Seconds of decoding per value of a series of rates."""


def steadiness(turns: Sequence[Turn]) -> Steadiness | None:
    """Burst and sustained decode rate of a round by wall-clock time, which heat depends on.

    None if nothing was decoded; a round that is too short has no slope.
    """
    times: list[float] = []
    rates: list[float] = []
    for origin, ticks in _streams(turns):
        start = 0
        for index, time_s in enumerate(ticks):
            if time_s - ticks[start] >= CHUNK_S:
                times.append(origin + time_s)
                rates.append((index - start) / (time_s - ticks[start]))
                start = index
    return assess(times, rates)


def _streams(turns: Sequence[Turn]) -> Iterator[tuple[float, Sequence[float]]]:
    """Streams of consecutive tokens: (start, token times relative to it), seconds. Turns that decode at the same
    time are one stream."""
    decoding = [turn for turn in turns if "decode" in turn.measures and turn.first_token_at is not None]
    for group in concurrent(decoding, decode_span):
        starts = [(turn.first_token_at or 0.0, turn.token_times) for turn in group]
        if len(group) == 1:
            yield starts[0]
        else:
            origin = starts[0][0]
            yield origin, sorted(start - origin + time_s for start, times in starts for time_s in times)


def burst_rate(data: RoundData) -> float | None:
    steady = steadiness(data.turns)
    return steady.burst if steady and steady.slope is not None else None


def sustained_rate(data: RoundData) -> float | None:
    steady = steadiness(data.turns)
    return steady.sustained if steady and steady.slope is not None else None


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
        compute=time_to_first_token,
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
        compute=burst_rate,
    ),
    MetricDefinition(
        "decode_sustained_tps",
        "tokens/s",
        "decode rate, sustained",
        "median decode rate of the last 90 s, if the interval of its slope lies within ± 1 % per 30 s; absent if the "
        "rate never settled (doubt never-settled) or scatters too much to tell (doubt steadiness-unknown)",
        "higher",
        compute=sustained_rate,
    ),
    MetricDefinition(
        "engine_ttft_s",
        "s",
        "time to first token, engine-side",
        "time to first token measured by the engine, if it timestamps its tokens",
        "lower",
        compute=engine_time_to_first_token,
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
        compute=token_gap_percentile(0.5),
    ),
    MetricDefinition(
        "itl_s_p90",
        "s",
        "inter-token latency, p90",
        "90th percentile of the gap between consecutive generated tokens",
        "lower",
        compute=token_gap_percentile(0.9),
    ),
    MetricDefinition(
        "itl_s_p99",
        "s",
        "inter-token latency, p99",
        "99th percentile of the gap between consecutive generated tokens",
        "lower",
        compute=token_gap_percentile(0.99),
    ),
)
