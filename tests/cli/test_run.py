"""``edgebench run`` on this machine: the bundled engine and a real model, end to end."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from lab import faulty_server
from lab.cli import Program
from lab.native import bin_folder

pytestmark = pytest.mark.lab

QUICK = ("--rounds", "2", "--prompt-tokens", "32", "--gen-tokens", "12", "--ctx", "512")


@pytest.fixture
def gpu() -> str:
    """A device profile: the native llama-server with Vulkan on the software GPU of the lab."""
    folder = bin_folder()
    return (
        "name: gpu\nsystem: linux\ntransport: {kind: local}\n"
        f"engines:\n  llama.cpp:\n    path: {folder}/llama-server\n"
        f"    env: {{LD_LIBRARY_PATH: '{folder}', GGML_VK_VISIBLE_DEVICES: '0'}}\n"
    )


def engines() -> list[psutil.Process]:
    """The engine processes that run on this machine now."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if any(word.endswith(("servers/bundled.py", "faulty_server.py")) for word in words):
            found.append(process)
    return found


def engines_of(folder: Path) -> list[psutil.Process]:
    """Those started by an edgebench that runs in ``folder``."""
    mine = []
    for process in engines():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("PWD") == str(folder) or process.cwd() == str(folder):
                mine.append(process)
    return mine


