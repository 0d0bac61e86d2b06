"""From replies to figures: every rate is recomputed here from counts and times, nowhere else."""

from __future__ import annotations

from collections.abc import Sequence

from edgebench.core import Turn
from edgebench.judging.steadiness import Steadiness, settled


def rates(turns: Sequence[Turn]) -> dict[str, float]:
    """The rates of a round over its turns: sums of tokens over sums of time; the time to first token
    and the gaps between tokens by their distribution."""
    metrics: dict[str, float] = {}
    prefills = [(t.prefill_tokens, t.prefill_s) for t in turns if "prefill" in t.measures and t.prefill_s]
    decodes = [t for t in turns if "decode" in t.measures and t.decode_tps is not None]
    if prefill_s := sum(seconds for tokens, seconds in prefills if tokens):
        metrics["prefill_tps"] = sum(tokens for tokens, _ in prefills) / prefill_s
    if decode_s := sum(t.decode_s or 0.0 for t in decodes):
        metrics["decode_tps"] = sum(t.completion_tokens - 1 for t in decodes) / decode_s
        metrics.update(_gaps(decodes))
    metrics.update(_first_tokens(turns))
    metrics.update(_drafts(decodes))
    return metrics


def _first_tokens(turns: Sequence[Turn]) -> dict[str, float]:
    counted = [t for t in turns if "ttft" in t.measures]
    firsts = sorted(t.ttft_s for t in counted if t.ttft_s is not None)
    metrics = {"ttft_s": quantile(firsts, 0.5)} if firsts else {}
    both = [(t.ttft_s, t.engine_ttft_s) for t in counted]
    own = sorted(engine for whole, engine in both if whole is not None and engine is not None)
    wire = sorted(whole - engine for whole, engine in both if whole is not None and engine is not None)
    return metrics | ({"engine_ttft_s": quantile(own, 0.5), "wire_s": quantile(wire, 0.5)} if own else {})


def _drafts(decodes: Sequence[Turn]) -> dict[str, float]:
    drafted = [t for t in decodes if t.draft_tokens]
    if not drafted:
        return {}
    accepted = sum(t.draft_accepted or 0 for t in drafted)
    generated = sum(t.completion_tokens - 1 for t in drafted)
    metrics = {"acceptance": accepted / sum(t.draft_tokens or 0 for t in drafted)}
    # Each verification yields one token of the target's own beside those it accepts.
    if generated > accepted:
        metrics["tokens_per_verification"] = generated / (generated - accepted)
    return metrics


def _gaps(decodes: Sequence[Turn]) -> dict[str, float]:
    gaps = sorted(b - a for t in decodes for a, b in zip(t.token_times, t.token_times[1:], strict=False))
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


def steadiness(turns: Sequence[Turn]) -> Steadiness | None:
    """Burst and sustained decode rate of a round, on the wall clock: heat goes by that, not by tokens.

    None where nothing was decoded; a round too short to tell has no slope.
    """
    times: list[float] = []
    rates: list[float] = []
    for turn in turns:
        first, ticks = turn.first_token_at, turn.token_times
        if "decode" not in turn.measures or first is None:
            continue
        begin = 0
        for index, at in enumerate(ticks):
            if at - ticks[begin] >= CHUNK_S:
                times.append(first + at)
                rates.append((index - begin) / (at - ticks[begin]))
                begin = index
    return settled(times, rates)
