"""Prefill and decode at exact token counts, the way llama-bench's ``pp`` and ``tg`` do."""

from __future__ import annotations

import random
from collections.abc import Generator, Mapping

from edgebench.core import Option, Reply, Request, Setting


class Throughput:
    """One request that is all prefill, one that is all decode, each at ``depth`` tokens of context.

    Prompts are random token ids, the same in every round of a seed: neither tokenizer nor sampler
    has a say, and the counts are exact.
    """

    options: Mapping[str, Option] = {"prompt_tokens": 512, "gen_tokens": 128, "depth": 0}

    def needs(self, options: Mapping[str, Option]) -> int:
        """Tokens of context it takes."""
        return int(options["depth"]) + max(int(options["prompt_tokens"]), 1) + int(options["gen_tokens"])

    def turns(self, setting: Setting) -> Generator[Request, Reply, None]:
        prompt, gen, depth = (int(setting.options[name]) for name in ("prompt_tokens", "gen_tokens", "depth"))
        ids = random_tokens(setting, depth + max(prompt, 1))
        filled = ids[:depth]
        common = {"ignore_eos": True, "seed": setting.seed, "reuse_cache": depth > 0}
        if depth:
            yield Request(tokens=filled, max_tokens=1, label=f"fill {depth}", measures=(), **common)
        if prompt:
            yield Request(tokens=ids, max_tokens=1, label=f"pp{prompt}", measures=("prefill", "ttft"), **common)
        if gen:
            start = filled or ids[:1]
            yield Request(tokens=start, max_tokens=gen, label=f"tg{gen}", measures=("decode",), **common)


def random_tokens(setting: Setting, count: int) -> tuple[int, ...]:
    """``count`` ids drawn evenly from the model's vocabulary, reproducible by the seed."""
    vocabulary = int(setting.model.facts["vocabulary"])
    draw = random.Random(setting.seed)  # noqa: S311 - a workload, not a secret
    return tuple(draw.randrange(vocabulary) for _ in range(count))
