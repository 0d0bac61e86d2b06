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

VERIFICATION_SIZES = (1, 2, 3, 5, 9, 17)
"""Numbers of tokens whose verification is timed with the baseline; K + 1 is interpolated between two of
them."""

REPEATS = 3
"""Number of measurements of each cost in a round."""

MODEL_FREE = ("prompt-lookup", "ngram-")
"""Prefixes of drafting methods that may legitimately propose nothing."""


class Speculative:
    """Measures whether a draft speeds up a target, as in 2023. The prompt requests code, which repeats itself.

    ``sweep`` sets ``k``, ``draft`` (a model's name, a method without a model, or ``none`` for the target
    alone) and ``p_min`` (a draft ends below that probability).
    """

    options: Mapping[str, Option] = {"gen_tokens": 192}
    helps: Mapping[str, str] = {"gen_tokens": "tokens to generate"}
    metrics: Sequence[MetricDefinition] = speculation.METRICS

    def needs(self, options: Mapping[str, Option]) -> int:
        """Tokens of context."""
        return int(options["gen_tokens"]) + 128

    def turns(self, context: ScenarioContext) -> Generator[Request | Query, Reply, None]:
        options = context.options
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
            seed=context.seed,
            measures=("decode",),
            label=f"k = {k}",
            drafting=drafting,
            keep_tokens="token-ids" in context.capabilities,
        )
        if k and not reply.draft_tokens and not draft.startswith(MODEL_FREE):
            if "p_min" in options:
                raise EngineFailed(
                    f"no draft token was proposed: {draft} never reached the probability --p-min "
                    f"{options['p_min']}, or the engine does not speculate",
                    "Try a lower --p-min, or none.",
                )
            raise EngineFailed(
                f"silent non-speculation: {k} draft tokens requested, the engine proposed none",
                "Look for `failed to initialize speculative decoding context` in its log (`edgebench results show`): "
                "the vocabularies may not match, or this build needs --spec-type.",
            )
        if "speculation-costs" in context.capabilities and draft and not k:
            yield _costs(reply, output_share(context.model.facts))


def _costs(reply: Reply, share: float) -> CostQuery:
    """Query for the costs of verifying and drafting in the middle of the generated text."""
    # Without the last token, as the context may be full.
    return CostQuery(MESSAGES, reply.tokens[:-1] or reply.text, VERIFICATION_SIZES, REPEATS, share)


def output_share(facts: ModelFacts) -> float:
    """The output layer's share of the arithmetic of one token, 0…1, from a model's header.

    Its matrix has vocabulary × embedding elements; the input's is only looked up, and may be the same.
    For a mixture of experts, whose tokens use only part of the weights, this is a lower bound.
    """
    output = float((facts.vocabulary or 0) * (facts.embedding or 0))
    is_tied = facts.weights_read_bytes == facts.weights_bytes or facts.experts
    arithmetic = (facts.parameters or 0.0) - (0.0 if is_tied else output)
    return output / arithmetic if arithmetic > output else 0.0
