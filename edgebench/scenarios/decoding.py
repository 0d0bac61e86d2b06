"""Cost of decoding strategies and variety of their texts, on the built-in prompts."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence

from edgebench.core import (
    Capability,
    Drafting,
    LikelihoodQuery,
    MetricDefinition,
    Option,
    Query,
    Reply,
    Request,
    RoundData,
    Sampling,
    ScenarioContext,
)
from edgebench.errors import EngineFailed
from edgebench.judging.metrics import rates
from edgebench.scenarios.chat import conversations

STRATEGIES: Mapping[str, tuple[str, ...]] = {
    "greedy": (),
    "beam": ("beams",),
    "temperature": ("temperature_pct",),
    "top-k": ("top_k",),
    "top-p": ("top_p_pct",),
}
"""Strategy → its options."""


def variety(tokens: Sequence[int]) -> dict[str, float]:
    """``repetition``, ``distinct_1``, ``distinct_2`` of a text; 0 repetitions if it is too short for any."""

    def grams(n: int) -> list[tuple[int, ...]]:
        return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]

    def distinct(n: int) -> float:
        ngrams = grams(n)
        return len(set(ngrams)) / len(ngrams) if ngrams else 1.0

    return {"repetition": 1 - distinct(4), "distinct_1": distinct(1), "distinct_2": distinct(2)}


def _mean_variety(name: str) -> Callable[[RoundData], float | None]:
    """Metric function: the mean of one value of ``variety`` over the generated texts."""

    def of_round(data: RoundData) -> float | None:
        values = [variety(turn.tokens)[name] for turn in data.measuring("decode") if turn.tokens is not None]
        return math.fsum(values) / len(values) if values else None

    return of_round


def _mean_log_likelihood(data: RoundData) -> float | None:
    """The mean over the texts of each one's mean over its tokens, nats per token."""
    values = [math.fsum(scores) / len(scores) for turn in data.turns if (scores := turn.log_likelihoods)]
    return math.fsum(values) / len(values) if values else None


class Decoding:
    """One strategy on the first turn of every shipped conversation; its metrics are means over the prompts."""

    requires: tuple[Capability, ...] = ("decoding-strategies", "token-likelihoods", "token-ids")
    options: Mapping[str, Option | tuple[str, ...]] = {
        "strategy": tuple(STRATEGIES),
        "beams": 2,
        "temperature_pct": 100,
        "top_k": 40,
        "top_p_pct": 90,
        "gen_tokens": 48,
    }
    helps: Mapping[str, str] = {
        "strategy": "decoding strategies",
        "beams": "width of the beam search",
        "temperature_pct": "temperature × 100",
        "top_k": "number of most likely tokens that top-k samples from",
        "top_p_pct": "cumulative probability that top-p samples from, in per cent",
        "gen_tokens": "tokens to generate",
    }
    metrics: Sequence[MetricDefinition] = (
        rates.DECODE,
        MetricDefinition(
            "log_likelihood",
            "nat/token",
            "log-likelihood",
            "mean log-likelihood of a generated token under the model's unmodified distribution (before "
            "temperature, top-k, …)",
            compute=_mean_log_likelihood,
        ),
        MetricDefinition(
            "repetition",
            "ratio",
            "repetition",
            "fraction of a text's token 4-grams that occurred earlier in it",
            compute=_mean_variety("repetition"),
        ),
        MetricDefinition(
            "distinct_1",
            "ratio",
            "distinct unigrams",
            "distinct tokens ÷ all tokens of a text",
            source="Li et al. 2016, arXiv 1510.03055",
            compute=_mean_variety("distinct_1"),
        ),
        MetricDefinition(
            "distinct_2",
            "ratio",
            "distinct bigrams",
            "distinct token bigrams ÷ all token bigrams of a text",
            source="Li et al. 2016, arXiv 1510.03055",
            compute=_mean_variety("distinct_2"),
        ),
    )

    def needs(self, options: Mapping[str, Option]) -> int:
        """Tokens of context: the longest prompt, and every beam's own text."""
        beams = int(options["beams"]) if options["strategy"] == "beam" else 1
        return 768 + beams * int(options["gen_tokens"])

    def turns(self, context: ScenarioContext) -> Generator[Request | Query, Reply, None]:
        for conversation in conversations()["conversations"]:
            messages = ({"role": "user", "content": conversation["turns"][0]},)
            strategy = str(context.options["strategy"])
            reply = yield Request(
                messages=messages,
                max_tokens=int(context.options["gen_tokens"]),
                seed=context.seed,
                temperature=_temperature(context.options),
                label=f"{strategy}, {conversation['name']}",
                drafting=Drafting(0),
                sampling=shape(context.options),
                keep_tokens=True,
            )
            answer = yield LikelihoodQuery(messages, reply.tokens)
            if not answer.log_likelihoods:
                raise EngineFailed("the engine did not report the log-likelihoods of the generated tokens")


def _temperature(options: Mapping[str, Option]) -> float:
    return 0.0 if options["strategy"] in ("greedy", "beam") else float(options["temperature_pct"]) / 100


def shape(options: Mapping[str, Option]) -> Sampling:
    """The sampling of a strategy, with everything else disabled."""
    strategy = options["strategy"]
    if strategy == "beam":
        return Sampling(beams=int(options["beams"]))
    return Sampling(
        top_k=int(options["top_k"]) if strategy == "top-k" else 0,
        top_p=float(options["top_p_pct"]) / 100 if strategy == "top-p" else 1.0,
    )
