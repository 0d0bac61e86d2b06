"""MLC-LLM's serve, driven as a user does it, against a stand-in that keeps to its protocol alone.

Nothing here is a measurement: every record of the stand-in says ``test-double``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from lab.mlc import Laptop, weights
from lab.place import Place
from lab.tiny import tiny

from edgebench import profiles
from edgebench.bench.launcher import EngineProcess
from edgebench.core import Drafting, Launch, Line, Request, server_sent_events
from edgebench.core.wire import split_lines
from edgebench.device.session import Session
from edgebench.engines import mlc_install, mlc_python, mlc_server
from edgebench.engines.mlc_install import MlcConfig
from edgebench.engines.mlc_python import MlcPython
from edgebench.errors import EngineFailed, Unreadable


def events(blocks: list[tuple[float, bytes]]) -> Iterator[tuple[float, Any]]:
    return server_sent_events(split_lines(blocks))


SHORT = ("--prompt-tokens", "64", "--gen-tokens", "16", "--ctx", "256", "--settle", "0")


def edgebench(laptop: Laptop, *argv: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "EDGEBENCH_CACHE": str(laptop.folder / "cache")}
    return subprocess.run(
        [sys.executable, "-m", "edgebench", *argv],
        capture_output=True,
        text=True,
        env=environment,
        cwd=laptop.folder,
        check=False,
        timeout=300,
    )


def run(laptop: Laptop, profile: str, *argv: str, rounds: int = 1) -> subprocess.CompletedProcess[str]:
    model = () if "--model" in argv else ("--model", str(laptop.model))
    words = ["--device", profile, "--engine", "mlc-llm", *model, "--rounds", str(rounds), *argv]
    return edgebench(laptop, "run", *words)


def records(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stdout + done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["records"]
    return found


# --- what a run gives ------------------------------------------------------------------------


def test_throughput_of_exact_lengths(laptop: Laptop) -> None:
    (record,) = records(run(laptop, laptop.profile(), *SHORT, "--batch", "32", "--json", "-", rounds=2))
    engine = record["facts"]["engine"]
    assert engine["build"] == "0.20.0+test-double"
    assert engine["backend"] == "cpu"
    assert (engine["kv_capacity"], engine["prefill_chunk"]) == (256, 32)
    assert engine["buffers"]["estimated parameters"] == round(100.25 * 2**20)
    turns = {turn["label"]: turn for turn in record["rounds"][0]["turns"]}
    assert (turns["pp64"]["prefill_tokens"], turns["pp64"]["cached_tokens"]) == (64, 0)
    # The engine would have stopped at its end-of-sequence token: ignore_eos arrived where it counts.
    assert turns["tg16"]["completion_tokens"] == 16
    assert len(turns["tg16"]["token_times"]) == 16
    assert turns["tg16"]["token_clock"] == "arrival"
    assert {"load_s", "ttft_s", "prefill_tps", "decode_tps", "peak_rss_b", "base_rss_b"} <= set(record["metrics"])


def test_compiling_is_told_apart_from_loading(laptop: Laptop) -> None:
    profile = laptop.profile("slow-compile")
    first = run(laptop, profile, *SHORT, "--load-timeout", "20", "--json", "-")
    (record,) = records(first)
    assert "compiling the model for this device" in first.stderr
    assert "starting it again" in first.stderr
    assert record["metrics"]["compile_s"]["value"] > 1.5
    (record,) = records(run(laptop, profile, *SHORT, "--json", "-"))
    assert "compile_s" not in record["metrics"]
    assert record["facts"]["engine"]["model_lib"].startswith(str(laptop.folder / "home"))


def test_a_comparison_of_engines_names_the_quantizations(laptop: Laptop) -> None:
    gguf = tiny(laptop.folder / "tiny.gguf")
    forms = {
        "gguf": {"quantization": "F32", "path": str(gguf)},
        "mlc": {"quantization": "q4f16_1", "path": str(laptop.model)},
    }
    (laptop.folder / "both.yaml").write_text(yaml.safe_dump({"name": "both", **forms}))
    profile = laptop.profile()
    words = ("--model", str(laptop.folder / "both.yaml"), *SHORT[:4], "--ctx", "128")
    for engine in ("llama.cpp", "mlc-llm"):
        done = edgebench(
            laptop, "run", "--device", profile, "--engine", engine, *words, "--rounds", "1", "--settle", "0"
        )
        assert done.returncode == 0, done.stderr
    compared = edgebench(laptop, "compare", "llama.cpp", "mlc-llm")
    assert "quantization" in compared.stdout, compared.stdout + compared.stderr
    assert "F32" in compared.stdout
    assert "q4f16_1" in compared.stdout


def test_chat_goes_to_the_context_limit(laptop: Laptop) -> None:
    argv = (
        "--scenario",
        "chat",
        "--ctx",
        "600",
        "--conversations",
        "1",
        "--reply-tokens",
        "32",
        "--settle",
        "0",
        "--json",
        "-",
    )
    (record,) = records(run(laptop, laptop.profile(), *argv))
    turns = [turn for turn in record["rounds"][0]["turns"] if turn["label"] != "warm-up"]
    assert len(turns) > 2
    assert turns[-1]["depth"] > turns[0]["depth"]
    assert all(turn["cached_tokens"] == 0 for turn in turns)
    assert "ö" in turns[0]["text"]


def test_a_rate_that_the_engine_leaves_out_is_computed_anyway(laptop: Laptop) -> None:
    (record,) = records(run(laptop, laptop.profile("no-decode-rate"), *SHORT, "--json", "-"))
    assert record["metrics"]["decode_tps"]["value"] > 0


def test_the_key_is_in_no_argv(laptop: Laptop) -> None:
    device = profiles.load_device(laptop.profile())
    with Session(device) as session:
        engine = MlcPython(session, MlcConfig(**device.engines["mlc-llm"]))
        assert engine.prepare().extra["key"] is True
        with EngineProcess(session, engine, Launch(str(laptop.model), options={"ctx": 256})) as live:
            _, key = live.client.address
            tree = [psutil.Process(live.running.pid), *psutil.Process(live.running.pid).children(recursive=True)]
            assert not [process for process in tree if any(key in word for word in process.cmdline())]
            assert "--api-key" not in " ".join(tree[0].cmdline()).replace("'--api-key'", "")
            live.client.address = live.client.address[0], "wrong"
            assert live.client.get("/v1/models") == (401, {"detail": "Invalid API Key"})
            with pytest.raises(EngineFailed, match="rejected its API key"):
                engine.ready(live.client)


# --- speculation -----------------------------------------------------------------------------


def speculate(laptop: Laptop, launch: Launch, fault: str = "") -> Any:
    device = profiles.load_device(laptop.profile(fault))
    with Session(device) as session:
        engine = MlcPython(session, MlcConfig(**device.engines["mlc-llm"]))
        engine.prepare()
        with EngineProcess(session, engine, launch) as live:
            try:
                asked = Request(tokens=(1, 2, 3), max_tokens=21, ignore_eos=True)
                return [engine.complete(live.client, asked) for _ in range(2)]
            except EngineFailed as error:
                raise live.died() or error from error


def test_acceptance_leaves_out_the_verifiers_own_token(laptop: Laptop) -> None:
    draft = weights(laptop.folder / "models" / "draft")
    # The stand-in proposes 4 and takes 3 of them, 4 tokens a step with its own one; 20 follow the first.
    for reply in speculate(
        laptop,
        Launch(str(laptop.model), "vulkan", {"ctx": 256}, str(draft), Drafting(4)),
    ):
        assert (reply.draft_tokens, reply.draft_accepted) == (20, 15)
        assert reply.completion_tokens == 21
        assert reply.decode_s > 0


def test_a_sweep_fills_the_same_table(laptop: Laptop) -> None:
    draft = weights(laptop.folder / "models" / "draft", shards=1)
    words = ("--engine", "mlc-llm", "--target", str(laptop.model), "--draft", str(draft), "--k", "2,4")
    more = ("--rounds", "1", "--ctx", "256", "--gen-tokens", "17", "--backend", "vulkan", "--json", "-")
    found = {
        record["trial"]["options"]["k"]: record["metrics"]
        for record in records(edgebench(laptop, "speculative", "--device", laptop.profile(), *words, *more))
    }
    assert sorted(found) == [0, 2, 4]
    assert "acceptance" not in found[0]
    assert (found[2]["acceptance"]["value"], found[4]["acceptance"]["value"]) == (0.5, 0.75)
    assert {"speedup", "decode_tps"} <= set(found[4])


def test_limits_that_would_end_the_engine_are_refused(laptop: Laptop) -> None:
    draft = weights(laptop.folder / "models" / "draft")
    device = profiles.load_device(laptop.profile())
    with Session(device) as session:
        engine = MlcPython(session, MlcConfig(**device.engines["mlc-llm"]))
        engine.prepare()
        flags = engine.flags(Launch(str(laptop.model), "cuda", {"batch": 8}, str(draft), Drafting(7)))
        assert "prefill_chunk_size=8;max_num_sequence=8;spec_draft_length=7" in flags[-1]
        # The library is compiled for the room: not for each K of a sweep anew, and never for too little.
        rooms = {k: mlc_python.max_sequences(k) for k in range(1, 17)}
        assert all(k < room for k, room in rooms.items())
        assert sorted(set(rooms.values())) == [2, 4, 8, 16, 32]
        for wrong, words in (
            (
                Launch("m", "cuda", {"batch": 7}, "d", Drafting(7)),
                "chunk of 7 is too small for K = 7",
            ),
            (Launch("m", draft="d", backend="cuda"), "fixed draft length"),
            (Launch("m", draft="d,e", backend="metal", drafting=Drafting(1)), "comma"),
            *(
                (Launch("m", b, draft="d", drafting=Drafting(1)), f"verify drafts on {b}")
                for b in ("cpu", "opencl", "rocm")
            ),
        ):
            with pytest.raises(EngineFailed, match=words):
                engine.flags(wrong)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [(("--backend", "sycl"), "no backend 'sycl'"), (("--gpu-layers", "3"), "--gpu-layers is not an option of mlc-llm")],
)
def test_what_serve_cannot_do_is_said_before_anything_is_sent(
    laptop: Laptop, wrong: tuple[str, ...], words: str
) -> None:
    done = run(laptop, laptop.profile(), "--backend", "cuda", *wrong)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "putting" not in done.stderr


def test_an_engine_that_lives_on_without_its_model_is_noticed(laptop: Laptop) -> None:
    draft = weights(laptop.folder / "models" / "draft")
    launch = Launch(str(laptop.model), "vulkan", {"ctx": 256}, str(draft), Drafting(4))
    with pytest.raises(EngineFailed, match=r"failed while it was measured: Check failed: .* \(5 vs\. 4\) : 5 4"):
        speculate(laptop, launch, fault="draft-too-long")


# --- what goes wrong -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("insufficient-memory", "Insufficient GPU memory error: The available single GPU memory is 1024.000 MB"),
        ("dies-midway", "was terminated by SIGKILL while it was measured"),
        ("compile-fails", "Cannot find compilation output, compilation failed"),
        ("refuses", "with 400: Request prompt has 16 tokens in total, larger than the model input length limit 256."),
    ],
)
def test_faults_become_failed_trials_in_the_engines_own_words(laptop: Laptop, fault: str, words: str) -> None:
    done = run(laptop, laptop.profile(fault), *SHORT)
    assert done.returncode == 1, done.stderr
    assert words in done.stderr
    assert done.stderr.count("throughput: failed: ") == 1
    assert "Traceback" not in done.stderr
    assert "failed" in edgebench(laptop, "results", "list").stdout


def test_the_log_of_a_start_that_failed_is_kept(laptop: Laptop) -> None:
    done = run(laptop, laptop.profile("compile-fails"), *SHORT, "--json", "-")
    assert done.returncode == 1
    told = edgebench(laptop, "results", "show", json.loads(done.stdout)["records"][0]["id"], "--log")
    assert "Compiling using commands below:" in told.stdout
    assert "Cannot find compilation output" in told.stdout


def test_a_port_that_never_opens(laptop: Laptop) -> None:
    done = run(laptop, laptop.profile("never-opens"), *SHORT, "--load-timeout", "3")
    assert done.returncode == 1
    assert "was not ready after 3 s" in done.stderr


def test_less_room_than_was_asked_for_is_a_doubt(laptop: Laptop) -> None:
    (record,) = records(run(laptop, laptop.profile("less-room"), *SHORT, "--json", "-"))
    told = [doubt["detail"] for doubt in record["doubts"] if doubt["id"] == "context-clipped"]
    assert told == ["the engine allocated 200 of 256 tokens"]


def test_a_prompt_as_long_as_the_context(laptop: Laptop) -> None:
    device = profiles.load_device(laptop.profile())
    with Session(device) as session:
        engine = MlcPython(session, MlcConfig(**device.engines["mlc-llm"]))
        engine.prepare()
        with EngineProcess(session, engine, Launch(str(laptop.model), options={"ctx": 32})) as live:
            assert engine.complete(live.client, Request(tokens=(1,) * 31, max_tokens=8)).finish == "length"
            with pytest.raises(EngineFailed, match="exceeds the engine's context"):
                engine.complete(live.client, Request(tokens=(1,) * 32, max_tokens=8))
            with pytest.raises(EngineFailed, match="larger than the model input length limit 32"):
                engine.complete(live.client, Request(tokens=(1,) * 33, max_tokens=8))


def test_an_answer_without_its_times(laptop: Laptop) -> None:
    done = run(laptop, laptop.profile("no-times"), *SHORT)
    assert done.returncode == 1
    assert "the engine's usage has no times" in done.stderr


def test_a_device_that_is_not_there(laptop: Laptop) -> None:
    done = run(laptop, laptop.profile(), *SHORT, "--backend", "cuda")
    assert done.returncode == 1
    assert "Device is not found on your local environment: cuda" in done.stderr


def test_a_model_library_of_another_target(laptop: Laptop) -> None:
    library = laptop.folder / "lib of a mac.dylib"
    library.write_bytes(b"\xcf\xfa\xed\xfe")
    done = run(laptop, laptop.profile(model_lib=str(library)), *SHORT)
    assert done.returncode == 1
    assert "Library binary was created using {metal}" in done.stderr
    assert "compiled for another backend" in done.stdout + done.stderr


def test_without_the_engine_its_source_is_named(laptop: Laptop) -> None:
    done = run(laptop, laptop.profile(python=sys.executable), *SHORT)
    assert done.returncode == 3
    assert "has no mlc_llm" in done.stderr
    assert "pip install --pre -U -f https://mlc.ai/wheels mlc-llm-nightly-cpu mlc-ai-nightly-cpu" in done.stderr
    done = run(laptop, laptop.profile(python="/no/such/python"), *SHORT)
    assert done.returncode == 3
    assert "cannot run on laptop" in done.stderr


def test_advice_fits_the_device() -> None:
    # The heading of nvidia-smi 580 and 570, and /opt/rocm/.info/version.
    smi = "| NVIDIA-SMI 580.65.06              Driver Version: 580.65.06      CUDA Version: {}     |\nrocm \n"
    assert mlc_install.wheel_build(smi.format("13.0")) == "cu130"
    assert mlc_install.wheel_build(smi.format("12.8")) == "cu128"
    # An older driver runs no CUDA build there is; Vulkan is in the plain one.
    assert mlc_install.wheel_build(smi.format("12.4")) == "cpu"
    assert mlc_install.wheel_build("rocm 6.2.4-66") == "rocm62"
    assert mlc_install.wheel_build("rocm \n") == "cpu"
    assert "mlc-llm-nightly-cu130 mlc-ai-nightly-cu130`" in mlc_install.install_hint_for("linux", "cu130")
    assert mlc_install.install_hint_for("windows").count("`python -m pip") == 1
    assert "clang" in mlc_install.install_hint_for("windows")
    assert "xcode-select --install" in mlc_install.install_hint_for("macos")
    assert "MLCChat app" in mlc_install.install_hint_for("android")
    assert "over ADB" in mlc_install.install_hint_for("termux")


# --- texts -----------------------------------------------------------------------------------

# Forms of mlc-llm 79d603f (July 2026): support/auto_device.py, interface/jit.py, cpp/serve/config.cc, uvicorn.
LOG = (
    "edgebench: 412345678 bytes resident before the model loads",
    "[2026-07-23 05:44:46] INFO auto_device.py:79: \x1b[92mFound\x1b[0m device: cuda:0",
    "[2026-07-23 05:44:47] INFO auto_device.py:79: \x1b[92mFound\x1b[0m device: cpu:0",
    "[2026-07-23 05:44:48] INFO auto_device.py:35: Using device: \x1b[1mcuda:0\x1b[0m",
    "[2026-07-23 05:44:48] INFO jit.py:171: Using cached model lib: \x1b[1m/home/me/model_lib/0.so\x1b[0m",
    '[05:44:50] /src/mlc-llm/cpp/serve/config.cc:721: The actual engine mode is "interactive". So max batch '
    "size is 1, max KV cache token capacity is 4096, prefill chunk size is 2048.",
    "[05:44:50] /src/mlc-llm/cpp/serve/config.cc:726: Estimated total single GPU memory usage: 4959.116 MB "
    "(Parameters: 3615.133 MB. KVCache: 1180.094 MB. Temporary buffer: 163.890 MB). The actual usage might be "
    "slightly larger than the estimated number.",
    "INFO:     Uvicorn running on http://127.0.0.1:20001 (Press CTRL+C to quit)",
)


def test_notes() -> None:
    notes = mlc_server.info(LOG)
    assert notes.backend == "cuda"
    assert notes.buffers["estimated total"] == round(4959.116 * 2**20)
    assert (notes.base_rss_b, notes.kv_capacity) == (412345678, 4096)
    assert notes.extra == {"prefill_chunk": 2048, "model_lib": "/home/me/model_lib/0.so"}
    assert mlc_server.ready_line(LOG[-1])
    # Two devices found and none chosen: nobody knows.
    assert mlc_server.info(LOG[:3]).backend is None


def test_compiling_adds_up_over_models() -> None:
    words = ("Compiling using commands below:", "…", "Using compiled model lib: a", "Compiling using commands below:")
    log = [Line("err", text, float(at)) for at, text in enumerate(words)]
    assert mlc_server.compiling(log[:3]) == (2.0, True)
    spent = mlc_server.compiling(log)
    assert spent is not None
    assert spent[1] is False
    assert mlc_server.compiling([Line("err", "Using cached model lib: a", 0.0)]) is None


def test_a_server_whose_model_is_gone() -> None:
    log = ["INFO:     Uvicorn running", "Exception in thread Thread-1 (background_loop):", "Traceback", '  File "x"']
    assert mlc_server.verdict(log[:1]) is None
    # The words come last; before that nothing is known yet.
    assert mlc_server.verdict(log) is None
    log.append("tvm.error.InternalError: Check failed: (a) is false: Insufficient GPU memory error: too little")
    assert mlc_server.verdict(log) == (
        "Insufficient GPU memory error: too little",
        "It does not fit: use a smaller --ctx, --batch or quantization.",
    )


def test_a_sampler_that_cannot_verify_drafts_is_named() -> None:
    # Said by mlc-llm 79d603f, built for this CPU against apache-tvm 0.26.0, at the first verification of 4 drafts.
    log = [
        "Exception in thread Thread-1:",
        "Traceback (most recent call last):",
        'File "python/tvm_ffi/cython/function.pxi", line 1038, in tvm_ffi.core.Function.__call__',
        'File "mlc-llm/cpp/serve/sampler/cpu_sampler.cc", line 345, in virtual tvm::runtime::Tensor mlc::llm::serve::'
        "CPUSampler::BatchRenormalizeProbsByTopP(tvm::runtime::Tensor, const std::vector<int>&, …)",
        "tvm.error.InternalError: Check failed: request_ids.size() == num_samples (1 vs. 5) :",
    ]
    words, hint = mlc_server.verdict(log) or ("", "")
    assert words == "Check failed: request_ids.size() == num_samples (1 vs. 5) :"
    assert "cuda, metal, vulkan" in hint


# What `mlc_llm serve --enable-debug --model-lib mock://echo` of mlc-llm 79d603f said, built for this CPU against
# apache-tvm 0.26.0: its real parser, server and engine thread, and an engine that echoes the prompt.
ECHO = rb"""data: {"id":"chatcmpl-7d52c5e5e6bc45198418634ca16135e8","choices":[{"finish_reason":null,"index":0,"delta":{"content":" conversation","role":"assistant","name":null,"tool_calls":null,"tool_call_id":null},"logprobs":null}],"created":1795320178,"model":null,"system_fingerprint":"","object":"chat.completion.chunk","usage":null}

