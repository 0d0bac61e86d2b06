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
"""Seconds without renewal after which a lock expires."""

ACQUIRE_TIMEOUT_S = 30.0
"""Timeout for the reply of the process that acquires the lock."""

POLL_INTERVAL_S = 2.0
"""Seconds between attempts to acquire a device that is in use."""


class DeviceInUse(DeviceRefused):
    """Another process holds the device's lock."""


@dataclass(frozen=True)
class WaitPolicy:
    """How long to wait for a device that is in use."""

    seconds: float = 0.0
    on_wait: Callable[[str], None] = lambda text: None
    """Called before each pause with a message that names the owner; an exception from it ends the wait."""


NO_WAIT = WaitPolicy()


@contextlib.contextmanager
def hold_lock(session: Session, wait_policy: WaitPolicy = NO_WAIT) -> Iterator[None]:
    """Hold the device's lock. Raises ``DeviceInUse``, which names the owner, when the wait times out.

    This machine is not locked, since other programs use it anyway.
    """
    if session.is_local:
        yield
        return
    files = session.system.files
    output = session.run(files.make_folder(session.workspace).command)
    if output.status != 0:
        raise DeviceRefused(
            f"{session.device.name}: {output.stderr.strip() or output.stdout.strip()}",
            "Set workspace: in the profile to a writable folder.",
        )
    process = _LockProcess(session, files.lock(files.join(session.workspace, "lock"), _describe_owner(), LEASE_S))
    try:
        _acquire(process, wait_policy)
        session.reconnect_hooks.append(process.acquire)
        yield
    finally:
        process.release()


class MachineMutex:
    """Serialises profiles of one machine in one run (a phone over ADB and its Termux), which would
    otherwise disturb each other's measurements."""

    def __init__(self) -> None:
        self._busy: dict[str, Session] = {}

    @contextlib.contextmanager
    def hold(self, session: Session, on_wait: Callable[[str], None]) -> Iterator[None]:
        """Wait until no other profile of the machine is being measured. ``on_wait`` as in ``WaitPolicy``."""
        boot = session.boot()
        if boot is None:
            yield
            return
        has_waited = False
        while (other := self._busy.setdefault(boot, session)) is not session:
            session.transport.close()  # an idle connection would disturb the other measurement
            has_waited = True
            on_wait(f"waiting: same machine as {other.device.name}")
            time.sleep(POLL_INTERVAL_S)
        try:
            if has_waited:
                session.reopen()
            yield
        finally:
            del self._busy[boot]


def _acquire(process: _LockProcess, wait_policy: WaitPolicy) -> None:
    deadline = time.monotonic() + wait_policy.seconds
    while True:
        try:
            process.acquire()
        except DeviceInUse as error:
            pause = min(POLL_INTERVAL_S, deadline - time.monotonic())
            if pause <= 0:
                raise
            wait_policy.on_wait(f"waiting: {error}")
            time.sleep(pause)
        else:
            return


class _LockProcess:
    """The process on the device that holds the lock; restarted after a lost connection."""

    def __init__(self, session: Session, command: str) -> None:
        self._session, self._command = session, command
        self._process: Process | None = None
        self._done = threading.Event()

    def acquire(self) -> None:
        self._process = self._session.spawn(self._command)
        _wait_acquired(self._session, self._process)
        threading.Thread(target=self._renew, args=[self._process], daemon=True).start()

    def release(self) -> None:
        self._done.set()
        if self._process:
            self._process.kill()

    def _renew(self, process: Process) -> None:
        with contextlib.suppress(DeviceLost):
            while not self._done.wait(LEASE_S / 4):
                process.write("beat\n")


def _describe_owner() -> str:
    process = f"{getpass.getuser()} on {socket.gethostname()}, process {os.getpid()}"
    return f"{process}, since {datetime.now().astimezone():%Y-%m-%d %H:%M} ({secrets.token_hex(4)})"


def _wait_acquired(session: Session, process: Process) -> None:
    deadline = time.monotonic() + ACQUIRE_TIMEOUT_S
    lines: list[str] = []
    while process.status is None and time.monotonic() < deadline:
        line = process.read(0.5)
        if line is None:
            continue
        if line.text == "taken":
            return
        lines.append(line.text)
    name = session.device.name
    if lines and lines[0].startswith("held "):
        raise DeviceInUse(
            f"{name} is in use by {lines[0].removeprefix('held ')}",
            f"Use --wait to wait until it is free. A lock that is not renewed expires after {LEASE_S} s.",
        )
    raise DeviceRefused(f"{name} cannot be locked: {'; '.join(lines) or 'no output'}")
