"""One greedy generation with K draft tokens at once; K = 0 is the target alone."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence

from edgebench.core import (
    CostQuery,
    Drafting,
    MetricDefinition,
    ModelFacts,
    Option,
    Query,
    Reply,
    Request,
    ScenarioContext,
)
from edgebench.errors import EngineFailed
from edgebench.judging.metrics import speculation

PROMPT = (
    "Write a Python class for an AVL tree with a method that inserts a key and keeps the tree balanced. "
    "Explain each rotation in comments."
)
MESSAGES = ({"role": "user", "content": PROMPT},)

SIZES = (1, 2, 3, 5, 9, 17)
"""Numbers of tokens whose verification at once is timed beside the target alone; K + 1 lies on a line
between two of them."""

REPEATS = 3
"""How often each cost is measured in a round."""

MODEL_FREE = ("prompt-lookup", "ngram-")
"""Beginnings of the names of drafts that may well find nothing to propose."""


class Speculative:
    """The 2023 question: does this draft help this target? Asked for code, as code repeats itself.

    ``sweep`` says ``k``, ``draft`` (a model's name, a way to draft without one, or ``none`` for the
    target alone) and ``p_min`` (a draft ends below that probability).
    """

    options: Mapping[str, Option] = {"gen_tokens": 192}
    helps: Mapping[str, str] = {"gen_tokens": "tokens to generate"}
    metrics: Sequence[MetricDefinition] = speculation.METRICS

    def needs(self, options: Mapping[str, Option]) -> int:
        """Tokens of context it takes."""
        return int(options["gen_tokens"]) + 128

    def turns(self, setting: ScenarioContext) -> Generator[Request | Query, Reply, None]:
        options = setting.options
        k, draft = int(options.get("k", 0)), str(options.get("draft", ""))
        drafting = Drafting(
            k,
            draft if draft.startswith(MODEL_FREE) else "",
            float(options["p_min"]) if "p_min" in options else None,
        )
        reply = yield Request(
            messages=MESSAGES,
            max_tokens=int(options["gen_tokens"]),
            ignore_eos=True,
            reuse_cache=True,
            seed=setting.seed,
            measures=("decode",),
            label=f"k = {k}",
            drafting=drafting,
            keep_tokens="token-ids" in setting.capabilities,
        )
        if k and not reply.draft_tokens and not draft.startswith(MODEL_FREE):
            if "p_min" in options:
                raise EngineFailed(
                    f"no draft token was proposed: {draft} was never as sure as --p-min {options['p_min']} asks, "
                    "or the engine does not speculate",
                    "Try a lower --p-min, or none.",
                )
            raise EngineFailed(
                f"silent non-speculation: asked for {k} draft tokens at once, the engine proposed none",
                "Look for `failed to initialize speculative decoding context` in its log (`edgebench results show`): "
                "the vocabularies may not match, or this build needs --spec-type.",
            )
        if "speculation-costs" in setting.capabilities and draft and not k:
            yield _costs(reply, output_share(setting.model.facts))


def _costs(reply: Reply, head: float) -> CostQuery:
    """What verifying and drafting cost in the midst of what was just generated."""
    # All but the last token, which no memory may hold: the context may be full of them.
    return CostQuery(MESSAGES, reply.tokens[:-1] or reply.text, SIZES, REPEATS, head)


def output_share(facts: ModelFacts) -> float:
    """The output layer's share of the arithmetic of one token, 0…1, from a model's header.

    Its matrix has vocabulary × embedding elements; that of the input is only looked up, and may be
    the same. Of a mixture of experts, whose token uses fewer of the others, it is at least this.
    """
    output = float((facts.vocabulary or 0) * (facts.embedding or 0))
    tied = facts.weights_read_bytes == facts.weights_bytes or facts.experts
    used = (facts.parameters or 0.0) - (0.0 if tied else output)
    return output / used if used > output else 0.0
