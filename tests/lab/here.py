"""This machine, as a device of the lab."""

from __future__ import annotations

import contextlib
import json
import secrets
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import edgebench
from lab.place import Place


@pytest.fixture
def local(tmp_path: Path) -> Place:
    folder = tmp_path / "local"
    folder.mkdir()
    return Place("lab-local", "linux", {"kind": "local"}, str(folder), folder, 0)


def bundled_profile(folder: Path, before: str = "", **about: object) -> Path:
    """A device profile whose llama.cpp is the bundled server behind a shell script.

    ``before`` is run for each ``word`` of the server's arguments. ``about`` is what the profile says.
    """
    server = Path(edgebench.__file__).parent / "servers" / "bundled.py"
    script = folder / "llama-server"
    started = f'exec {shlex.quote(sys.executable)} {shlex.quote(str(server))} "$@"'
    script.write_text(f"#!/bin/sh\nfor word; do {before or ':'}; done\n{started}\n")
    script.chmod(0o755)
    profile = folder / "bundled.yaml"
    settings = {"name": "bundled", "system": "linux", "transport": {"kind": "local"}, **about}
    profile.write_text(json.dumps({**settings, "engines": {"llama.cpp": {"path": str(script)}}}))
    return profile


class Sleeper:
    """A command that would go on for ever, and whether it still does."""

    def __init__(self) -> None:
        seconds = 10**6 + secrets.randbelow(10**6)
        self.command = f"sleep {seconds}"
        self._argv = ["sleep", str(seconds)]

    def running(self) -> list[psutil.Process]:
        return [p for p in psutil.process_iter(["cmdline", "status"]) if self._is_mine(p)]

    def _is_mine(self, process: psutil.Process) -> bool:
        return process.info["cmdline"] == self._argv and process.info["status"] != psutil.STATUS_ZOMBIE

    def wait_for(self, count: int, timeout: float = 60) -> None:
        """Until so many of them run."""
        deadline = time.monotonic() + timeout
        while len(self.running()) != count:
            assert time.monotonic() < deadline, f"{len(self.running())} × {self.command}, not {count}"
            time.sleep(0.05)


@pytest.fixture
def sleeper() -> Iterator[Sleeper]:
    one = Sleeper()
    yield one
    for process in one.running():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
