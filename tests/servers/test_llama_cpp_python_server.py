"""The llama-cpp-python server as a process: its dialect, its faults, and greedy identity on real models."""

from __future__ import annotations

import ast
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
from lab.spec_server import KEY, SpecServer
from lab.tiny import LETTERS, tiny, tiny_state

from edgebench import modelfiles
from edgebench.engines import llama_server
from edgebench.engines.llama_cpp_python import archive
from edgebench.engines.llama_server import divergence_of
from edgebench.judging import divergence
from edgebench.servers.llama_cpp_python.app import split_characters

pytestmark = pytest.mark.lab

PROMPT = "the quick brown fox"
KIND = "prompt-lookup"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny models")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[SpecServer]:
    """A tiny random model, with its own first layer as the draft: right now and then."""
    target, draft = tiny(folder / "target.gguf", seed=3), tiny(folder / "draft.gguf", seed=3, layers=1)
    with SpecServer("-m", target, "-md", draft, "-c", "256") as running:
        yield running


def events(server: SpecServer, path: str, body: dict[str, Any]) -> list[Any]:
    with server.http.stream("POST", path, json={**body, "stream": True}) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream"
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


# --- the dialect -----------------------------------------------------------------------------


def test_it_is_one_file_with_the_same_bytes_every_time_that_python_39_reads() -> None:
    assert archive() == archive()
    for path in Path(modelfiles.__file__).parent.parent.glob("servers/llama_cpp_python/*.py"):
        ast.parse(path.read_text("utf-8"), feature_version=(3, 9))


def test_version_names_the_build_and_the_instruction_sets(tmp_path: Path) -> None:
    (tmp_path / "s.pyz").write_bytes(archive())
    argv = [sys.executable, "s.pyz", "--version"]
    said = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert said.stdout.startswith(f"build: llama-cpp-python {distribution('llama-cpp-python').version}")
    assert "AVX" in said.stdout or "NEON" in said.stdout


