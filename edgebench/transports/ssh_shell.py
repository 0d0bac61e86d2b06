"""A command on an SSH channel: its streams, its status, its end."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from edgebench.core import Line
from edgebench.errors import DeviceLost
from edgebench.transports.ssh_login import broken
from edgebench.transports.streams import LineQueue

if TYPE_CHECKING:
    import paramiko

BLOCK = 1 << 16
"""Bytes taken at once from a stream."""


class SshProcess:
    """A command running over SSH."""

    def __init__(self, channel: paramiko.Channel, why: Callable[[], str]) -> None:
        self._channel, self._why = channel, why
        self._killed = False
        self._broke = threading.Event()
        receivers = (_receiver(receive, self._broke) for receive in (channel.recv, channel.recv_stderr))
        self._lines = LineQueue(dict(zip(("out", "err"), receivers, strict=True)))

    def read(self, timeout: float) -> Line | None:
        line = self._lines.get(timeout)
        if line is None and self._lines.ended and self.status is None:
            raise DeviceLost(self._why())
        return line

    def write(self, text: str) -> None:
        try:
            self._channel.sendall(text.encode())
        except broken() as error:
            raise DeviceLost(self._why()) from error

    @property
    def status(self) -> int | None:
        if not self._lines.ended:
            return None
        status = -1 if self._broke.is_set() else self._channel.recv_exit_status()
        if status < 0:
            return 128 + 9 if self._killed else None
        return status

    def kill(self) -> None:
        self._killed = True
        # On a wire that broke just now even this raises.
        with contextlib.suppress(*broken()):
            self._channel.close()


class Collected(threading.Thread):
    """All of a stream, taken in by a thread of its own."""

    def __init__(self, receive: Callable[[int], bytes]) -> None:
        super().__init__(daemon=True)
        self.broke = threading.Event()
        self._receive = _receiver(receive, self.broke)
        self._blocks: list[bytes] = []
        self.begun = threading.Event()
        """A whole line has come, or the end."""
        self.start()

    def run(self) -> None:
        while block := self._receive():
            self._blocks.append(block)
            if b"\n" in block:
                self.begun.set()
        self.begun.set()

    @property
    def text(self) -> str:
        return b"".join(self._blocks).decode("utf-8", "replace")


def _receiver(receive: Callable[[int], bytes], broke: threading.Event) -> Callable[[], bytes]:
    """To receive is to send, too: that there is room for more. A stream that ends by that is marked."""

    def block() -> bytes:
        try:
            return receive(BLOCK)
        except broken():
            broke.set()
            return b""

    return block


def give(channel: paramiko.Channel, stdin: bytes) -> None:
    """All of a command's standard input, then its end. A command may end without reading it all."""
    with contextlib.suppress(*broken()):
        channel.sendall(stdin)
        channel.shutdown_write()
