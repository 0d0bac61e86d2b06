"""Benefit of the KV cache: one greedy generation with it, and the same without."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence

from edgebench.core import (
    Capability,
    DivergenceQuery,
    Drafting,
    MetricDefinition,
    Option,
    Query,
    Reply,
    Request,
    RoundData,
    ScenarioContext,
)
from edgebench.errors import EngineFailed
from edgebench.judging import divergence
from edgebench.scenarios.speculative import PROMPT

WITH, WITHOUT = "with KV cache", "without KV cache"
"""Labels of the two generations."""


def _seconds(data: RoundData, label: str) -> float | None:
    """Prefill plus decode time of the turn with this label, seconds on the engine's clock."""
    turn = next((turn for turn in data.turns if turn.label == label), None)
    return None if turn is None else (turn.prefill_s or 0.0) + (turn.decode_s or 0.0)


def _with_cache(data: RoundData) -> float | None:
    return _seconds(data, WITH)


def _without_cache(data: RoundData) -> float | None:
    return _seconds(data, WITHOUT)


def _speedup(data: RoundData) -> float | None:
    with_cache_s, without_cache_s = _with_cache(data), _without_cache(data)
    return without_cache_s / with_cache_s if with_cache_s and without_cache_s is not None else None


class KvCache:
    """The same tokens twice; without the cache the whole text is evaluated again for each of them.

    ``token_times`` of the turns hold the time of every token.
    """

    requires: tuple[Capability, ...] = ("no-kv-cache", "token-ids", "text-divergence")
    options: Mapping[str, Option] = {"gen_tokens": 64}
    helps: Mapping[str, str] = {"gen_tokens": "tokens to generate"}
    metrics: Sequence[MetricDefinition] = (
        MetricDefinition(
            "with_cache_s",
            "s",
            "time with KV cache",
            "time from prompt evaluation to the last token of one greedy generation, on the engine's clock",
            "lower",
            short_title="with cache",
            compute=_with_cache,
        ),
        MetricDefinition(
            "without_cache_s",
            "s",
            "time without KV cache",
            "time for the same generation when the whole text is re-evaluated for every token",
            "lower",
            short_title="without cache",
            compute=_without_cache,
        ),
        MetricDefinition(
            "cache_speedup",
            "×",
            "speed-up by the KV cache",
            "without_cache_s ÷ with_cache_s",
            "higher",
            short_title="speed-up",
            compute=_speedup,
        ),
    )

    def needs(self, options: Mapping[str, Option]) -> int:
        """Tokens of context."""
        return int(options["gen_tokens"]) + 128

    def turns(self, context: ScenarioContext) -> Generator[Request | Query, Reply, None]:
        messages = ({"role": "user", "content": PROMPT},)

        def request(label: str, kv_cache: bool) -> Request:
            return Request(
                messages=messages,
                max_tokens=int(context.options["gen_tokens"]),
                ignore_eos=True,
                seed=context.seed,
                measures=("prefill", "decode") if kv_cache else (),
                label=label,
                drafting=Drafting(0),
                kv_cache=kv_cache,
                keep_tokens=True,
            )

        with_cache = yield request(WITH, True)
        without_cache = yield request(WITHOUT, False)
        if with_cache.tokens != without_cache.tokens:
            reply = yield DivergenceQuery(messages, with_cache.tokens, without_cache.tokens)
            if reply.divergence is None or not divergence.is_tie(reply.divergence):
                position = (
                    divergence.describe(reply.divergence)
                    if reply.divergence
                    else "and the engine does not report the position"
                )
                raise EngineFailed(f"the tokens differ without the KV cache, {position}")
