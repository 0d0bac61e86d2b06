"""A command on an SSH channel: its streams, its status, its end."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from edgebench.core import Line
from edgebench.errors import DeviceLost
from edgebench.transports.ssh_login import transport_errors
from edgebench.transports.streams import LineQueue

if TYPE_CHECKING:
    import paramiko

BLOCK = 1 << 16
"""Bytes read at once from a stream."""


class SshProcess:
    """A command running over SSH."""

    def __init__(self, channel: paramiko.Channel, loss_message: Callable[[], str]) -> None:
        self._channel, self._loss_message = channel, loss_message
        self._killed = False
        self._failed = threading.Event()
        receivers = (_failsafe_receiver(receive, self._failed) for receive in (channel.recv, channel.recv_stderr))
        self._lines = LineQueue(dict(zip(("out", "err"), receivers, strict=True)))

    def read(self, timeout: float) -> Line | None:
        line = self._lines.get(timeout)
        if line is None and self._lines.is_ended and self.status is None:
            raise DeviceLost(self._loss_message())
        return line

    def write(self, text: str) -> None:
        try:
            self._channel.sendall(text.encode())
        except transport_errors() as error:
            raise DeviceLost(self._loss_message()) from error

    @property
    def status(self) -> int | None:
        if not self._lines.is_ended:
            return None
        status = -1 if self._failed.is_set() else self._channel.recv_exit_status()
        if status < 0:
            return 128 + 9 if self._killed else None
        return status

    def kill(self) -> None:
        self._killed = True
        # Even this raises on a connection that just broke.
        with contextlib.suppress(*transport_errors()):
            self._channel.close()


class StreamCollector(threading.Thread):
    """A complete stream, read by a thread of its own."""

    def __init__(self, receive: Callable[[int], bytes]) -> None:
        super().__init__(daemon=True)
        self.failed = threading.Event()
        self._receive = _failsafe_receiver(receive, self.failed)
        self._blocks: list[bytes] = []
        self.started = threading.Event()
        """Set after the first complete line or the end."""
        self.start()

    def run(self) -> None:
        while block := self._receive():
            self._blocks.append(block)
            if b"\n" in block:
                self.started.set()
        self.started.set()

    @property
    def text(self) -> str:
        return b"".join(self._blocks).decode("utf-8", "replace")


def _failsafe_receiver(receive: Callable[[int], bytes], failed: threading.Event) -> Callable[[], bytes]:
    """``receive``, with errors of the connection as the end of the stream and ``failed`` set.

    Receiving also sends window adjustments, so it may raise.
    """

    def receive_block() -> bytes:
        try:
            return receive(BLOCK)
        except transport_errors():
            failed.set()
            return b""

    return receive_block


def send_input(channel: paramiko.Channel, stdin: bytes) -> None:
    """Send all of a command's standard input and close it; the command may exit without reading it."""
    with contextlib.suppress(*transport_errors()):
        channel.sendall(stdin)
        channel.shutdown_write()
