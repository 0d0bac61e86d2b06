"""What was sent and what the engine counted are compared for the prompt too."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lab.records import record

from edgebench.core import Doubt, Facts, Reply, Request, Round, Turn
from edgebench.judging import judge


def judged(turn: Turn, **facts: object) -> list[Doubt]:
    base = replace(record(), rounds=(Round(0, "", {}, (turn,)),))
    if facts:
        base = replace(base, facts=Facts.from_document({"engine": {"backend": "cpu", **facts}}))
    return [doubt for doubt in judge.judge(base) if doubt.id == "prompt-differs"]


@pytest.mark.parametrize(("counted", "doubted"), [(512, False), (513, True), (500, True), (0, True)])
def test_exact_token_ids_are_counted_exactly(counted: int, doubted: bool) -> None:
    turn = Turn.from_reply(Request(tokens=(1,) * 512, label="pp512"), Reply("", prompt_tokens=counted))
    expected = [Doubt("prompt-differs", f"pp512: 512 tokens sent, the engine counted {counted}")] if doubted else []
    assert judged(turn) == expected


@pytest.mark.parametrize(("counted", "doubted"), [(230, False), (95, False), (60, True)])
def test_messages_must_be_in_the_prompt(counted: int, doubted: bool) -> None:
    """A template adds tokens, and may merge a few; it must not drop what was said."""
    sent = Request(messages=({"role": "user", "content": "…"},), min_prompt_tokens=100, label="turn 3")
    turn = Turn.from_reply(sent, Reply("", prompt_tokens=counted))
    assert [doubt.detail for doubt in judged(turn)] == (
        [f"turn 3: at least 100 tokens sent, the engine counted {counted}"] if doubted else []
    )


def test_nothing_is_compared_where_nothing_was_counted() -> None:
    message = ({"role": "user", "content": "…"},)
    assert judged(Turn.from_reply(Request(messages=message), Reply("", prompt_tokens=3))) == []
    assert judged(Turn.from_reply(Request(tokens=(1, 2), measures=()), Reply("", prompt_tokens=3))) == []
    estimated = Turn.from_reply(Request(messages=message, min_prompt_tokens=100), Reply("", prompt_tokens=3))
    assert judged(estimated, token_counts="estimated from text") == []
