"""This machine: commands run in its own shell, files are copied, ports need no forwarding."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgebench.core import Line, Output, Progress
from edgebench.errors import DeviceLost, DeviceRefused, TimedOut
from edgebench.transports.streams import LineQueue

WINDOWS = sys.platform == "win32"


@dataclass(frozen=True)
class Settings:
    """No options: there is only one such machine."""


class Local:
    """The controller itself, as a device."""

    Config = Settings

    def __init__(self, config: Settings) -> None:
        self.config = config

    def open(self) -> None:
        """Nothing to connect to."""

    def close(self) -> None:
        """Nothing to close."""

    def run(self, command: str, *, timeout: float = 60, stdin: bytes = b"") -> Output:
        with _start(command) as process:
            try:
                out, err = process.communicate(stdin, timeout)
            except subprocess.TimeoutExpired as error:
                _end_group(process)
                raise TimedOut(f"timed out: a command took longer than {timeout:g} s: {command[:200]}") from error
        return Output(out.decode("utf-8", "replace"), err.decode("utf-8", "replace"), _status(process.returncode))

    def spawn(self, command: str) -> LocalProcess:
        return LocalProcess(_start(command))

    def push(self, local: Path, remote: str, progress: Progress | None = None) -> None:
        _copy(local, Path(remote), progress)

    def pull(self, remote: str, local: Path) -> None:
        _copy(Path(remote), local, None)

    @contextlib.contextmanager
    def forward(self, port: int) -> Iterator[int]:
        yield port

    reverse = forward


class LocalProcess:
    """A command on this machine, in a process group of its own."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        out, err = process.stdout, process.stderr
        assert out is not None and err is not None
        self._lines = LineQueue(
            {"out": lambda: os.read(out.fileno(), 65_536), "err": lambda: os.read(err.fileno(), 65_536)}
        )

    def read(self, timeout: float) -> Line | None:
        return self._lines.get(timeout)

    def write(self, text: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(text.encode())
            self._process.stdin.flush()
        except (OSError, ValueError) as error:
            raise DeviceLost("the program on this machine has closed its standard input") from error

    @property
    def status(self) -> int | None:
        if not self._lines.is_ended:
            return None
        return _status(self._process.wait())

    def kill(self) -> None:
        _end_group(self._process)


def _start(command: str) -> subprocess.Popen[bytes]:
    # As in Windows' OpenSSH, cmd receives the command unmodified; a list would be quoted.
    shell = f'cmd.exe /d /s /c "{command}"' if WINDOWS else ["/bin/sh", "-c", command]
    pipe = subprocess.PIPE
    try:
        # A session of its own: Ctrl-C at the terminal reaches edgebench only, which then ends the
        # engine in order and keeps what was measured.
        return subprocess.Popen(shell, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
    except OSError as error:
        raise DeviceRefused(f"cannot start a shell on this machine: {error}") from error


def _end_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        if WINDOWS:
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)


def _status(returncode: int) -> int:
    return returncode if returncode >= 0 or WINDOWS else 128 - returncode


def _copy(source: Path, target: Path, progress: Progress | None) -> None:
    """Copy through a temporary name, so that an incomplete copy never has the final name."""
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, part)
        part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise DeviceRefused(f"cannot copy {source} to {target}: {error}") from error
    if progress is not None:
        size = target.stat().st_size
        progress(size, size)
