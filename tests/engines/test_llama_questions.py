"""What llama-server can be made to tell: costs and the weight of a parting, held against llama-cpp-python's own."""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lab.spec_server import SpecServer
from lab.tiny import tiny

from edgebench import profiles
from edgebench.bench.launcher import EngineProcess
from edgebench.core import Client, CostQuery, Divergence, DivergenceQuery, Launch, ModelFacts, Request, SpeculationCosts
from edgebench.device.session import Session
from edgebench.engines import llama_queries
from edgebench.engines.llama_server import body, divergence_of
from edgebench.engines.llamacpp import LlamaCpp
from edgebench.errors import EngineFailed
from edgebench.judging import divergence as divergence_rules
from edgebench.scenarios.speculative import MESSAGES, output_share

pytestmark = pytest.mark.lab

LENGTH = 24


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Most tokens are whole characters: of others the server tells nothing alone.
    pieces = ["".join(three) for three in itertools.product(string.ascii_lowercase, repeat=3)]
    path = tmp_path_factory.mktemp("models") / "target.gguf"
    return tiny(path, seed=3, width=64, pieces=[*string.ascii_letters, " ", *pieces])


@pytest.fixture(scope="module")
def client(model: Path) -> Iterator[Client]:
    """The bundled llama-server with it."""
    with Session(profiles.load_device("local")) as session:
        engine = LlamaCpp(session, LlamaCpp.Config())
        engine.prepare()
        with EngineProcess(
            session, engine, Launch(str(model), options={"ctx": 512, "threads": 1, "repack": False})
        ) as live:
            yield live.client


def costs(client: Client, text: str, sizes: tuple[int, ...], repeats: int = 1, share: float = 0.0) -> SpeculationCosts:
    reply = llama_queries.answer(client, CostQuery(MESSAGES, text, sizes, repeats, share), rereads=False)
    assert reply.costs is not None
    return reply.costs


def divergence_between(client: Client, one: str, other: str) -> Divergence:
    reply = llama_queries.answer(client, DivergenceQuery(MESSAGES, one, other), rereads=False)
    assert reply.divergence is not None
    return reply.divergence


def text_of(client: Client) -> str:
    path, fields = body(Request(messages=MESSAGES, max_tokens=LENGTH, ignore_eos=True))
    status, found = client.post(path, {**fields, "stream": False})
    assert status == 200, found
    return str(found["choices"][0]["message"]["content"])


def test_verification_is_timed_at_every_size_in_the_midst_of_the_text(client: Client) -> None:
    text = "the quick brown fox jumps over the lazy dog and the cat and the hat and the bat sat"
    measured = costs(client, text, (1, 2, 5, 9), 3, 0.5)
    assert not measured.absent
    assert list(measured.verify_s) == [1, 2, 5, 9]
    assert all(len(values) == 3 for values in measured.verify_s.values())
    assert all(value > 0 for values in measured.verify_s.values() for value in values)
    assert "its share of the arithmetic, 50%" in measured.method
    assert measured.depth > len(text) // 2


def test_a_server_that_cannot_be_asked_for_costs_gets_a_reason_and_no_figure(client: Client) -> None:
    class Old:
        def post(self, path: str, fields: Any) -> tuple[int, Any]:
            return (404, {"error": "File Not Found"}) if path == "/apply-template" else client.post(path, fields)

    refused = costs(Old(), "abc def", (1, 2))  # type: ignore[arg-type]
    assert refused == SpeculationCosts(absent="/apply-template returned 404: {'error': 'File Not Found'}")
    assert "too short" in costs(client, "aa", (1, 2)).absent


def test_a_cache_that_does_not_keep_the_text_is_noticed(client: Client) -> None:
    class Forgetful:
        def post(self, path: str, fields: Any) -> tuple[int, Any]:
            return client.post(path, {**fields, "cache_prompt": False} if path == "/completion" else fields)

    text = "the quick brown fox jumps over the lazy dog"
    assert "uncached ones" in costs(Forgetful(), text, (1, 2)).absent  # type: ignore[arg-type]


def test_a_parting_weighs_as_much_as_llama_cpp_python_says(client: Client, model: Path) -> None:
    own = text_of(client)
    with SpecServer("-m", model, "-c", "512") as server:
        fields = {
            "messages": [dict(one) for one in MESSAGES],
            "ignore_eos": True,
            "temperature": 0,
            "max_tokens": LENGTH,
        }
        _, found = server.post("/v1/chat/completions", {**fields, "return_tokens": True})
        tokens = found["tokens"]
        place = 5
        assert own.startswith(server.text(tokens[: place + 1]))
        prompt = server.post("/apply-template", {"messages": fields["messages"]})[1]["prompt"]
        question = {"prompt": prompt, "tokens": tokens[:place], "top": 4}
        _, row = server.post("/edgebench/logits", question)
        second = next(one for one, _ in row["logits"][0]["top"] if one not in (tokens[place], 2) and one > 258)
        other = [*tokens[:place], second]
        _, found = server.post("/edgebench/parting", {"messages": fields["messages"], "one": tokens, "other": other})
        expected = divergence_of(found)
        said = divergence_between(client, own, server.text(other) + "x")
    assert said.position == expected.position == place
    assert said.gap == pytest.approx(expected.gap, abs=0.02)
    assert said.noise is not None
    assert said.noise < 0.02
    assert divergence_rules.is_tie(said) == divergence_rules.is_tie(expected)


def test_equal_texts_do_not_part_and_a_shorter_one_only_ends(client: Client) -> None:
    own = text_of(client)
    assert divergence_between(client, own, own[:5]).gap is None


def test_without_log_probabilities_nothing_is_made_up(client: Client) -> None:
    class Silent:
        def post(self, path: str, fields: Any) -> tuple[int, Any]:
            status, found = client.post(path, fields)
            return status, {key: value for key, value in found.items() if key != "completion_probabilities"}

    with pytest.raises(EngineFailed, match="log-probabilities"):
        divergence_between(Silent(), text_of(client), "something else")  # type: ignore[arg-type]


def test_the_output_layers_share_comes_from_the_header() -> None:
    tied = ModelFacts(vocabulary=100, embedding=10, parameters=5000, weights_bytes=9, weights_read_bytes=9)
    assert output_share(tied) == 0.2
    assert output_share(replace(tied, parameters=6000, weights_read_bytes=8)) == 0.2
    assert output_share(ModelFacts()) == 0.0
