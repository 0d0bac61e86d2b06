"""Library runs in processes of their own: Ctrl-C, and a device that another run holds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from lab.here import bundled_profile
from lab.place import Place
from lab.tiny import tiny

import edgebench

QUICK = {"ctx": 256, "prompt_tokens": 8, "gen_tokens": 4, "settle": 0.0}
SCRIPT = """
import edgebench, json, os

def show(device, event):
    if isinstance(event, edgebench.RoundFinished):
        print("measured", flush=True)

try:
    edgebench.run(**json.loads(os.environ["ARGUMENTS"]), on_event=show)
except KeyboardInterrupt as interrupt:
    print(type(interrupt).__name__, interrupt.run, interrupt.measured, flush=True)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGEBENCH_STORE", raising=False)
    return tmp_path


@contextmanager
def running(arguments: Mapping[str, object]) -> Iterator[subprocess.Popen[str]]:
    """A library run of many rounds in another process, of which one is finished."""
    env = {**os.environ, "ARGUMENTS": json.dumps({**arguments, **QUICK, "rounds": 1000})}
    child = subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True, env=env)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "measured\n"
        yield child
    finally:
        child.kill()
        child.wait()


def interrupted(child: subprocess.Popen[str]) -> list[str]:
    """What the run printed last, after Ctrl-C."""
    assert child.stdout is not None
    child.send_signal(signal.SIGINT)
    printed = child.stdout.read().splitlines()
    assert child.wait(60) == 0
    return printed[-1].split()


def engines(folder: Path) -> list[psutil.Process]:
    """Processes that were started with a file in this folder."""
    listed = psutil.process_iter(["cmdline"])
    return [one for one in listed if any(str(folder) in word for word in one.info["cmdline"] or ())]


@pytest.mark.lab
def test_ctrl_c_is_raised_with_the_engines_ended_and_the_rounds_kept(here: Path) -> None:
    model = tiny(here / "model.gguf")
    with running({"models": str(model)}) as child:
        at_work = engines(here)
        assert at_work
        name, run, measured = interrupted(child)
    assert (name, measured) == ("RunInterrupted", "True")
    assert psutil.wait_procs(at_work, timeout=30)[1] == []
    assert engines(here) == []
    (kept,) = edgebench.load(runs=run)
    assert kept.status == "interrupted"
    assert len(kept.rounds) >= 1


def test_a_second_run_says_which_process_holds_the_device(here: Path, linux: Place) -> None:
    model = tiny(here / "model.gguf")
    device = bundled_profile(here, system=linux.system, transport=dict(linux.transport), workspace=linux.folder)
    with running({"devices": str(device), "models": str(model)}) as first:
        with pytest.raises(edgebench.DeviceRefused, match=rf"bundled is in use by .*, process {first.pid}, since"):
            edgebench.run(device, model, rounds=1, **QUICK)
        (only,) = edgebench.load()
        assert only.status == "running"
        name, run, _ = interrupted(first)
    assert (name, run) == ("RunInterrupted", only.run["id"])
    (second,) = edgebench.run(device, model, rounds=1, **QUICK)
    assert second.status == "ok"