data: {"id":"chatcmpl-7d52c5e5e6bc45198418634ca16135e8","choices":[{"finish_reason":"length","index":0,"delta":{"content":" between","role":"assistant","name":null,"tool_calls":null,"tool_call_id":null},"logprobs":null}],"created":1795320178,"model":null,"system_fingerprint":"","object":"chat.completion.chunk","usage":null}

data: {"id":"chatcmpl-7d52c5e5e6bc45198418634ca16135e8","choices":[],"created":1795320178,"model":null,"system_fingerprint":"","object":"chat.completion.chunk","usage":{"prompt_tokens":41,"completion_tokens":41,"total_tokens":82,"extra":{"n":1,"temperature":0.0,"seed":1,"debug_config":{"ignore_eos":true}}}}

data: [DONE]

"""  # noqa: E501
ECHO_TEXT = rb"""data: {"id":"cmpl-2145af0ed89843a48ce2b3458c57b7e5","choices":[{"finish_reason":"stop","index":0,"logprobs":null,"text":"<issue_start>"}],"created":1795320178,"model":null,"object":"text_completion","usage":null}

data: {"id":"cmpl-2145af0ed89843a48ce2b3458c57b7e5","choices":[],"created":1795320178,"model":null,"object":"text_completion","usage":{"prompt_tokens":4,"completion_tokens":4,"total_tokens":8,"extra":{"n":1,"seed":1,"debug_config":{"ignore_eos":true}}}}