def wait_for(condition, timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_defaults_measure_this_machine(edgebench: Program) -> None:
    ran = edgebench("run", *QUICK, "--threads", "1,2", "--json", "-")
    assert ran.status == 0, ran.stderr
    assert [record["status"] for record in ran.records] == ["ok", "ok"]
    assert {record["trial"]["options"]["threads"] for record in ran.records} == {1, 2}
    for record in ran.records:
        trial, metrics = record["trial"], record["metrics"]
        assert (trial["device"], trial["model"], trial["engine"]) == ("local", "smollm2-135m-q4_1", "llama.cpp")
        assert (trial["backend"], trial["scenario"], trial["options"]["ctx"]) == ("cpu", "throughput", 512)
        for name in ("decode_tps", "prefill_tps", "ttft_s", "load_s", "peak_rss_b", "peak_footprint_b"):
            assert len(metrics[name]["rounds"]) == 2
            assert metrics[name]["value"] > 0
        assert metrics["decode_tps"]["low"] <= metrics["decode_tps"]["value"] <= metrics["decode_tps"]["high"]
        # The weights are mapped and touched: the process can't be smaller than they are.
        assert metrics["peak_rss_b"]["value"] > record["facts"]["model"]["weights_bytes"]
        assert 10 * 2**20 < metrics["base_rss_b"]["value"] < metrics["peak_rss_b"]["value"]
        assert record["facts"]["engine"]["backend"] == "cpu"
        assert len(record["facts"]["model"]["sha256"]) == 64
        assert "few-rounds" in [doubt["id"] for doubt in record["doubts"]]


def test_every_rate_follows_from_counts_and_times(edgebench: Program) -> None:
    record = edgebench("run", *QUICK, "--rounds", "1", "--json", "-").record
    (one,) = record["rounds"]
    warm_up, prefill, decode = one["turns"]
    assert warm_up["measures"] == []
    assert (prefill["prompt_tokens"], prefill["cached_tokens"], prefill["label"]) == (32, 0, "pp32")
    assert (decode["completion_tokens"], len(decode["token_times"]), decode["token_clock"]) == (12, 12, "engine")
    metrics = record["metrics"]
    assert metrics["prefill_tps"]["value"] == pytest.approx(32 / prefill["prefill_s"])
    assert metrics["decode_tps"]["value"] == pytest.approx(11 / decode["token_times"][-1], rel=1e-3)
    gaps = [b - a for a, b in itertools.pairwise(decode["token_times"])]
    assert min(gaps) <= metrics["itl_s_p50"]["value"] <= max(gaps)


def test_depth_fills_the_context_before_measuring(edgebench: Program) -> None:
    record = edgebench("run", *QUICK, "--depth", "200", "--rounds", "1", "--json", "-").record
    _, fill, prefill, decode = record["rounds"][0]["turns"]
    assert fill["prompt_tokens"] == 200
    assert prefill["prompt_tokens"] == 232
    assert prefill["prefill_tokens"] == 32
    assert decode["cached_tokens"] >= 199
    assert decode["depth"] == 200 + 12


def test_chat_goes_to_near_the_limit(edgebench: Program) -> None:
    args = ("--scenario", "chat", "--conversations", "2", "--reply-tokens", "48", "--ctx", "512", "--batch", "16")
    record = edgebench("run", *args, "--rounds", "1", "--json", "-").record
    turns = [turn for turn in record["rounds"][0]["turns"] if turn["measures"]]
    names = {turn["label"].split(",")[0] for turn in turns}
    assert names == {"conversation 1 multi-turn", "conversation 2 zero-shot"}
    for name in names:
        held = [turn for turn in turns if turn["label"].startswith(name)]
        assert len(held) >= 3
        assert 512 - 48 - 100 < held[-1]["depth"] <= 512
        for before, after in itertools.pairwise(held):
            # Each turn builds on the last reply, which the engine has in its cache.
            assert after["cached_tokens"] > 0.8 * before["depth"]
            assert after["prefill_tokens"] == after["prompt_tokens"] - after["cached_tokens"]
        assert all({"ttft_s", "prefill_tps"} <= turn.keys() for turn in held)


def test_cold_starts_are_verified(edgebench: Program, real_model: Path) -> None:
    mine = edgebench.folder / "mine.gguf"
    mine.write_bytes(real_model.read_bytes())
    os.sync()
    record = edgebench("run", *QUICK, "--model", str(mine), "--load", "cold", "--json", "-").record
    fresh = [one["notes"] for one in record["rounds"] if one["fresh"]]
    assert fresh
    for notes in fresh:
        assert notes["load_regime"] == "cold"
        assert notes["resident"] <= 0.01


def test_trials_of_one_launch_share_an_engine(edgebench: Program) -> None:
    ran = edgebench("run", *QUICK, "--rounds", "1", "--gen-tokens", "8,12,16", "--json", "-")
    assert ran.status == 0
    fresh = [one["fresh"] for record in ran.records for one in record["rounds"]]
    assert sorted(fresh) == [False, False, True]
    assert sum("load_s" in record["metrics"] for record in ran.records) == 1


def test_the_table_leads_to_the_next_command(edgebench: Program) -> None:
    ran = edgebench("run", *QUICK, "--rounds", "1")
    assert ran.status == 0
    lines = ran.stdout.splitlines()
    assert "footprint" in ran.stdout
    assert "ms per" in ran.stdout
    (following,) = [line for line in lines if line.startswith("Next: edgebench ")]
    again = edgebench(*following.removeprefix("Next: edgebench ").split())
    assert again.status == 0
    assert "decode" in again.stdout
    id = edgebench("results", "list", "--json")
    assert id.status == 0


def test_the_log_is_kept(edgebench: Program) -> None:
    record = edgebench("run", *QUICK, "--rounds", "1", "--json", "-").record
    log = edgebench("results", "show", record["id"], "--log")
    assert "model buffer size" in log.stdout


def test_context_beyond_the_models_is_said_and_cut(edgebench: Program) -> None:
    ran = edgebench("run", *QUICK, "--rounds", "1", "--ctx", "9000", "--json", "-")
    assert ran.record["trial"]["options"]["ctx"] == 8192
    assert "a context of 9000 was requested; smollm2-135m-q4_1 has 8192, so 8192 was used" in ran.stderr
    assert any("8192 was used" in note for note in ran.record["notes"])
    assert "context-clipped" in [doubt["id"] for doubt in ran.record["doubts"]]


def test_interrupt_ends_cleanly(edgebench: Program) -> None:
    process = edgebench.start("run", "--rounds", "50", "--prompt-tokens", "16", "--gen-tokens", "16", "--ctx", "256")
    assert process.stderr
    for line in process.stderr:
        if "round 1/50" in line:
            break
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(60) == 130
    assert "finished rounds are kept" in rest
    assert "exit code 130" in rest
    wait_for(lambda: not engines_of(edgebench.folder))
    (record,) = json.loads(edgebench("results", "list", "--json").stdout)["records"]
    assert record["status"] == "interrupted"


def test_an_interrupt_before_the_first_round_names_no_results(edgebench: Program) -> None:
    process = edgebench.start("run", "--prompt-tokens", "4000", "--gen-tokens", "4000", "--ctx", "8192")
    assert process.stderr
    for line in process.stderr:
        if "starting the engine" in line:
            break
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(60) == 130
    assert rest.splitlines()[-1] == "interrupted, exit code 130; no round was finished"
    wait_for(lambda: not engines_of(edgebench.folder))


def test_killed_without_warning_loses_the_round_in_flight_at_most(edgebench: Program) -> None:
    process = edgebench.start("run", "--rounds", "50", "--prompt-tokens", "16", "--gen-tokens", "16", "--ctx", "256")
    assert process.stderr
    seen = 0
    for line in process.stderr:
        seen += ": round " in line
        if seen == 3:
            break
    process.kill()
    process.wait(60)
    process.stderr.close()
    store = edgebench.folder / "reports" / "results.sqlite"
    with contextlib.closing(sqlite3.connect(store)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("SELECT count(*) FROM rounds").fetchone()[0] >= 3
    wait_for(lambda: not engines_of(edgebench.folder))
    shown = edgebench("results", "list")
    assert shown.status == 0
    assert "interrupted" in shown.stdout


def test_two_runs_at_once_neither_block_nor_mix(edgebench: Program) -> None:
    runs = [edgebench.start("run", *QUICK, "--name", name, "--json", "-") for name in ("one", "two")]
    documents = [json.loads(run.communicate(timeout=300)[0]) for run in runs]
    for name, document in zip(("one", "two"), documents, strict=True):
        (record,) = document["records"]
        assert record["run"]["name"] == name
        assert len(record["rounds"]) == 2
        kept = json.loads(edgebench("results", "export", "--format", "json", "--run", name).stdout)
        assert [r["id"] for r in kept["records"]] == [record["id"]]


# --- what people get wrong -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--device", "locla"], ["locla", "local"]),
        (["--model", "smollm2-135m-q4"], ["smollm2-135m-q4", "smollm2-135m-q4_1"]),
        (["--model", "./nowhere.gguf"], ["nowhere.gguf"]),
        (["--engine", "lama.cpp"], ["lama.cpp", "llama.cpp"]),
        (["--scenario", "trougput"], ["trougput", "throughput"]),
        (["--threads", "8..1"], ["--threads", "8..1", "1..8"]),
        (["--threads", "0"], ["--threads"]),
        (["--threads", "two"], ["--threads", "two"]),
        (["--thread", "2"], ["--threads"]),
        (["--rounds", "0"], ["rounds"]),
        (["--ctx", "64"], ["513", "--ctx"]),
        (["--prompt-tokens", "5000", "--ctx", "4096"], ["5001", "4096", "--ctx 5001"]),
    ],
)
def test_mistakes_exit_with_2_and_the_way_out(edgebench: Program, args: list[str], words: list[str]) -> None:
    ran = edgebench("run", *args)
    assert ran.status == 2
    assert ran.stdout == ""
    for word in words:
        assert word in ran.stderr
    assert not engines_of(edgebench.folder)


