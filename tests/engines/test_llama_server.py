"""llama-server's own words: its answers, its log, its --help. Texts in recorded/llama-server/source.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab.paths import recorded_llama_server

from edgebench.core import Drafting, Launch, server_sent_events
from edgebench.core.wire import split_lines
from edgebench.engines import llama_server
from edgebench.engines.llamacpp import flags, help_flags, instruction_sets, version
from edgebench.errors import EngineFailed, Unreadable, UsageError


def events(blocks: list[tuple[float, bytes]]) -> Iterator[tuple[float, Any]]:
    return server_sent_events(split_lines(blocks))


MIB = 2**20


def told(name: str, sent_at: float = 100.0):
    return llama_server.reply(events([(sent_at + 0.5, recorded_llama_server(name).encode())]), sent_at)


def test_completion_by_the_engines_own_times() -> None:
    reply = told("b10434-completion.txt")
    assert reply.completion_tokens == len(reply.tokens) == len(reply.token_times) == 4
    assert reply.text.startswith("-to")
    assert (reply.prompt_tokens, reply.cached_tokens, reply.prefill_tokens) == (5, 0, 5)
    assert reply.prefill_s == pytest.approx(0.025958)
    assert reply.token_clock == "engine"
    assert reply.token_times[0] == 0.0
    assert reply.decode_s == reply.token_times[-1] > 0
    assert reply.ttft_s == pytest.approx(0.5)
    assert reply.finish == "length"


def test_chat_counts_what_was_cached() -> None:
    reply = told("b10434-chat.txt")
    assert reply.completion_tokens == 3
    assert reply.text == "Hello! How"
    assert reply.prompt_tokens == reply.cached_tokens + reply.prefill_tokens == 31
    assert reply.finish == "length"


@given(st.lists(st.integers(1, 400), min_size=1, max_size=30))
def test_a_block_of_bytes_is_not_an_event(cuts: list[int]) -> None:
    data = recorded_llama_server("b10434-chat.txt").encode()
    blocks, at = [], 0
    for number, cut in enumerate(cuts):
        blocks.append((float(number), data[at : at + cut]))
        at += cut
    blocks.append((float(len(cuts)), data[at:]))
    whole = [event for _, event in events([(0.0, data)])]
    assert [event for _, event in events(blocks)] == whole
    times = [at for at, _ in events(blocks)]
    assert times == sorted(times)


def test_builds_that_tell_their_times_once_are_timed_by_arrival() -> None:
    stream = [(10.0 + n, {"content": "a", "stop": False}) for n in range(3)]
    timings = {"prompt_n": 5, "prompt_ms": 50.0, "predicted_n": 3, "predicted_ms": 2000.0}
    reply = llama_server.reply([*stream, (12.1, {"content": "", "stop": True, "timings": timings})], 9.0)
    assert reply.token_clock == "arrival"
    assert reply.token_times == (0.0, 1.0, 2.0)
    assert reply.decode_s == 2.0
    assert reply.ttft_s == 1.0


def test_several_tokens_of_one_speculative_step_share_a_time() -> None:
    def chunk(n: int, ms: float) -> dict[str, object]:
        return {"content": "a" * n, "timings": {"prompt_n": 1, "prompt_ms": 1.0, "predicted_n": n, "predicted_ms": ms}}

    reply = llama_server.reply([(1.0, chunk(1, 0.0)), (2.0, chunk(4, 30.0)), (3.0, chunk(6, 60.0))], 0.0)
    assert reply.token_times == pytest.approx((0.0, 0.03, 0.03, 0.03, 0.06, 0.06))


@pytest.mark.parametrize(
    ("event", "error"),
    [
        ({"error": {"message": "the prompt is too long"}}, EngineFailed),
        ({"content": "a"}, Unreadable),
        (["a"], Unreadable),
    ],
)
def test_answers_that_are_none(event: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        llama_server.reply([(0.0, event)], 0.0)


def test_notes_of_a_cpu_build_with_repacked_weights() -> None:
    notes = llama_server.info(recorded_llama_server("b10434-load.txt").splitlines())
    assert notes.backend == "cpu"
    assert (notes.layers_offloaded, notes.layers) == (0, 31)
    assert notes.buffers["AMX model"] == pytest.approx(95.34 * MIB, abs=1)
    assert notes.buffers["CPU_Mapped model"] == pytest.approx(92.10 * MIB, abs=1)
    assert notes.buffers["CPU KV"] == pytest.approx(11.25 * MIB, abs=1)


def test_notes_of_two_gpus_in_2024() -> None:
    notes = llama_server.info(recorded_llama_server("cuda-2024.txt").splitlines())
    assert notes.backend == "cuda"
    assert (notes.layers_offloaded, notes.layers) == (41, 41)
    assert notes.buffers["CUDA1 model"] == pytest.approx(13989.53 * MIB, abs=1)
    assert notes.buffers["CUDA_Host output"] == pytest.approx(1.95 * MIB, abs=1)


def test_a_silent_fall_back_to_the_cpu_is_seen() -> None:
    assert llama_server.info(recorded_llama_server("fell-back-2024.txt").splitlines()).backend == "cpu"


def test_pinned_host_memory_is_the_cpus() -> None:
    assert llama_server.info(["load_tensors:    CUDA_Host model buffer size =   100.00 MiB"]).backend == "cpu"


def test_the_context_that_is_allocated_is_read_back() -> None:
    """b11549 with ``-c 1000``, and the second line as a draft's context follows."""
    log = [
        "0.00.904.463 I llama_context: n_ctx                 = 1024",
        "0.00.904.491 I llama_context: n_batch               = 256",
        "0.01.204.463 I llama_context: n_ctx                 = 512",
    ]
    assert llama_server.info(log).kv_capacity == 1024
    assert llama_server.info(["llama_new_context_with_model: n_ctx      = 4096"]).kv_capacity == 4096
    assert llama_server.info(log[1:2]).kv_capacity is None


