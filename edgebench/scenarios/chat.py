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
"""What a chat template may put around a user's turn, at the most."""


class Chat:
    """The method of 2023: several long conversations, context 4096, each to near the limit."""

    options: Mapping[str, Option] = {"conversations": 2, "reply_tokens": 256}
    helps: Mapping[str, str] = {
        "conversations": "number of built-in conversations",
        "reply_tokens": "maximum length of a reply, in tokens",
    }

    def needs(self, options: Mapping[str, Option]) -> int:
        """Tokens of context it takes: one turn. Raises ``UsageError`` for more than there are."""
        there, asked = len(conversations()["conversations"]), int(options["conversations"])
        if asked > there:
            raise UsageError(f"--conversations: {asked} were asked for, and there are {there}", f"Give 1..{there}.")
        return int(options["reply_tokens"]) + 128

    def turns(self, setting: ScenarioContext) -> Generator[Request, Reply, None]:
        shipped = conversations()
        for number, conversation in enumerate(shipped["conversations"][: int(setting.options["conversations"])], 1):
            said = itertools.chain(conversation["turns"], itertools.cycle(shipped["follow_ups"]))
            yield from _hold(setting, f"{number} {conversation['name']}", said)


def _hold(setting: ScenarioContext, name: str, said: Iterator[str]) -> Generator[Request, Reply, None]:
    """One conversation, until the next turn might not fit."""
    longest = int(setting.options["reply_tokens"])
    messages: list[Mapping[str, str]] = []
    depth = sent = total = 0
    for turn in itertools.count(1):
        text = next(said)
        tokens = _at_least(setting.count_tokens(text), text)
        if depth + tokens + TEMPLATE_TOKENS + longest > setting.ctx:
            return
        sent += tokens
        messages.append({"role": "user", "content": text})
        reply = yield Request(
            messages=tuple(messages),
            min_prompt_tokens=sent,
            max_tokens=longest,
            reuse_cache=True,
            seed=setting.seed,
            label=f"conversation {name}, turn {turn}",
        )
        total += tokens + _at_least(reply.completion_tokens, reply.text)
        depth = reply.prompt_tokens + reply.completion_tokens
        if not keeps_messages(reply.prompt_tokens, sent):
            # The template keeps no history, or the engine miscounts (doubt prompt-differs): the
            # conversation still ends, by what was sent and answered.
            depth = max(depth, total)
        messages.append({"role": "assistant", "content": reply.text})


def _at_least(counted: int, text: str) -> int:
    """Tokens of a text, by an engine that may count too few: at least one a word, and one at all."""
    return max(counted, len(text.split()), 1)


@cache
def conversations() -> dict[str, Any]:
    """The shipped conversations: ``conversations`` (name, kind, turns) and ``follow_ups``."""
    import yaml

    shipped: dict[str, Any] = yaml.safe_load((files("edgebench") / "data" / "conversations.yaml").read_text("utf-8"))
    return shipped
