"""``edgebench run`` around the measurement: the gate, the roofline, rounds until it is sure, what ran out."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from lab import faulty_server
from lab.cli import Program
from lab.tiny import tiny

pytestmark = pytest.mark.lab

QUICK = ("--prompt-tokens", "16", "--gen-tokens", "8", "--ctx", "512", "--rounds", "1")


def test_a_record_knows_the_conditions_it_was_measured_in(edgebench: Program) -> None:
    edgebench.env["EDGEBENCH_SETTLE"] = "2"
    record = edgebench("run", *QUICK, "--json", "-").record
    device = record["facts"]["device"]
    assert 0 <= device["at_start"]["load"] <= 1
    assert device["read_bandwidth"]["bytes_per_s"] > 0
    assert device["read_bandwidth"]["method"]
    assert 0 < record["metrics"]["mbu"]["value"] < 10
    (one,) = record["rounds"]
    assert one["notes"]["gate"]["waited_s"] > 0
    assert one["notes"]["clock_uncertainty_s"] > 0
    ((depth, use),) = one["notes"]["mbu_by_depth"]
    assert 0 < depth <= 24
    assert use == pytest.approx(record["metrics"]["mbu"]["value"])
    assert one["notes"]["sampling_absent"]["gpu_memory_b"]
    need = record["facts"]["model"]["estimate"]
    assert need["total_b"] == need["weights_b"] + need["kv_b"] + need["compute_b"]
    assert 0.5 < need["total_b"] / record["metrics"]["peak_rss_b"]["value"] < 1.2


@pytest.fixture
def small_model(edgebench: Program) -> tuple[str, ...]:
    """Where the figures don't matter."""
    return ("--model", str(tiny(edgebench.folder / "tiny.gguf", context=8192)))


def test_rounds_go_on_until_the_interval_is_narrow_or_the_limit_is_reached(edgebench: Program, small_model) -> None:
    words = (*QUICK[:-1], "2", *small_model, "--max-rounds", "3", "--json", "-")
    assert len(edgebench("run", *words, "--target-ci", "0.001%").record["rounds"]) == 3
    assert len(edgebench("run", *words).record["rounds"]) == 2


def test_strict_makes_a_failure_of_a_doubt(edgebench: Program, small_model) -> None:
    ran = edgebench("run", *QUICK, *small_model, "--strict")
    assert ran.status == 1
    assert "--strict: 1 of 1 results have doubts" in ran.stderr
    assert "few-rounds" in ran.stdout


@pytest.mark.parametrize("share", ["0", "150%", "-2%", "two", "%", ""])
def test_a_share_that_makes_no_sense(edgebench: Program, share: str) -> None:
    ran = edgebench("run", *QUICK, "--target-ci", share)
    assert ran.status == 2
    assert "--target-ci" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.fixture
def small(edgebench: Program) -> Iterator[Program]:
    """A device on which any context above 512 tokens is too large."""
    server = edgebench.write(
        "server.sh", f'#!/bin/sh\nexec "{sys.executable}" "{faulty_server.__file__}" out-of-memory "$@"\n'
    )
    server.chmod(0o755)
    edgebench.write(
        "devices/small.yaml",
        f"name: small\nsystem: linux\ntransport: {{kind: local}}\nengines:\n  llama.cpp: {{path: '{server}'}}\n",
    )
    return edgebench


def test_a_sweep_that_runs_out_of_memory_knows_its_frontier(small: Program, small_model) -> None:
    words = (
        *small_model,
        *QUICK[:4],
        "--ctx",
        "512,1024,2048,4096",
        "--rounds",
        "1",
        "--device",
        "small",
        "--json",
        "-",
    )
    ran = small("run", *words)
    assert ran.status == 1
    by_ctx = {record["trial"]["options"]["ctx"]: record for record in ran.records}
    assert by_ctx[512]["status"] == "ok"
    failed = [ctx for ctx, record in by_ctx.items() if record["status"] == "failed"]
    skipped = [ctx for ctx, record in by_ctx.items() if record["status"] == "skipped"]
    assert sorted(failed + skipped) == [1024, 2048, 4096]
    assert skipped
    assert all(any(ctx >= tried for tried in failed) for ctx in skipped)
    assert "ran out" in by_ctx[skipped[0]]["failure"]["message"]
    assert "skipped: skipped" not in small("results", "list").stdout
    assert any("frontier" in note for note in by_ctx[failed[0]]["notes"])
    assert not any(by_ctx[ctx]["doubts"] for ctx in failed + skipped)  # they have no figure to doubt