def test_health_says_that_it_is_loading_and_then_that_it_is_ready() -> None:
    with SpecServer("-m", modelfiles.resolve("smollm2-135m-q4_1").path, "-c", "512", ready=False) as loading:
        first = loading.http.get("/health")
        assert first.status_code == 503
        assert first.json() == {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}
        assert loading.post("/completion", {"prompt": "a"})[0] == 503
        loading.wait_ready()
        assert loading.http.get("/health").json() == {"status": "ok"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_cleanly_even_where_sigint_came_ignored(folder: Path, number: int) -> None:
    with SpecServer("-m", tiny(folder / "end.gguf")) as running:
        assert running.stop(number) == 0
        assert "stopping" in running.log


def test_a_wrong_key_is_refused_and_health_needs_none(server: SpecServer) -> None:
    wrong = {"Authorization": "Bearer nonsense"}
    answer = server.http.post("/completion", json={"prompt": "a"}, headers=wrong)
    assert (answer.status_code, answer.json()["error"]["type"]) == (401, "authentication_error")
    assert server.http.get("/props", headers=wrong).status_code == 401
    assert server.http.get("/health", headers=wrong).status_code == 200
    assert KEY not in Path(f"/proc/{server.process.pid}/cmdline").read_text()


def test_the_log_has_what_llama_server_logs(server: SpecServer) -> None:
    notes = llama_server.info(server.log.splitlines())
    assert notes.backend == "cpu"
    assert {"CPU KV", "CPU compute"} <= set(notes.buffers)
    assert "system_info: n_threads = 2" in server.log


def test_props_tokenize_and_back(server: SpecServer) -> None:
    props = server.http.get("/props").json()
    assert props["default_generation_settings"]["n_ctx"] == 256
    assert props["build_info"].startswith("llama-cpp-python ")
    for text in ("abc", "ä€ö", "quick $(brown) 'fox' \"☃\" 🦊", ""):
        tokens = server.post("/tokenize", {"content": text})[1]["tokens"]
        assert server.post("/detokenize", {"tokens": tokens})[1]["content"].strip() == text


@pytest.mark.parametrize(
    ("path", "body", "code", "words"),
    [
        ("/completion", b"{not json", 400, "not JSON"),
        ("/completion", b"[1]", 400, "JSON object"),
        ("/completion", {}, 400, "prompt"),
        ("/completion", {"prompt": ""}, 200, ""),
        ("/completion", {"prompt": [1, 99999]}, 400, "'prompt' must be a list"),
        ("/completion", {"prompt": "a", "n_predict": "many"}, 400, "'n_predict'"),
        ("/completion", {"prompt": "a", "temperature": -1}, 400, "'temperature'"),
        ("/completion", {"prompt": "a", "stream": 1}, 400, "'stream'"),
        ("/completion", {"prompt": "a", "speculative.n_max": 65}, 400, "'speculative.n_max'"),
        ("/completion", {"prompt": "a", "speculative.type": "magic"}, 400, "draft-simple"),
        ("/completion", {"prompt": "a", "n_beams": 2, "speculative.n_max": 2}, 400, "without drafts"),
        ("/completion", {"prompt": [5] * 300}, 400, "exceeds the available context size"),
        ("/v1/chat/completions", {"messages": "hello"}, 400, "'messages'"),
        ("/edgebench/costs", {"prompt": [5] * 256}, 400, "no room"),
        ("/nowhere", {}, 404, "File Not Found"),
    ],
)
def test_bad_requests_are_refused_in_llama_servers_form(
    server: SpecServer, path: str, body: Any, code: int, words: str
) -> None:
    content = body if isinstance(body, bytes) else json.dumps({"n_predict": 1, **body}).encode()
    answer = server.http.post(path, content=content)
    assert answer.status_code == code, answer.text
    if code != 200:
        assert answer.json()["error"]["code"] == code
        assert words in answer.json()["error"]["message"]


def test_a_stream_is_one_chunk_a_token_with_its_time_and_an_end(server: SpecServer) -> None:
    body = {"prompt": PROMPT, "n_predict": 12, "temperature": 0, "timings_per_token": True, "speculative.n_max": 4}
    *parts, last = events(server, "/completion", {**body, "return_tokens": True})
    whole = server.ask(PROMPT, 4, 12)
    assert [token for part in parts for token in part["tokens"]] == whole["tokens"]
    assert "".join(part["content"] for part in parts) == whole["content"]
    assert [part["timings"]["predicted_n"] for part in parts] == list(range(1, 13))
    times = [part["timings"]["predicted_ms"] for part in parts]
    assert times == sorted(times)
    assert times[0] == 0
    assert (last["stop"], last["stop_type"]) == (True, "limit")
    assert last["timings"]["predicted_ms"] == times[-1]
    assert last["timings"]["draft_n"] >= last["timings"]["draft_n_accepted"]


def test_edgebenchs_own_client_understands_both_endpoints(server: SpecServer) -> None:
    for path, body in (
        ("/completion", {"prompt": PROMPT, "n_predict": 9}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 9}),
    ):
        asked = {"timings_per_token": True, "ignore_eos": True, "temperature": 0, "speculative.n_max": 3, **body}
        stream = [(float(i), event) for i, event in enumerate(events(server, path, asked)) if event != "[DONE]"]
        reply = llama_server.reply(stream, 0.0)
        assert reply.completion_tokens == 9
        assert (len(reply.token_times), reply.token_clock, reply.finish) == (9, "engine", "length")
        assert reply.draft_tokens > 0
        assert reply.prefill_tokens + reply.cached_tokens == reply.prompt_tokens > 0


def test_a_chat_without_streaming_has_the_usual_form(server: SpecServer) -> None:
    asked = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, "temperature": 0, "ignore_eos": True}
    status, found = server.post("/v1/chat/completions", asked)
    assert status == 200
    assert found["choices"][0]["message"]["role"] == "assistant"
    assert found["choices"][0]["finish_reason"] == "length"
    assert found["usage"]["completion_tokens"] == 5


def test_the_baseline_has_no_draft_figures(server: SpecServer) -> None:
    found = server.ask(PROMPT, 0)
    assert "draft_n" not in found["timings"]
    assert "speculative" not in found


def test_the_cache_is_used_as_asked(server: SpecServer) -> None:
    server.ask(PROMPT, 2)
    again, anew = server.ask(PROMPT, 2)["timings"], server.ask(PROMPT, 2, cache_prompt=False)["timings"]
    assert (again["prompt_n"], anew["cache_n"]) == (1, 0)
    assert again["cache_n"] + 1 == anew["prompt_n"]


@pytest.mark.parametrize("cut", range(9))
def test_characters_leave_whole_however_the_bytes_come(cut: int) -> None:
    data = "a€ä🦊".encode()
    first, rest = split_characters(data[:cut])
    then, left = split_characters(rest + data[cut:])
    assert (first + then, left) == ("a€ä🦊", b"")


