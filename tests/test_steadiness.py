"""Burst against sustained, and what memory says, on records that are made up to be known."""

from __future__ import annotations

import math

import pytest

from edgebench import doubts, measure
from edgebench.core import Metric, Record, Trial


def decoding(seconds: float, rate) -> dict:
    """One turn whose token rate at second t is rate(t)."""
    times, at = [0.0], 0.0
    while at < seconds:
        at += 1 / rate(at)
        times.append(at)
    return {"measures": ["decode"], "sent_at": 100.0, "ttft_s": 0.5, "token_times": times}


def test_a_device_that_throttles_and_then_holds():
    found = measure.steadiness([decoding(300, lambda t: 10 + 10 * math.exp(-t / 30))])
    assert found.burst == pytest.approx(16.1, rel=0.05)
    assert found.sustained == pytest.approx(10.0, rel=0.02)


def test_one_that_never_settles_has_no_sustained_rate():
    found = measure.steadiness([decoding(240, lambda t: 20 - t / 20)])
    assert found.sustained is None
    assert found.slope < -0.01


def test_a_short_round_says_nothing():
    assert measure.steadiness([decoding(20, lambda t: 10)]).slope is None
    assert measure.steadiness([]) is None
    assert measure.steadiness([{"measures": ["prefill"], "token_times": []}]) is None


def record(buffers: dict[str, int], **metrics: float) -> Record:
    return Record(
        id="x",
        run={},
        status="ok",
        trial=Trial("d", "m", "llama.cpp", "cuda", "throughput", {}),
        facts={"model": {"weights_bytes": 4_000_000_000}, "engine": {"backend": "cuda", "buffers": buffers}},
        metrics={name: Metric(value, "bytes", (value,) * 5) for name, value in metrics.items()},
    )


def ids(one: Record) -> set[str]:
    return {doubt.id for doubt in doubts.judge(one)}


def test_weights_in_ram_and_on_the_gpu():
    """As in 2023, when a GPU run kept the mapped file resident."""
    on_gpu = {"CUDA0 model": 3_900_000_000, "CPU_Mapped model": 100_000_000}
    assert "weights-twice" in ids(record(on_gpu, steady_file_b=3.95e9))
    assert "weights-twice" not in ids(record(on_gpu, steady_file_b=0.2e9))
    assert "weights-twice" not in ids(record({"CPU_Mapped model": 4_000_000_000}, steady_file_b=4e9))


def test_gpu_memory_that_spilled():
    on_gpu = {"CUDA0 model": 3_900_000_000}
    assert "spilled" in ids(record(on_gpu, gpu_memory_b=3e9, gpu_shared_b=0.9e9))
    assert "spilled" not in ids(record(on_gpu, gpu_memory_b=4e9, gpu_shared_b=0.1e9))