data: [DONE]

"""  # noqa: E501


def test_the_stand_in_streams_in_the_form_that_a_real_build_does(laptop: Laptop) -> None:
    """Field by field, at every depth but that of the debug usage, which the echoing engine has none of."""
    device = profiles.load_device(laptop.profile())
    with Session(device) as session:
        engine = MlcPython(session, MlcConfig(**device.engines["mlc-llm"]))
        engine.prepare()
        with EngineProcess(session, engine, Launch(str(laptop.model), options={"ctx": 256})) as live:
            for real, request in (
                (ECHO, Request(messages=({"role": "user", "content": "a"},), max_tokens=2)),
                (ECHO_TEXT, Request(tokens=(1,), max_tokens=2)),
            ):
                mine = [event for _, event in server_sent_events(live.client.lines(*mlc_server.body(request)))]
                assert [forms(mine[-2]), forms(mine[-1])] == [forms(event) for _, event in events([(0.0, real)])][-2:]


def forms(value: Any) -> Any:
    """The names of the fields in an answer, down to but without the debug usage."""
    if isinstance(value, dict):
        return {name: None if name == "extra" else forms(inner) for name, inner in value.items()}
    return [forms(inner) for inner in value] if isinstance(value, list) else None


# What the same build said with a compiled model of two layers and a draft of the same weights, 4 tokens at once; its
# check of counts in the sampler for the CPU was taken out, which ends every speculation there.
DRAFTED = rb"""data: {"id":"cmpl-4617cb775e3a46e2a1ab1d2c2243e996","choices":[{"finish_reason":null,"index":0,"logprobs":null,"text":"ribly"}],"created":1795322942,"model":"models/tiny-q0f32-MLC","object":"text_completion","usage":null}