@pytest.mark.parametrize("kind", ["folder", "empty", "text", "cut"])
def test_files_that_are_no_models_are_refused_before_anything_starts(
    edgebench: Program, real_model: Path, kind: str
) -> None:
    path = edgebench.folder / "m.gguf"
    if kind == "folder":
        path.mkdir()
    else:
        content = {"empty": b"", "text": b"<html>404</html>" * 99}.get(kind)
        path.write_bytes(real_model.read_bytes()[: 5 * 2**20] if content is None else content)
    ran = edgebench("run", "--model", str(path))
    assert ran.status == 2
    assert "m.gguf" in ran.stderr
    assert not (edgebench.folder / "reports").exists()


def test_home_that_does_not_exist(edgebench: Program) -> None:
    edgebench.env.update(HOME="/nowhere/at/all", XDG_CACHE_HOME="", XDG_CONFIG_HOME="")
    ran = edgebench("run", *QUICK, "--rounds", "1")
    assert ran.status == 0, ran.stderr


def test_store_that_is_something_else(edgebench: Program) -> None:
    edgebench.write("reports/results.sqlite", "this is a letter to my aunt\n" * 100)
    ran = edgebench("run", *QUICK)
    assert ran.status == 2
    assert "results.sqlite" in ran.stderr


@pytest.mark.parametrize("command", ["run", "speculative"])
def test_what_cannot_be_kept_is_said_before_models_are_fetched(edgebench: Program, command: str) -> None:
    edgebench.env["EDGEBENCH_CACHE"] = str(edgebench.folder / "cache")
    edgebench.write("letter.sqlite", "this is a letter to my aunt\n" * 100)
    edgebench.write("file", "x")
    for args, said in (
        (["--store", "letter.sqlite"], "letter.sqlite is not a store of edgebench"),
        (["--json", "file/r.json"], "--json: cannot write file/r.json"),
        (["--json", "."], "--json: cannot write ."),
    ):
        ran = edgebench(command, *args)
        assert (ran.status, ran.stdout) == (2, "")
        assert said in ran.stderr
    assert {path.name for path in edgebench.folder.iterdir()} == {"letter.sqlite", "file"}


