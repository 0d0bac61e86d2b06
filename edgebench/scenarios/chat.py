"""Conversations up to near the context limit: each turn builds on the last reply."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from edgebench.core import Option, Reply, Request, ScenarioContext
from edgebench.core.turn import keeps_messages
from edgebench.errors import UsageError

TEMPLATE_TOKENS = 24
"""Upper bound of the tokens that a chat template adds to a user's turn."""


class Chat:
    """The method of 2023: several long conversations, context 4096, each to near the limit."""

    options: Mapping[str, Option] = {"conversations": 2, "reply_tokens": 256}
    helps: Mapping[str, str] = {
        "conversations": "number of built-in conversations",
        "reply_tokens": "maximum length of a reply, in tokens",
    }

    def needs(self, options: Mapping[str, Option]) -> int:
        """Tokens of context: one turn. Raises ``UsageError`` for more conversations than available."""
        available, requested = len(conversations()["conversations"]), int(options["conversations"])
        if requested > available:
            raise UsageError(
                f"--conversations must be between 1 and {available}, not {requested}", f"Give 1..{available}."
            )
        return int(options["reply_tokens"]) + 128

    def turns(self, context: ScenarioContext) -> Generator[Request, Reply, None]:
        document = conversations()
        for index, conversation in enumerate(document["conversations"][: int(context.options["conversations"])], 1):
            user_texts = itertools.chain(conversation["turns"], itertools.cycle(document["follow_ups"]))
            yield from _converse(context, f"{index} {conversation['name']}", user_texts)


def _converse(context: ScenarioContext, name: str, user_texts: Iterator[str]) -> Generator[Request, Reply, None]:
    """One conversation, until the next turn might not fit."""
    max_reply = int(context.options["reply_tokens"])
    messages: list[Mapping[str, str]] = []
    depth = sent_tokens = total_tokens = 0
    for turn in itertools.count(1):
        text = next(user_texts)
        tokens = _at_least(context.count_tokens(text), text)
        if depth + tokens + TEMPLATE_TOKENS + max_reply > context.ctx:
            return
        sent_tokens += tokens
        messages.append({"role": "user", "content": text})
        reply = yield Request(
            messages=tuple(messages),
            min_prompt_tokens=sent_tokens,
            max_tokens=max_reply,
            reuse_cache=True,
            seed=context.seed,
            label=f"conversation {name}, turn {turn}",
        )
        total_tokens += tokens + _at_least(reply.completion_tokens, reply.text)
        depth = reply.prompt_tokens + reply.completion_tokens
        if not keeps_messages(reply.prompt_tokens, sent_tokens):
            # The template keeps no history, or the engine miscounts (doubt prompt-differs): use the
            # tokens sent and received, so that the conversation ends.
            depth = max(depth, total_tokens)
        messages.append({"role": "assistant", "content": reply.text})


def _at_least(count: int, text: str) -> int:
    """Lower bound for an engine that counts too few tokens: one per word, and at least one."""
    return max(count, len(text.split()), 1)


@cache
def conversations() -> dict[str, Any]:
    """The shipped conversations: ``conversations`` (name, kind, turns) and ``follow_ups``."""
    import yaml

    document: dict[str, Any] = yaml.safe_load((files("edgebench") / "data" / "conversations.yaml").read_text("utf-8"))
    return document