data: {"id":"cmpl-4617cb775e3a46e2a1ab1d2c2243e996","choices":[{"finish_reason":"length","index":0,"logprobs":null,"text":" supersonic supersonic supersonic hob hob"}],"created":1795322942,"model":"models/tiny-q0f32-MLC","object":"text_completion","usage":null}

data: {"id":"cmpl-4617cb775e3a46e2a1ab1d2c2243e996","choices":[],"created":1795322942,"model":"models/tiny-q0f32-MLC","object":"text_completion","usage":{"prompt_tokens":1,"completion_tokens":7,"total_tokens":8,"extra":{"prompt_tokens":1,"completion_tokens":7,"prefill_tokens":1,"decode_tokens":0,"jump_forward_tokens":0,"prefill_tokens_per_s":74.83458749865764,"end_to_end_latency_s":0.063738679,"ttft_s":0.013362805,"inter_token_latency_s":0.009105525571428573}}}

data: [DONE]

"""  # noqa: E501


def test_the_first_token_is_counted_once_with_a_draft() -> None:
    found = mlc_server.reply(events([(1.0, DRAFTED)]), 0.5, models=2)
    assert found.text.split() == ["ribly", "supersonic", "supersonic", "supersonic", "hob", "hob"]
    assert found.completion_tokens == 6
    assert found.decode_s == pytest.approx(0.063738679 - 0.013362805)
    assert found.finish == "length"


def test_an_engine_that_only_echoes_has_no_times() -> None:
    with pytest.raises(Unreadable, match="the engine's usage has no times"):
        mlc_server.reply(events([(1.0, ECHO)]), 0.0)


def event(choices: list[Any], usage: Any = None) -> dict[str, Any]:
    return {"id": "1", "choices": choices, "usage": usage, "model": None}


def test_a_reply_is_recomputed_from_counts_and_times() -> None:
    extra = {"prefill_tokens": 10, "ttft_s": 0.5, "end_to_end_latency_s": 2.5, "inter_token_latency_s": 0.4}
    chat = [
        (1.0, event([{"delta": {"role": "assistant", "content": "a"}, "finish_reason": None}])),
        (2.0, event([{"delta": {"role": "assistant", "content": "b"}, "finish_reason": "length"}])),
        (2.1, event([], {"prompt_tokens": 12, "completion_tokens": 5, "extra": extra})),
    ]
    reply = mlc_server.reply(chat, 0.4)
    assert (reply.text, reply.finish) == ("ab", "length")
    assert (reply.prompt_tokens, reply.cached_tokens, reply.prefill_tokens) == (12, 2, 10)
    assert (reply.prefill_s, reply.decode_s) == (0.5, 2.0)
    assert reply.token_times == (0.0, 1.0)
    assert reply.ttft_s == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("events", "error", "words"),
    [
        ([(0.0, event([{"text": "a"}]))], Unreadable, "response has no usage"),
        ([(0.0, [1])], Unreadable, "not an object"),
        ([(0.0, {"object": "error", "message": "no"})], EngineFailed, "error: no"),
        ([(0.0, event([{"text": "", "finish_reason": "error"}]))], EngineFailed, "no text"),
        (
            [
                (0.0, event([{"text": "", "finish_reason": "length"}])),
                (0.0, event([], {"prompt_tokens": 0, "completion_tokens": 0})),
            ],
            EngineFailed,
            "exceeds the engine's context",
        ),
        (  # as 79d603f said it of a prompt of 139 tokens with --ctx 256 and a prefill chunk of 128
            [
                (0.4, event([{"text": "a"}])),
                (3.7, event([{"text": "b", "finish_reason": "length"}])),
                (
                    3.7,
                    event(
                        [],
                        {
                            "prompt_tokens": 139,
                            "completion_tokens": 16,
                            "extra": {"prefill_tokens": 2344, "ttft_s": 3.7299, "end_to_end_latency_s": 3.73},
                        },
                    ),
                ),
            ],
            EngineFailed,
            "evaluated 2344 tokens for a prompt of 139",
        ),
    ],
)
def test_broken_answers(events: list[Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        mlc_server.reply(events, 0.0)


def test_the_stand_in_is_as_strict_as_the_engine(laptop: Laptop) -> None:
    python = laptop.folder / "bin dir" / "python"
    laptop.profile()
    argv = [str(python), "-m", "mlc_llm", "serve", str(laptop.model), "--no-such-flag"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    # As mlc_llm of 79d603f says it: the usage on stdout, the mistake on stderr.
    assert "-" * 25 + " Error " + "-" * 25 in done.stdout
    assert done.stderr == "unrecognized arguments: --no-such-flag\n"


def test_a_version_that_knows_less(laptop: Laptop, tmp_path: Path) -> None:
    """Flags are those of the source on the device."""
    device = profiles.load_device(laptop.profile())
    with Session(device) as session:
        engine = MlcPython(session, MlcConfig(**device.engines["mlc-llm"]))
        engine.prepare()
        engine._flags -= {"--api-key", "--prefix-cache-mode"}
        with pytest.raises(EngineFailed, match="does not know --prefix-cache-mode"):
            engine.flags(Launch(str(laptop.model)))
        engine._flags |= {"--prefix-cache-mode"}
        assert "--api-key" not in " ".join(engine.command(Launch(str(laptop.model)), 1).argv)


def test_a_build_from_source_is_known_by_its_packages_version(laptop: Laptop, tmp_path: Path) -> None:
    """Its libinfo says 0.1.dev0 whatever was built; the package's name has an underscore."""
    about = tmp_path / "site" / "mlc_llm-0.20.0.dev0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mlc_llm\nVersion: 0.20.0.dev0\n")
    profile = laptop.profile()
    python = laptop.folder / "bin dir" / "python"
    python.write_text(python.read_text().replace('PYTHONPATH="', f'PYTHONPATH="{about.parent}:'))
    device = profiles.load_device(profile)
    with Session(device) as session:
        assert MlcPython(session, MlcConfig(**device.engines["mlc-llm"])).prepare().build == "0.20.0.dev0"


