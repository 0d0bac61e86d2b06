"""A conversation ends, whatever its engine counts and whatever its template keeps."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab.cli import Program
from lab.tiny import tiny

from edgebench.core import ModelFile, Reply, ScenarioContext
from edgebench.scenarios.chat import Chat

COUNTS = st.integers(0, 40)


@given(ctx=st.integers(256, 4096), prompt=COUNTS, completion=COUNTS, counted=COUNTS, words=COUNTS)
def test_it_ends_whatever_the_engine_counts(ctx: int, prompt: int, completion: int, counted: int, words: int) -> None:
    model = ModelFile("m", Path("m"), "", 1, "gguf", "", "llama")
    options = {"conversations": 2, "reply_tokens": 64}
    asking = Chat().turns(ScenarioContext(model, ctx, options, 0, lambda text: counted))
    reply = Reply("word " * words, prompt_tokens=prompt, completion_tokens=completion)
    requests = 0
    with pytest.raises(StopIteration):
        next(asking)
        while True:
            requests += 1
            assert requests <= ctx
            asking.send(reply)
    assert requests >= 2


def test_replies_that_count_themselves_are_believed() -> None:
    """A template may drop what a model thought: what its engine then counts is the depth."""
    model = ModelFile("m", Path("m"), "", 1, "gguf", "", "llama")
    options = {"conversations": 1, "reply_tokens": 500}
    asking = Chat().turns(ScenarioContext(model, 4096, options, 0, lambda text: len(text.split())))
    request = next(asking)
    depth = 0
    with pytest.raises(StopIteration):
        while True:
            assert request.min_prompt_tokens is not None
            depth = request.min_prompt_tokens + 10
            request = asking.send(Reply("thoughts " * 400, prompt_tokens=depth, completion_tokens=401))
    assert depth > 4096 - 401 - 500 - 200


@pytest.mark.lab
@pytest.mark.parametrize("template", ["{{ messages[-1]['content'] }}", "{{ '' }}"])
def test_a_template_without_history_ends_and_is_doubted(edgebench: Program, template: str) -> None:
    tiny(edgebench.folder / "forgetful.gguf", template=template)
    args = ("--scenario", "chat", "--rounds", "1", "--ctx", "512", "--reply-tokens", "8", "--conversations", "1")
    record = edgebench("run", "--model", "forgetful.gguf", *args, "--json", "-").record
    assert record["status"] == "ok"
    (doubt,) = (doubt for doubt in record["doubts"] if doubt["id"] == "prompt-differs")
    assert "tokens sent, the engine counted" in doubt["detail"]
