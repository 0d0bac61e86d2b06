"""One user of a device at a time: an advisory lock on the device, with an owner and a lease."""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from edgebench.core import Process
from edgebench.device.session import Session
from edgebench.errors import DeviceLost, DeviceRefused

LEASE_S = 60
"""Seconds after which the lock of a controller that went silent may be taken by another."""

TAKE_S = 30.0

AGAIN_S = 2.0
"""Seconds between two tries to get a device that somebody else has."""


class InUse(DeviceRefused):
    """Somebody else has the device."""


@dataclass(frozen=True)
class Patience:
    """How long to wait for a device that somebody else has."""

    seconds: float = 0.0
    told: Callable[[str], None] = lambda text: None
    """Called with who has it, before each pause; what it raises ends the wait."""


AT_ONCE = Patience()


@contextlib.contextmanager
def held(session: Session, patience: Patience = AT_ONCE) -> Iterator[None]:
    """Hold the device's lock. Raises ``InUse`` with its owner where somebody else has it too long.

    This machine is not locked: what else it is used for nobody can tell anyway.
    """
    if session.is_local:
        yield
        return
    files = session.system.files
    said = session.run(files.make_folder(session.workspace).command)
    if said.status != 0:
        raise DeviceRefused(
            f"{session.device.name}: {said.stderr.strip() or said.stdout.strip()}",
            "Set workspace: in the profile to a folder that can be written.",
        )
    holder = _Holder(session, files.lock(files.join(session.workspace, "lock"), _owner(), LEASE_S))
    try:
        _await(holder, patience)
        session.again.append(holder.take)
        yield
    finally:
        holder.let_go()


class MachineMutex:
    """Profiles of one machine in one run (a phone over ADB and its Termux) take turns: side by side
    they would starve each other."""

    def __init__(self) -> None:
        self._busy: dict[str, Session] = {}

    @contextlib.contextmanager
    def mine(self, session: Session, told: Callable[[str], None]) -> Iterator[None]:
        """Wait until no other profile of the machine has its turn. ``told`` as in ``Patience``."""
        boot = session.boot()
        if boot is None:
            yield
            return
        waited = False
        while (other := self._busy.setdefault(boot, session)) is not session:
            session.transport.close()  # what is measured there is left alone
            waited = True
            told(f"waiting: it is the same machine as {other.device.name}")
            time.sleep(AGAIN_S)
        try:
            if waited:
                session.reopen()
            yield
        finally:
            del self._busy[boot]


def _await(holder: _Holder, patience: Patience) -> None:
    deadline = time.monotonic() + patience.seconds
    while True:
        try:
            holder.take()
        except InUse as error:
            pause = min(AGAIN_S, deadline - time.monotonic())
            if pause <= 0:
                raise
            patience.told(f"waiting: {error}")
            time.sleep(pause)
        else:
            return


class _Holder:
    """The process on the device that holds the lock; another one after the wire broke."""

    def __init__(self, session: Session, command: str) -> None:
        self._session, self._command = session, command
        self._process: Process | None = None
        self._done = threading.Event()

    def take(self) -> None:
        self._process = self._session.transport.spawn(self._command)
        _take(self._session, self._process)
        threading.Thread(target=self._renew, args=[self._process], daemon=True).start()

    def let_go(self) -> None:
        self._done.set()
        if self._process:
            self._process.kill()

    def _renew(self, process: Process) -> None:
        with contextlib.suppress(DeviceLost):
            while not self._done.wait(LEASE_S / 4):
                process.write("beat\n")


def _owner() -> str:
    who = f"{getpass.getuser()} on {socket.gethostname()}, process {os.getpid()}"
    return f"{who}, since {datetime.now().astimezone():%Y-%m-%d %H:%M} ({secrets.token_hex(4)})"


def _take(session: Session, process: Process) -> None:
    deadline = time.monotonic() + TAKE_S
    words: list[str] = []
    while process.status is None and time.monotonic() < deadline:
        line = process.read(0.5)
        if line is None:
            continue
        if line.text == "taken":
            return
        words.append(line.text)
    name = session.device.name
    if words and words[0].startswith("held "):
        raise InUse(
            f"{name} is in use by {words[0].removeprefix('held ')}",
            f"Use --wait to wait until it is free. A lock that is not renewed expires after {LEASE_S} s.",
        )
    raise DeviceRefused(f"{name} cannot be locked: {'; '.join(words) or 'no output'}")