# --- engines that go wrong -------------------------------------------------------------------


@pytest.fixture
def faulty(edgebench: Program) -> Iterator[Program]:
    """A device ``faulty-MODE`` for each way of going wrong."""
    for mode in (
        "dies-at-decode",
        "dies-midway",
        "dies-while-loading",
        "never-ready",
        "silent",
        "garbage",
        "port-taken",
    ):
        script = edgebench.write(
            f"{mode}.sh", f'#!/bin/sh\nexec "{sys.executable}" "{faulty_server.__file__}" {mode} "$@"\n'
        )
        script.chmod(0o755)
        edgebench.write(
            f"devices/faulty-{mode}.yaml",
            f"name: faulty-{mode}\nsystem: linux\ntransport: {{kind: local}}\n"
            f"engines:\n  llama.cpp:\n    path: '{script}'\n"
            f"    env: {{EDGEBENCH_TEST_MARKER: '{edgebench.folder}/marker'}}\n",
        )
    yield edgebench
    assert not engines_of(edgebench.folder)


def test_death_by_signal_is_retried_once_without_repacking(faulty: Program) -> None:
    record = faulty("run", *QUICK, "--device", "faulty-dies-at-decode", "--json", "-").record
    assert record["status"] == "ok"
    assert len(record["rounds"]) == 2
    assert any("SIGILL" in note and "--no-repack" in note for note in record["notes"])
    assert "engine-fallback" in [doubt["id"] for doubt in record["doubts"]]


@pytest.mark.parametrize(
    ("mode", "words", "signal_name"),
    [
        ("dies-midway", ["SIGKILL"], "SIGKILL"),
        ("dies-while-loading", ["exited with status 1", "while it was loading"], None),
        ("never-ready", ["not ready after 3 s"], None),
        ("silent", ["not ready after 3 s"], None),
        ("garbage", ["not JSON"], None),
    ],
)
def test_a_broken_engine_is_a_failed_trial(
    faulty: Program, mode: str, words: list[str], signal_name: str | None
) -> None:
    timeout = ["--load-timeout", "3"] if mode in ("never-ready", "silent") else []
    ran = faulty("run", *QUICK, *timeout, "--device", f"faulty-{mode}", "--json", "-")
    assert ran.status == 1
    record = ran.record
    assert record["status"] == "failed"
    for word in words:
        assert word in record["failure"]["message"]
    assert record["failure"]["signal"] == signal_name
    assert ran.stderr.count("failed: ") == 1  # said at once, and once
    assert "\x1b" not in edgebench_table(faulty)


def edgebench_table(program: Program) -> str:
    return program("results", "list").stdout


def test_the_last_words_of_an_engine_are_in_the_failure(faulty: Program) -> None:
    record = faulty("run", *QUICK, "--device", "faulty-dies-while-loading", "--json", "-").record
    assert any("tensor 'output' has wrong shape" in line for line in record["failure"]["log"])
    assert "last line of its log: " in edgebench_table(faulty)


def test_a_port_that_is_taken_is_tried_elsewhere(faulty: Program) -> None:
    record = faulty("run", *QUICK, "--rounds", "1", "--device", "faulty-port-taken", "--json", "-").record
    assert record["status"] == "ok"
    assert (faulty.folder / "marker").exists()


def test_a_failed_device_does_not_stop_the_others(faulty: Program) -> None:
    ran = faulty("run", *QUICK, "--device", "faulty-dies-while-loading", "--device", "local", "--json", "-")
    assert ran.status == 1
    assert {r["trial"]["device"]: r["status"] for r in ran.records} == {
        "faulty-dies-while-loading": "failed",
        "local": "ok",
    }


def test_an_engine_that_is_not_there(edgebench: Program) -> None:
    edgebench.write(
        "devices/bare.yaml",
        "name: bare\nsystem: linux\ntransport: {kind: local}\nengines: {llama.cpp: {path: /nowhere/llama-server}}\n",
    )
    ran = edgebench("run", "--device", "bare")
    assert ran.status == 3
    assert "/nowhere/llama-server" in ran.stderr


def test_the_key_is_in_no_command_line_and_no_log(edgebench: Program) -> None:
    process = edgebench.start("run", "--rounds", "3", "--prompt-tokens", "16", "--gen-tokens", "64", "--ctx", "256")
    assert process.stderr
    for line in process.stderr:
        if ": measuring" in line:
            break
    (engine,) = engines_of(edgebench.folder)
    key = engine.environ()["LLAMA_API_KEY"]
    assert len(key) == 32
    seen = [" ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"])]
    assert not any(key in text for text in seen)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    for file in edgebench.folder.rglob("*"):
        if file.is_file():
            assert key.encode() not in file.read_bytes()