def test_over_ssh_the_folder_is_sent_and_the_engine_driven(laptop: Laptop, linux: Place) -> None:
    """Another machine: everything of it is reached by the wire, its model is not the one here."""
    engine = yaml.safe_load(Path(laptop.profile()).read_text())["engines"]
    about = {"name": linux.name, "system": "linux", "transport": dict(linux.transport), "workspace": linux.folder}
    profile = laptop.folder / f"{linux.name}.yaml"
    profile.write_text(yaml.safe_dump({**about, "engines": engine}))
    (record,) = records(run(laptop, str(profile), *SHORT, "--json", "-"))
    assert record["facts"]["engine"]["build"] == "0.20.0+test-double"
    assert record["rounds"][0]["turns"][-1]["completion_tokens"] == 16
    (placed,) = linux.here.glob("models/*/tiny-q4f16_1-MLC")
    assert sorted(file.name for file in placed.iterdir() if file.suffix == ".bin") == [
        "params_shard_0.bin",
        "params_shard_1.bin",
    ]
    done = edgebench(laptop, "devices", "clean", str(profile), record["trial"]["model"], "--yes")
    assert done.returncode == 0, done.stderr
    assert list(linux.here.glob("models/*")) == []


def test_devices_check_says_what_to_install(laptop: Laptop) -> None:
    done = edgebench(laptop, "devices", "check", laptop.profile())
    assert done.returncode == 0, done.stdout
    assert "engine mlc-llm: mlc-llm, 0.20.0+test-double" in done.stdout
    done = edgebench(laptop, "devices", "check", laptop.profile(python=sys.executable))
    assert done.returncode == 3
    assert "has no mlc_llm" in done.stdout
    assert "-f https://mlc.ai/wheels mlc-llm-nightly-cpu mlc-ai-nightly-cpu" in " ".join(done.stdout.split())
