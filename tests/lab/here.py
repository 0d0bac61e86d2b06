"""This machine, as a device of the lab."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from lab.place import Place


@pytest.fixture
def local(tmp_path: Path) -> Place:
    folder = tmp_path / "local"
    folder.mkdir()
    return Place("lab-local", "linux", {"kind": "local"}, str(folder), folder, 0)


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