# --- starting --------------------------------------------------------------------------------


def refused(*argv: str | Path) -> str:
    words = [sys.executable, "-m", "edgebench.servers.llama_cpp_python", "--port", "0", "--no-repack"]
    ended = subprocess.run([*words, *map(str, argv)], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stderr


def test_a_model_that_is_not_there_or_no_model_is_named(folder: Path) -> None:
    assert "no such file: nowhere.gguf" in refused("-m", "nowhere.gguf")
    (folder / "text.gguf").write_text("not a model")
    assert "failed to load model" in refused("-m", folder / "text.gguf")


def test_a_draft_with_another_vocabulary_is_refused_before_it_is_used(folder: Path) -> None:
    target, other = tiny(folder / "one.gguf"), tiny(folder / "other.gguf", pieces=[*"zyxwvutsrqponmlkjihgfedcba "])
    assert "token 259 is" in refused("-m", target, "-md", other)
    bos = tiny(folder / "bos.gguf", add_bos=False)
    assert "add-bos differs" in refused("-m", target, "-md", bos)


def test_a_taken_port_is_said_in_words_that_the_launcher_knows(server: SpecServer, folder: Path) -> None:
    port = server.http.base_url.port
    assert "Address already in use" in refused("-m", tiny(folder / "p.gguf"), "--port", str(port))


# --- the algorithm, on real decoders ---------------------------------------------------------


def same_or_tie(server: SpecServer, prompt: list[int], alone: list[int], tokens: list[int]) -> str:
    """Empty where equal; a tie in words; else the test fails."""
    status, found = server.post("/edgebench/parting", {"prompt": prompt, "one": alone, "other": tokens})
    assert status == 200, found
    if not found:
        assert alone == tokens
        return ""
    between = divergence_of(found)
    assert divergence.is_tie(between), divergence.describe(between)
    return divergence.describe(between)


@pytest.mark.parametrize("kind", ["draft-simple", "prompt-lookup"])
def test_tiny_model_greedy_tokens_are_the_targets_own_for_every_k(server: SpecServer, kind: str) -> None:
    seen = []
    for text in (PROMPT, "aaaa bbbb aaaa", "the cat and the hat and the cat"):
        prompt = server.post("/tokenize", {"content": text, "add_special": True})[1]["tokens"]
        alone = server.ask(prompt, 0, 40, ignore_eos=True)["tokens"]
        for k in range(1, 17):
            found = server.ask(prompt, k, 40, ignore_eos=True, **{"speculative.type": kind})
            seen.append(same_or_tie(server, prompt, alone, found["tokens"]))
    print("ties:", [tie for tie in seen if tie])
    assert seen.count("") > len(seen) / 2, seen


def test_real_model_greedy_tokens_are_the_targets_own_for_every_k() -> None:
    target, draft = modelfiles.resolve("smollm2-135m-f16").path, modelfiles.resolve("smollm2-135m-q4_1").path
    with SpecServer("-m", target, "-md", draft, "-c", "512") as server:
        question = {"messages": [{"role": "user", "content": "Write the insertion into an AVL tree in Python."}]}
        text = server.post("/apply-template", question)[1]["prompt"]
        prompt = server.post("/tokenize", {"content": text, "add_special": True})[1]["tokens"]
        alone = server.ask(prompt, 0, 28)["tokens"]
        seen = []
        for k in range(1, 17):
            found = server.ask(prompt, k, 28)
            seen.append(same_or_tie(server, prompt, alone, found["tokens"]))
            counts = found["speculative"]
            assert sum(counts["proposed_by_position"]) == found["timings"]["draft_n"] > 0
            assert counts["accepted_by_position"] == sorted(counts["accepted_by_position"], reverse=True)
        print("ties:", [tie for tie in seen if tie])
        lookup = server.ask(prompt, 8, 28, **{"speculative.type": "prompt-lookup"})["tokens"]
        same_or_tie(server, prompt, alone, lookup)
        without = server.ask(prompt, 0, 12, kv_cache=False, cache_prompt=False)["tokens"]
        same_or_tie(server, prompt, alone[:12], without)


def test_a_batch_smaller_than_a_draft_changes_nothing(server: SpecServer, folder: Path) -> None:
    target, draft = tiny(folder / "b.gguf", seed=3), tiny(folder / "bd.gguf", seed=3, layers=1)
    expected = server.ask(PROMPT, 0, 30, ignore_eos=True)["tokens"]
    prompt = server.post("/tokenize", {"content": PROMPT, "add_special": True})[1]["tokens"]
    with SpecServer("-m", target, "-md", draft, "-c", "256", "-b", "4", "-ub", "4") as small:
        for k in (0, 3, 4, 9, 16):
            same_or_tie(server, prompt, expected, small.ask(PROMPT, k, 30, ignore_eos=True)["tokens"])
        found = small.post("/edgebench/logits", {"prompt": PROMPT, "last": 9})[1]["logits"]
        assert [row["position"] for row in found] == list(range(len(prompt) - 9, len(prompt)))


def test_the_context_is_filled_to_the_brim(server: SpecServer) -> None:
    prompt = [1, *range(260, 286)] * 9  # 243 of 256
    alone = server.ask(prompt, 0, -1, ignore_eos=True)
    assert len(alone["tokens"]) == 256 - len(prompt) + 1
    for k in (1, 4, 16):
        found = server.ask(prompt, k, -1, ignore_eos=True)
        assert len(found["tokens"]) == len(alone["tokens"])
        assert found["stop_type"] == "limit"
        same_or_tie(server, prompt, alone["tokens"], found["tokens"])
    full = server.ask([1, *range(260, 286)] * 9 + [265] * 13, 4, -1)
    assert len(full["tokens"]) == 1


def test_sampling_repeats_by_its_seed_and_differs_by_it(server: SpecServer) -> None:
    def text(seed: int) -> list[int]:
        return list(server.ask(PROMPT, 4, 24, temperature=1.0, seed=seed, ignore_eos=True)["tokens"])

    assert text(1) == text(1)
    assert len({tuple(text(seed)) for seed in range(5)}) > 1
    assert len({tuple(text(-1)) for _ in range(5)}) > 1, "-1 is a seed drawn anew"


def test_adaptive_stop_proposes_less_where_the_draft_is_unsure(server: SpecServer) -> None:
    free = server.ask(PROMPT, 8, 40, ignore_eos=True)
    strict = server.ask(PROMPT, 8, 40, ignore_eos=True, **{"speculative.p_min": 0.95})
    assert strict["timings"].get("draft_n", 0) < free["timings"]["draft_n"]
    prompt = server.post("/tokenize", {"content": PROMPT, "add_special": True})[1]["tokens"]
    same_or_tie(server, prompt, free["tokens"], strict["tokens"])


@pytest.mark.parametrize("more", ["target", "draft"])
def test_vocabularies_may_differ_by_some_tokens_at_the_end(folder: Path, more: str) -> None:
    """As those of Code Llama 34B and 7B do: 32,000 and 32,016."""
    large = [*LETTERS, *(f"more{i}" for i in range(16))]
    target = tiny(folder / f"target-{more}.gguf", seed=3, pieces=large if more == "target" else LETTERS)
    draft = tiny(folder / f"draft-{more}.gguf", seed=4, layers=1, pieces=large if more == "draft" else LETTERS)
    with SpecServer("-m", target, "-md", draft, "-c", "256") as pair:
        prompt = pair.post("/tokenize", {"content": PROMPT, "add_special": True})[1]["tokens"]
        alone = pair.ask(prompt, 0, 60, ignore_eos=True)["tokens"]
        for k in (1, 4, 16):
            same_or_tie(pair, prompt, alone, pair.ask(prompt, k, 60, ignore_eos=True)["tokens"])
            sampled = pair.ask(prompt, k, 60, ignore_eos=True, temperature=3.0, top_k=0, top_p=1.0, seed=k)
            assert len(sampled["tokens"]) == 60
            # A draft that knows fewer tokens is silent from the first on that it doesn't know.
            assert more == "target" or sum(sampled["speculative"]["proposed_by_position"]) > 0
        assert pair.post("/edgebench/costs", {"prompt": prompt, "tokens": alone})[0] == 200


def test_a_model_with_a_state_answers_but_neither_drafts_nor_is_drafted_for(folder: Path) -> None:
    state, llama = tiny_state(folder / "state.gguf"), tiny(folder / "beside.gguf", seed=3)
    with SpecServer("-m", state, "-c", "256") as alone:
        first = alone.ask(PROMPT, 0, 12, ignore_eos=True)["tokens"]
        again = alone.ask(PROMPT, 0, 12, ignore_eos=True)
        assert again["tokens"] == first, "what it cannot forget in part it forgets as a whole"
        assert again["timings"]["cache_n"] == 0
        status, said = alone.post("/completion", {"prompt": PROMPT, "speculative.n_max": 2, "speculative.type": KIND})
        assert (status, "recurrent" in said["error"]["message"]) == (400, True)
        status, said = alone.post("/edgebench/costs", {"prompt": PROMPT, "tokens": first})
        assert (status, "recurrent" in said["error"]["message"]) == (400, True)
    for target, draft in ((state, llama), (llama, state)):
        with SpecServer("-m", target, "-md", draft, "-c", "256", ready=False) as server:
            assert server.process.wait(60) == 1
            assert "recurrent" in server.log.splitlines()[-1]


def test_a_wider_beam_finds_a_text_at_least_as_likely(server: SpecServer) -> None:
    def likelihood(tokens: list[int]) -> float:
        body = {"prompt": [*prompt, *tokens], "last": len(tokens) + 1, "top": 0}
        rows = server.post("/edgebench/logits", body)[1]["logits"]
        return float(sum(row["next_log_likelihood"] for row in rows[:-1]))

    prompt = server.post("/tokenize", {"content": PROMPT, "add_special": True})[1]["tokens"]
    greedy = server.ask(prompt, 0, 6, ignore_eos=True)["tokens"]
    narrow = server.ask(prompt, 0, 6, ignore_eos=True, n_beams=1)["tokens"]
    wide = server.ask(prompt, 0, 6, ignore_eos=True, n_beams=8)["tokens"]
    assert narrow == greedy
    assert len(wide) == 6
    assert likelihood(wide) >= likelihood(greedy) - 1e-3
    assert server.ask(prompt, 0, 6, ignore_eos=True)["tokens"] == greedy, "the plain context is back"


def test_costs_are_given_for_every_size_and_change_nothing(server: SpecServer) -> None:
    before = server.ask(PROMPT, 0)["tokens"]
    prompt = server.post("/tokenize", {"content": PROMPT, "add_special": True})[1]["tokens"]
    _, found = server.post("/edgebench/costs", {"prompt": PROMPT, "tokens": before, "repeats": 2})
    assert found["depth"] == len(prompt) + len(before) // 2
    assert set(found["verify_s"]) == {str(size) for size in range(1, 18)}
    assert all(len(taken) == 2 and min(taken) > 0 for taken in found["verify_s"].values())
    assert [len(steps) for steps in found["draft_s"]] == [8, 8]
    assert server.ask(PROMPT, 0)["tokens"] == before
    room = server.post("/edgebench/costs", {"prompt": [1] * 250, "repeats": 1})[1]
    assert list(room["verify_s"]) == ["1", "2", "3", "4", "5", "6"]
    assert [len(steps) for steps in room["draft_s"]] == [6]
    assert server.post("/edgebench/costs", {"prompt": [1] * 256})[0] == 400


def test_where_texts_part_is_found_and_weighed(server: SpecServer) -> None:
    tokens = server.ask(PROMPT, 0, 8, ignore_eos=True)["tokens"]

    def parting(other: list[int]) -> dict[str, Any]:
        body = {"prompt": PROMPT, "one": tokens, "other": other}
        return dict(server.post("/edgebench/parting", body)[1])

    assert parting(tokens) == {}
    assert parting(tokens[:5]) == {"position": 5}
    found = parting([*tokens[:3], 100, *tokens[4:]])
    assert found["position"] == 3
    assert found["gap"] > found["noise"] >= 0
    assert not divergence.is_tie(divergence_of(found))


def test_logits_agree_with_the_greedy_choice_both_ways(server: SpecServer) -> None:
    prompt = server.post("/tokenize", {"content": PROMPT, "add_special": True})[1]["tokens"]
    tokens = server.ask(prompt, 0, 8, ignore_eos=True)["tokens"]
    for single in (True, False):
        body = {"prompt": [*prompt, *tokens], "last": 9, "top": 20, "single": single, "of": [5]}
        rows = server.post("/edgebench/logits", body)[1]["logits"]
        for row, token in zip(rows, tokens, strict=False):
            likeliest = [one for one, _ in row["top"] if one != 2]  # ignore_eos leaves the end out
            assert likeliest[0] == token
            assert row["next_log_likelihood"] <= 0
