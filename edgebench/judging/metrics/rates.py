"""Rates and times of tokens."""

from __future__ import annotations

from edgebench.core import MetricDefinition

DECODE = MetricDefinition(
    "decode_tps",
    "tokens/s",
    "decode rate",
    "(n − 1) ÷ time from the first to the last of n generated tokens; always computed from counts "
    "and times, never copied from a rate the engine printed",
    "higher",
    short_title="decode",
    heading="tokens/s",
    headline=True,
    source="llama-bench's tg; MLPerf Inference's TPOT is its inverse",
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
    ),
    MetricDefinition(
        "decode_burst_tps",
        "tokens/s",
        "decode rate, burst",
        "median decode rate of the first 30 s of a round that lasts at least two minutes",
        "higher",
    ),
    MetricDefinition(
        "decode_sustained_tps",
        "tokens/s",
        "decode rate, sustained",
        "median decode rate of the last 90 s, if the rate changes by less than 1 % per 30 s or by no "
        "more than chance; absent if it never settled (doubt never-settled)",
        "higher",
    ),
    MetricDefinition(
        "engine_ttft_s",
        "s",
        "time to first token, engine-side",
        "time to first token measured by the engine, if it timestamps its tokens",
        "lower",
    ),
    MetricDefinition(
        "wire_s",
        "s",
        "transport overhead",
        "ttft_s − engine_ttft_s: network and tunnelling overhead",
        "lower",
    ),
    MetricDefinition(
        "itl_s_p50",
        "s",
        "inter-token latency, median",
        "median gap between consecutive generated tokens, from the engine's per-token timestamps if "
        "available, otherwise from arrival times (doubt arrival-clock)",
        "lower",
    ),
    MetricDefinition(
        "itl_s_p90",
        "s",
        "inter-token latency, p90",
        "90th percentile of the gap between consecutive generated tokens",
        "lower",
    ),
    MetricDefinition(
        "itl_s_p99",
        "s",
        "inter-token latency, p99",
        "99th percentile of the gap between consecutive generated tokens",
        "lower",
    ),
)
