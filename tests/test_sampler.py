"""The sampler on this machine: in dash, in bash, and in mksh with toybox (Android's shell)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

import pytest

from edgebench.core import Device
from edgebench.probes.cpu import Cpu
from edgebench.probes.memory import Memory
from edgebench.sampler import Sampler
from edgebench.session import Session

MIB = 1 << 20
HOLD = "import sys, time; print('ready', flush=True); sys.stdin.read()"


@pytest.fixture(params=["dash", "bash", "mksh"])
def shell(request, tmp_path, monkeypatch):
    """``sh`` is another shell; with mksh the programs are toybox's, as on Android."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "sh").symlink_to(shutil.which(request.param))
    if request.param == "mksh":
        toybox = shutil.which("toybox")
        for name in subprocess.run([toybox], capture_output=True, text=True, check=True).stdout.split():
            if not (folder / name).exists():
                (folder / name).symlink_to(toybox)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return request.param


@pytest.fixture
def session():
    with Session(Device("here", "linux", {"kind": "local"})) as opened:
        yield opened


@pytest.fixture
def helper():
    """Start a Python program and wait until it says it is ready."""
    started = []

    def start(code: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def seen(name: str, times: int):
    return lambda sampler: sum(sample.name == name for sample in list(sampler.samples)) >= times


def rss(session, pid: int) -> dict[str, float]:
    """What the process's memory is now."""
    with Sampler(session, pid, {"memory": Memory()}) as sampler:
        assert sampler.wait(seen("rss_b", 1), 60)
    return sampler.between(0, time.monotonic())


def test_memory_and_cpu_are_read_in_every_shell(shell, session, helper):
    process = helper(HOLD)
    with Sampler(session, process.pid, {"memory": Memory(), "cpu": Cpu()}) as sampler:
        start = time.monotonic()
        assert sampler.wait(seen("cpu_engine", 3), 60)
        assert sampler.wait(seen("swap_in_b", 1), 60)
    metrics = sampler.between(start, time.monotonic())
    assert metrics["peak_rss_b"] >= metrics["rss_b"] > MIB
    assert metrics["rss_anon_b"] + metrics["rss_file_b"] + metrics["rss_shmem_b"] == metrics["rss_b"]
    assert 0 <= metrics["cpu_util"] <= 1
    assert 0 <= metrics["cpu_engine"] <= 0.5
    assert len(sampler.by_label("cpu_core_util", "core", start, time.monotonic())) == os.cpu_count()
    assert sampler.absent == {}
    assert sampler.clock.uncertainty < 5
    assert 0 <= sampler.cost.cpu_s < sampler.cost.wall_s
