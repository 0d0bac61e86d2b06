"""Prefill and decode at exact token counts, like llama-bench's ``pp`` and ``tg``."""

from __future__ import annotations

import random
from collections.abc import Generator, Mapping

from edgebench.core import Option, Reply, Request, ScenarioContext
from edgebench.errors import EngineFailed


class Throughput:
    """One request that is all prefill, one that is all decode, each at ``depth`` tokens of context.

    Prompts are random token IDs, the same in every round of a seed, so that counts are exact and
    independent of tokenizer and sampler.
    """

    options: Mapping[str, Option] = {"prompt_tokens": 512, "gen_tokens": 128, "depth": 0}
    helps: Mapping[str, str] = {
        "prompt_tokens": "prompt tokens to evaluate",
        "gen_tokens": "tokens to generate",
        "depth": "context depth: tokens in the context before the prompt or the generation",
    }

    def needs(self, options: Mapping[str, Option]) -> int:
        """Tokens of context."""
        return int(options["depth"]) + 1 + max(int(options["prompt_tokens"]), int(options["gen_tokens"]))

    def turns(self, context: ScenarioContext) -> Generator[Request, Reply, None]:
        prompt_tokens, gen_tokens, depth = (
            int(context.options[name]) for name in ("prompt_tokens", "gen_tokens", "depth")
        )
        ids = random_tokens(context, depth + max(prompt_tokens, 1))
        context_ids = ids[:depth]

        def request(label: str, tokens: tuple[int, ...], generate: int, *measures: str) -> Request:
            return Request(
                tokens=tokens,
                max_tokens=generate,
                ignore_eos=True,
                reuse_cache=depth > 0,
                seed=context.seed,
                label=label,
                measures=measures,
            )

        if depth:
            yield request(f"fill {depth}", context_ids, 1)
        if prompt_tokens:
            yield request(f"pp{prompt_tokens}", ids, 1, "prefill", "ttft")
        if gen_tokens:
            yield request(f"tg{gen_tokens}", context_ids or ids[:1], gen_tokens, "decode")


def random_tokens(context: ScenarioContext, count: int) -> tuple[int, ...]:
    """``count`` IDs from the model's vocabulary, uniformly random and reproducible by the seed."""
    vocabulary = context.model.facts.vocabulary
    if not vocabulary:
        raise EngineFailed(f"{context.model.name} has an unknown vocabulary size")
    rng = random.Random(context.seed)  # noqa: S311 - a workload, not a secret
    return tuple(rng.randrange(vocabulary) for _ in range(count))
