"""Burst against sustained, and what memory says, on records that are made up to be known."""

from __future__ import annotations

import math

import pytest
from lab.paths import RECORDED

from edgebench.core import Facts, Metric, Record, RoundData, Trial, Turn
from edgebench.judging import judge, metrics
from edgebench.judging.metrics import rates
from edgebench.probes.windows_gpu import WindowsGpu


def decoding(seconds: float, rate) -> Turn:
    """One turn whose token rate at second t is rate(t)."""
    times, at = [0.0], 0.0
    while at < seconds:
        at += 1 / rate(at)
        times.append(at)
    return Turn(measures=("decode",), sent_at=100.0, ttft_s=0.5, token_times=tuple(times))


def test_a_device_that_throttles_and_then_holds():
    found = rates.steadiness([decoding(300, lambda t: 10 + 10 * math.exp(-t / 30))])
    assert found.burst == pytest.approx(16.1, rel=0.05)
    assert found.sustained == pytest.approx(10.0, rel=0.02)


def test_one_that_never_settles_has_no_sustained_rate():
    found = rates.steadiness([decoding(240, lambda t: 20 - t / 20)])
    assert found.sustained is None
    assert found.slope.value < -0.01
    assert found.slope.state == "changing"


def test_a_short_round_says_nothing():
    assert rates.steadiness([decoding(20, lambda t: 10)]).slope is None
    assert rates.steadiness([]) is None
    assert rates.steadiness([Turn(measures=("prefill",))]) is None


def record(buffers: dict[str, int], mapped: int | None = None, **metrics: float) -> Record:
    engine = {"backend": "cuda", "buffers": buffers, **({} if mapped is None else {"weights_mapped_b": mapped})}
    return Record(
        id="x",
        run={},
        status="ok",
        trial=Trial("d", "m", "llama.cpp", "cuda", "throughput", {}),
        facts=Facts.from_document({"model": {"weights_bytes": 4_000_000_000}, "engine": engine}),
        metrics={name: Metric(value, "bytes", (value,) * 5) for name, value in metrics.items()},
    )


def ids(one: Record) -> set[str]:
    return {doubt.id for doubt in judge.judge(one)}


def test_weights_in_ram_and_on_the_gpu():
    """As in 2023, when a GPU run kept the mapped file resident; what the engine maps by right doesn't count."""
    on_gpu = {"CUDA0 model": 3_900_000_000, "CPU_Mapped model": 100_000_000}
    assert "weights-twice" in ids(record(on_gpu, 3_950_000_000))
    assert "weights-twice" not in ids(record(on_gpu, 200_000_000))
    assert "weights-twice" not in ids(record(on_gpu)), "nobody knows"
    assert "weights-twice" not in ids(record({"CPU_Mapped model": 4_000_000_000}, 4_000_000_000))
    # What llama-server b10434 said with --no-mmap on the lab's GPU: its host buffer is main memory.
    pinned = {"Vulkan0 model": 3_900_000_000, "Vulkan_Host model": 1_200_000_000}
    assert "weights-twice" not in ids(record(pinned, 0))
    half = {"CUDA0 model": 2_200_000_000, "CPU_Mapped model": 1_800_000_000}
    assert "weights-twice" not in ids(record(half, 1_900_000_000))
    assert "weights-twice" in ids(record(half, 4_000_000_000))


def test_gpu_memory_that_spilled():
    """What a Windows laptop's counters said (recorded/gpu-memory-windows): 6 GiB on the GPU, 901 MiB beside it."""
    text = (RECORDED / "gpu-memory-windows.txt").read_text()
    found = list(WindowsGpu().parse(1.0, text))
    sums = {name: sum(s.value for s in found if s.name == name) for name in ("gpu_memory_b", "gpu_shared_b")}
    on_gpu = {"CUDA0 model": 3_900_000_000}
    assert "spilled" in ids(record(on_gpu, **sums))
    assert "spilled" not in ids(record(on_gpu, gpu_memory_b=4e9, gpu_shared_b=0.1e9))


def test_the_engines_own_first_token_and_what_the_wire_took():
    turns = [
        Turn(measures=("ttft",), ttft_s=0.5, engine_ttft_s=0.4),
        Turn(measures=("ttft",), ttft_s=0.9, engine_ttft_s=0.75),
        Turn(measures=("ttft",), ttft_s=0.7, engine_ttft_s=0.5),
        Turn(measures=(), ttft_s=9.0, engine_ttft_s=1.0),
    ]
    found, _ = metrics.compute(rates.METRICS, RoundData(turns))
    assert (found["ttft_s"], found["engine_ttft_s"], found["wire_s"]) == pytest.approx((0.7, 0.5, 0.15))
    assert metrics.compute(rates.METRICS, RoundData([Turn(measures=("ttft",), ttft_s=0.5)])) == ({"ttft_s": 0.5}, [])