def test_a_log_without_words_leaves_the_backend_unknown() -> None:
    assert llama_server.info(["", "\x1b[2J", "x" * 10**6]).backend is None


def test_flags_are_chosen_from_the_help_text() -> None:
    known = help_flags(recorded_llama_server("b10434-help.txt"))
    argv = flags(Launch("/a model.gguf", options={"ctx": 4096, "batch": 16, "threads": 4}), known)
    assert argv[argv.index("-m") + 1] == "/a model.gguf"
    assert argv[argv.index("-ub") + 1] == "16"
    assert argv[argv.index("-ngl") : argv.index("-ngl") + 4] == ["-ngl", "0", "--device", "none"]
    for name in argv:
        if name.startswith("-") and not name[1:].isdigit():
            assert name in known


def test_an_older_build_gets_the_names_it_knows() -> None:
    known = frozenset({"-m", "--model", "-np", "-c", "-ngl", "--no-webui", "-md", "--draft-max", "-lv"})
    argv = flags(
        Launch("m", options={"gpu_layers": "all", "ctx": 512}, backend="cuda", draft="d", drafting=Drafting(4)), known
    )
    assert "--no-webui" in argv
    assert argv[argv.index("--draft-max") + 1] == "4"
    assert "-fit" not in argv
    with pytest.raises(UsageError, match="--draft-p-min"):
        flags(Launch("m", draft="d", drafting=Drafting(4, p_min=0.5)), known)
    for name in ("--spec-draft-p-min", "--draft-p-min"):
        argv = flags(Launch("m", draft="d", drafting=Drafting(4, p_min=0.5)), known | {name})
        assert argv[argv.index(name) + 1] == "0.5"
    with pytest.raises(UsageError, match="--no-repack"):
        flags(Launch("m", options={"repack": False}), known)


@pytest.mark.parametrize(
    ("text", "build"),
    [
        ("version: 3504 (e09a800f)\nbuilt with cc for x86_64-linux-gnu", "b3504-e09a800f"),
        ("version: b11549 (xllamacpp 2026.10.11549)", "b11549"),
        ("version: 0.1.0-dev (build 1, commit 7e4c0a9)\nbuilt with GNU 11.4.0 for Linux x86_64", "b1-7e4c0a9"),
    ],
)
def test_build_in_each_form_of_the_version(text: str, build: str) -> None:
    assert version(text).build == build


def test_instruction_sets_are_those_that_are_on() -> None:
    line = "system_info: n_threads = 2 | CPU : SSE3 = 1 | AVX = 1 | AVX512 = 0 | REPACK = 1 | "
    assert instruction_sets(line) == ("SSE3", "AVX", "REPACK")
