"""Commands on an Android device: shell protocol version 2, and a substitute for phones without it."""

from __future__ import annotations

import contextlib
import queue
import shlex
import socket
import struct
import threading
from collections.abc import Iterator
from typing import BinaryIO, Literal, Protocol

from edgebench.core import Line, Output
from edgebench.errors import DeviceLost
from edgebench.transports.streams import LineQueue

Chunk = tuple[Literal["out", "err"], bytes] | tuple[Literal["exit"], int]

BLOCK = 256 * 1024
"""Bytes per packet of a push."""

STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)
PACKET = struct.Struct("<BI")

HOME = "/data/local/tmp"
"""Where commands start: the one folder of ``adb shell`` that may be written and executed."""

TAGGED_SHELL = """\
tag() {{ while IFS= read -r l; do print -r -- "$1$l"; done; [ -z "$l" ] || print -r -- "$2$l"; }}
exec 3>&1
go() {{ sh -c {command} 3>&- 4>&-; echo $? >&4; }}
s=$( {{ {feed} {{ {{ go 2>&1 >&5 5>&- | tag e E >&3; }} 5>&1 | tag o O >&3; }}; }} 4>&1 )
echo x$s
"""
"""A command on a phone without shell v2: every line marked with its stream, ``x`` and the status last.
Capitals mark a last line without an end. ``read`` and ``print`` are mksh's own."""


PRINT_GROUP = {True: "echo $$\n", False: "echo o$$\n"}
"""Prints the shell's pid, which is its process group's, as the first line. With and without shell v2."""


def service_name(command: str, has_shell_v2: bool, input_size: int | None) -> str:
    """The name of the service that runs a command. ``input_size``: bytes of its input; None: open
    until the stream is closed."""
    command = f"cd {HOME} 2>/dev/null\n{command}"
    if has_shell_v2:
        return f"shell,v2,raw:{command}"
    # An ADB stream cannot be half closed, so the command's input ends after `input_size` bytes.
    feed = "" if input_size is None else f"head -c {input_size} |"
    return "exec:" + TAGGED_SHELL.format(command=shlex.quote(command), feed=feed)


class Shell:
    """One command's stream, in either shell protocol."""

    def __init__(self, sock: socket.socket, has_shell_v2: bool, prints_group: bool = False) -> None:
        self.sock, self._has_shell_v2, self._prints_group = sock, has_shell_v2, prints_group
        self.group: int | None = None
        """Its process group on the device, once it runs; requires ``prints_group``."""
        self.started = threading.Event()
        """Set once the process group is known or the command has ended."""

    def write(self, data: bytes) -> int:
        self.sock.sendall(PACKET.pack(STDIN, len(data)) + data if self._has_shell_v2 else data)
        return len(data)

    def end_input(self) -> None:
        if self._has_shell_v2:
            self.sock.sendall(PACKET.pack(CLOSE_STDIN, 0))

    def read_chunks(self) -> Iterator[Chunk]:
        """The output in order of arrival; the last item is ("exit", status), unless the connection broke."""
        buffer = b""
        with contextlib.suppress(OSError), self.sock.makefile("rb") as file:
            for chunk in _read_packets(file) if self._has_shell_v2 else _read_tagged(file):
                if self._prints_group and self.group is None and isinstance(chunk[1], bytes) and chunk[0] == "out":
                    buffer += chunk[1]
                    if b"\n" not in buffer:
                        continue
                    pid_line, rest = buffer.split(b"\n", 1)
                    if not pid_line.isdigit():
                        return  # not the output of this command
                    self.group = int(pid_line)
                    self.started.set()
                    yield "out", rest
                    continue
                yield chunk
                if chunk[0] == "exit":
                    return

    def collect(self) -> Output | None:
        """The complete output; None if the connection broke."""
        blocks: dict[str, list[bytes]] = {"out": [], "err": []}
        status = None
        for name, data in self.read_chunks():
            if isinstance(data, int):
                status = data
            else:
                blocks[name].append(data)
        self.started.set()
        out, err = (b"".join(blocks[stream]).decode("utf-8", "replace") for stream in ("out", "err"))
        return None if status is None else Output(out, err, status)

    def send_input(self, stdin: bytes) -> None:
        """Send all of a command's input; it may exit without reading it."""
        with contextlib.suppress(OSError):
            for start in range(0, len(stdin), BLOCK):
                self.write(stdin[start : start + BLOCK])
            self.end_input()


def _read_packets(file: BinaryIO) -> Iterator[Chunk]:
    """Shell protocol, version 2 (adb's shell_protocol.h): id, length, bytes."""
    while len(head := file.read(PACKET.size)) == PACKET.size:
        packet_type, length = PACKET.unpack(head)
        data = file.read(length)
        if len(data) < length:
            return
        if packet_type == EXIT and data:
            yield "exit", data[0]
        elif packet_type in (STDOUT, STDERR):
            yield ("out" if packet_type == STDOUT else "err"), data


def _read_tagged(file: BinaryIO) -> Iterator[Chunk]:
    """See ``TAGGED_SHELL``."""
    for line in file:
        tag, rest = line[:1], line[1:]
        if tag == b"x" and rest.strip().isdigit():
            yield "exit", int(rest)
        elif tag in b"oe":
            yield ("out" if tag == b"o" else "err"), rest
        elif tag in b"OE":
            yield ("out" if tag == b"O" else "err"), rest[:-1]


class AdbConnection(Protocol):
    """The methods of its transport that a running command needs."""

    def release(self, sock: socket.socket) -> None: ...
    def loss_message(self) -> str: ...


class AdbProcess:
    """A command running on a phone."""

    def __init__(self, connection: AdbConnection, shell: Shell) -> None:
        self._connection, self._shell = connection, shell
        self._status: int | None = None
        self._killed = False
        self._out: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._err: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._lines = LineQueue({"out": self._out.get, "err": self._err.get})
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        try:
            for name, data in self._shell.read_chunks():
                if isinstance(data, int):
                    self._status = data
                elif data:
                    (self._out if name == "out" else self._err).put(data)
        finally:
            self._connection.release(self._shell.sock)
            for stream in (self._out, self._err):
                stream.put(b"")

    def read(self, timeout: float) -> Line | None:
        line = self._lines.get(timeout)
        if line is None and self._lines.is_ended and self.status is None:
            raise DeviceLost(self._connection.loss_message())
        return line

    def write(self, text: str) -> None:
        try:
            self._shell.write(text.encode())
        except OSError as error:
            raise DeviceLost(self._connection.loss_message()) from error

    @property
    def status(self) -> int | None:
        if not self._lines.is_ended:
            return None
        return 128 + 9 if self._status is None and self._killed else self._status

    def kill(self) -> None:
        self._killed = True
        self._connection.release(self._shell.sock)
