"""What a KV cache saves: one greedy generation with it, and the same without."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence

from edgebench.core import MetricDefinition, Option, Reply, Request, ScenarioContext
from edgebench.errors import EngineFailed
from edgebench.judging import divergence
from edgebench.scenarios.speculative import PROMPT


class KvCache:
    """The same tokens twice; without the cache the whole text is evaluated anew for each of them.

    ``token_times`` of the turns hold the time of every token.
    """

    engines = ("llama-cpp-python",)
    options: Mapping[str, Option] = {"gen_tokens": 64}
    helps: Mapping[str, str] = {"gen_tokens": "tokens that are generated"}
    metrics: Sequence[MetricDefinition] = (
        MetricDefinition(
            "with_cache_s",
            "s",
            "time with KV cache",
            "time from prompt evaluation to the last token of one greedy generation, on the engine's clock",
            "lower",
            short_title="with cache",
        ),
        MetricDefinition(
            "without_cache_s",
            "s",
            "time without KV cache",
            "time for the same generation when the whole text is re-evaluated for every token",
            "lower",
            short_title="without cache",
        ),
        MetricDefinition(
            "cache_speedup",
            "×",
            "speed-up by the KV cache",
            "without_cache_s ÷ with_cache_s",
            "higher",
            short_title="speed-up",
        ),
    )

    def needs(self, options: Mapping[str, Option]) -> int:
        """Tokens of context it takes."""
        return int(options["gen_tokens"]) + 128

    def turns(self, setting: ScenarioContext) -> Generator[Request, Reply, Mapping[str, float]]:
        messages = ({"role": "user", "content": PROMPT},)

        def request(label: str, cached: bool) -> Request:
            return Request(
                messages=messages,
                max_tokens=int(setting.options["gen_tokens"]),
                ignore_eos=True,
                seed=setting.seed,
                measures=("prefill", "decode") if cached else (),
                label=label,
                extra={"kv_cache": cached, "speculative.n_max": 0, "return_tokens": True},
            )

        with_cache = yield request("with KV cache", True)
        without = yield request("without KV cache", False)
        if with_cache.tokens != without.tokens:
            one, other = list(with_cache.tokens), list(without.tokens)
            reply = yield Request(
                messages=messages, measures=(), label="tie", extra={"ask": "parting", "one": one, "other": other}
            )
            parting = reply.extra["parting"]
            if not divergence.is_tie(parting):
                raise EngineFailed(f"the tokens differ without the KV cache, {divergence.described(parting)}")
        took, took_without = _seconds(with_cache), _seconds(without)
        return {
            "with_cache_s": took,
            "without_cache_s": took_without,
            "cache_speedup": took_without / took,
        }


def _seconds(reply: Reply) -> float:
    """By the engine's clock: the prompt, and from the first generated token to the last."""
    return (reply.prefill_s or 0.0) + (reply.decode_s or 0.0)
