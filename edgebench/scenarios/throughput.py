"""Prefill and decode at exact token counts, the way llama-bench's ``pp`` and ``tg`` do."""

from __future__ import annotations

import random
from collections.abc import Generator, Mapping

from edgebench.core import Option, Reply, Request, ScenarioContext
from edgebench.errors import EngineFailed


class Throughput:
    """One request that is all prefill, one that is all decode, each at ``depth`` tokens of context.

    Prompts are random token ids, the same in every round of a seed: neither tokenizer nor sampler
    has a say, and the counts are exact.
    """

    options: Mapping[str, Option] = {"prompt_tokens": 512, "gen_tokens": 128, "depth": 0}
    helps: Mapping[str, str] = {
        "prompt_tokens": "prompt tokens to evaluate",
        "gen_tokens": "tokens to generate",
        "depth": "context depth: tokens in the context before the prompt or the generation",
    }

    def needs(self, options: Mapping[str, Option]) -> int:
        """Tokens of context it takes."""
        return int(options["depth"]) + 1 + max(int(options["prompt_tokens"]), int(options["gen_tokens"]))

    def turns(self, setting: ScenarioContext) -> Generator[Request, Reply, None]:
        prompt, gen, depth = (int(setting.options[name]) for name in ("prompt_tokens", "gen_tokens", "depth"))
        ids = random_tokens(setting, depth + max(prompt, 1))
        filled = ids[:depth]

        def request(label: str, tokens: tuple[int, ...], generate: int, *measures: str) -> Request:
            return Request(
                tokens=tokens,
                max_tokens=generate,
                ignore_eos=True,
                reuse_cache=depth > 0,
                seed=setting.seed,
                label=label,
                measures=measures,
            )

        if depth:
            yield request(f"fill {depth}", filled, 1)
        if prompt:
            yield request(f"pp{prompt}", ids, 1, "prefill", "ttft")
        if gen:
            yield request(f"tg{gen}", filled or ids[:1], gen, "decode")


def random_tokens(setting: ScenarioContext, count: int) -> tuple[int, ...]:
    """``count`` ids drawn evenly from the model's vocabulary, reproducible by the seed."""
    vocabulary = setting.model.facts.vocabulary
    if not vocabulary:
        raise EngineFailed(f"{setting.model.name} does not say how many tokens its vocabulary has")
    draw = random.Random(setting.seed)  # noqa: S311 - a workload, not a secret
    return tuple(draw.randrange(vocabulary) for _ in range(count))
