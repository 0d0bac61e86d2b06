"""From replies to figures: every rate is recomputed here from counts and times, nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgebench.core import Json, Reply, Request
from edgebench.judging.steadiness import Steadiness, settled


def turn(request: Request, reply: Reply) -> dict[str, Json]:
    """One request and its reply as a record's turn: counts, times, and the rates of this turn.

    ``prefill_tps`` = prompt tokens evaluated ÷ prompt time; ``decode_tps`` = (n − 1) ÷ time from the
    first to the last generated token. What can't be had is absent.
    """
    told: dict[str, Any] = {
        "label": request.label,
        "measures": list(request.measures),
        "sent_at": reply.sent_at,
        "total_s": reply.total_s,
        "prompt_tokens": reply.prompt_tokens,
        "cached_tokens": reply.cached_tokens,
        "prefill_tokens": reply.prefill_tokens,
        "prefill_s": reply.prefill_s,
        "completion_tokens": reply.completion_tokens,
        "asked_tokens": request.max_tokens if request.ignore_eos else None,
        "decode_s": reply.decode_s,
        "ttft_s": reply.ttft_s,
        "engine_ttft_s": reply.engine_ttft_s,
        "token_clock": reply.token_clock,
        "token_times": [round(at, 6) for at in reply.token_times],
        "finish": reply.finish,
        "depth": reply.prompt_tokens + reply.completion_tokens,
    }
    if reply.prefill_s and reply.prefill_tokens:
        told["prefill_tps"] = reply.prefill_tokens / reply.prefill_s
    if reply.decode_s and reply.completion_tokens > 1:
        told["decode_tps"] = (reply.completion_tokens - 1) / reply.decode_s
    if reply.draft_tokens:
        told["draft_tokens"], told["draft_accepted"] = reply.draft_tokens, reply.draft_accepted
    told.update({name: reply.extra[name] for name in ("speculative", "costs", "parting") if name in reply.extra})
    if request.messages is not None:
        told["text"] = reply.text
    if request.extra.get("return_tokens"):
        told["tokens"] = list(reply.tokens)
    return {name: value for name, value in told.items() if value is not None}


def rates(turns: Sequence[dict[str, Json]]) -> dict[str, float]:
    """The rates of a round over its turns: sums of tokens over sums of time; the time to first token
    and the gaps between tokens by their distribution."""
    metrics: dict[str, float] = {}
    prefills = [t for t in turns if "prefill" in t["measures"] and "prefill_tps" in t]
    decodes = [t for t in turns if "decode" in t["measures"] and "decode_tps" in t]
    if prefills:
        metrics["prefill_tps"] = sum(t["prefill_tokens"] for t in prefills) / sum(t["prefill_s"] for t in prefills)
    if decodes:
        gaps = sum(t["completion_tokens"] - 1 for t in decodes)
        metrics["decode_tps"] = gaps / sum(t["decode_s"] for t in decodes)
        metrics.update(_gaps(decodes))
    firsts = sorted(t["ttft_s"] for t in turns if "ttft" in t["measures"] and "ttft_s" in t)
    if firsts:
        metrics["ttft_s"] = quantile(firsts, 0.5)
    both = [
        (t["ttft_s"], t["engine_ttft_s"])
        for t in turns
        if "ttft" in t["measures"] and {"ttft_s", "engine_ttft_s"} <= t.keys()
    ]
    if both:
        metrics["engine_ttft_s"] = quantile(sorted(own for _, own in both), 0.5)
        metrics["wire_s"] = quantile(sorted(whole - own for whole, own in both), 0.5)
    drafted = [t for t in decodes if "draft_tokens" in t]
    if drafted:
        accepted = sum(t["draft_accepted"] for t in drafted)
        metrics["acceptance"] = accepted / sum(t["draft_tokens"] for t in drafted)
        made = sum(t["completion_tokens"] - 1 for t in drafted)
        # Each verification yields one token of the target's own beside those it accepts.
        if made > accepted:
            metrics["tokens_per_verification"] = made / (made - accepted)
    return metrics


def _gaps(decodes: Sequence[dict[str, Json]]) -> dict[str, float]:
    gaps = sorted(b - a for t in decodes for a, b in zip(t["token_times"], t["token_times"][1:], strict=False))
    if not gaps:
        return {}
    return {f"itl_s_p{round(100 * q)}": quantile(gaps, q) for q in (0.5, 0.9, 0.99)}


def quantile(ordered: Sequence[float], q: float) -> float:
    """Quantile of sorted values by linear interpolation (Hyndman & Fan 1996, type 7)."""
    place = q * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


CHUNK_S = 1.0
"""Seconds of decoding that make one rate of a series."""


def steadiness(turns: Sequence[dict[str, Json]]) -> Steadiness | None:
    """Burst and sustained decode rate of a round, on the wall clock: heat goes by that, not by tokens.

    None where nothing was decoded; a round too short to tell has no slope.
    """
    times: list[float] = []
    rates: list[float] = []
    for turn in turns:
        if "decode" not in turn["measures"] or "ttft_s" not in turn:
            continue
        first = turn["sent_at"] + turn["ttft_s"]
        ticks = turn["token_times"]
        begin = 0
        for index, at in enumerate(ticks):
            if at - ticks[begin] >= CHUNK_S:
                times.append(first + at)
                rates.append((index - begin) / (at - ticks[begin]))
                begin = index
    return settled(times, rates)