def test_the_first_start_on_a_gpu_is_told_apart(edgebench: Program, gpu: str) -> None:
    """lavapipe stands for a GPU: all layers offload, and its driver compiles shaders at the first start."""
    edgebench.env["HOME"] = str(edgebench.folder / "home")
    edgebench.env["EDGEBENCH_CACHE"] = os.environ.get("EDGEBENCH_CACHE", str(Path.home() / ".cache" / "edgebench"))
    (edgebench.folder / "home").mkdir()
    edgebench.write("devices/gpu.yaml", gpu)
    args = ("--device", "gpu", "--backend", "vulkan", "--ctx", "128", "--prompt-tokens", "4", "--gen-tokens", "2,3")
    first = edgebench("run", *args, "--rounds", "1", "--settle", "0", "--json", "-")
    assert first.status == 0, first.stderr
    for record in first.records:
        assert record["facts"]["engine"]["backend"] == "vulkan"
        assert record["facts"]["engine"]["layers_offloaded"] == record["facts"]["engine"]["layers"] == 31
        assert "backend-mismatch" not in [doubt["id"] for doubt in record["doubts"]]
    starts = [one["notes"]["load_regime"] for r in first.records for one in r["rounds"] if one["fresh"]]
    assert starts == ["first"]
    again = edgebench("run", *args[:-2], "--gen-tokens", "2", "--rounds", "1", "--settle", "1", "--json", "-").record
    assert [one["notes"]["load_regime"] for one in again["rounds"]] == ["warm"]
    held_against_the_gpu(again)
    shown = edgebench("results", "show", again["id"]).stdout
    assert "measured ÷ estimated" in shown
    # A GPU that isn't there: the engine computes on the CPU without a word, and the record says so.
    edgebench.write("devices/gpu.yaml", gpu.replace("GGML_VK_VISIBLE_DEVICES: '0'", "GGML_VK_VISIBLE_DEVICES: ''"))
    fell = edgebench("run", *args[:-2], "--gen-tokens", "2", "--rounds", "1", "--settle", "0", "--json", "-").record
    assert fell["facts"]["engine"]["backend"] == "cpu"
    assert "backend-mismatch" in [doubt["id"] for doubt in fell["doubts"]]


def held_against_the_gpu(record: dict[str, Any]) -> None:
    """Its bandwidth is measured by the engine's own ggml; the model's file isn't held in RAM as well."""
    found = record["facts"]["device"]["gpu_read_bandwidth"]
    assert "llvmpipe" in found["device"]
    assert "ggml multiplies" in found["method"]
    assert found["bytes_per_s"] > 1e6
    assert record["metrics"]["mbu"]["value"] > 0
    assert 0 < record["facts"]["engine"]["weights_mapped_b"] < 0.5 * record["facts"]["model"]["weights_bytes"]
    assert "weights-twice" not in [doubt["id"] for doubt in record["doubts"]]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that is soon full. Needs the right to mount, as in CI."""
    disk = tmp_path / "small"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_fills_up_ends_the_run_and_keeps_what_was_measured(edgebench: Program, small_disk: Path) -> None:
    store = small_disk / "results.sqlite"
    process = edgebench.start(
        "run", "--rounds", "500", "--prompt-tokens", "4", "--gen-tokens", "4", "--ctx", "128", "--settle", "0",
        "--store", str(store),
    )  # fmt: skip
    assert process.stderr
    for line in process.stderr:
        if "round 2/" in line:
            break
    with (small_disk / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
        while True:
            ballast.write(b"x" * 1024)
    rest = process.stderr.read()
    assert process.wait(120) == 2
    assert "Traceback" not in rest
    assert "full" in rest
    wait_for(lambda: not engines_of(edgebench.folder))
    shown = edgebench("results", "list", "--json", "--store", str(store))
    (record,) = json.loads(shown.stdout)["records"]
    assert record["status"] == "interrupted"


def test_a_store_on_a_read_only_disk_is_refused_before_anything_starts(edgebench: Program, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    ran = edgebench("run", *QUICK, "--store", str(small_disk / "results.sqlite"))
    assert ran.status == 2
    assert "results.sqlite" in ran.stderr
    assert "starting the engine" not in ran.stderr
