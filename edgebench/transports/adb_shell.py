"""Commands on an Android device: the shell protocol of version 2, and a stand-in for phones without it."""

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

Piece = tuple[Literal["out", "err"], bytes] | tuple[Literal["exit"], int]

BLOCK = 256 * 1024
"""Bytes per packet of a push."""

STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)
PACKET = struct.Struct("<BI")

HOME = "/data/local/tmp"
"""Where commands start: the one folder of ``adb shell`` that may be written and executed."""

TAGGED = """\
tag() {{ while IFS= read -r l; do print -r -- "$1$l"; done; [ -z "$l" ] || print -r -- "$2$l"; }}
exec 3>&1
go() {{ sh -c {command} 3>&- 4>&-; echo $? >&4; }}
s=$( {{ {feed} {{ {{ go 2>&1 >&5 5>&- | tag e E >&3; }} 5>&1 | tag o O >&3; }}; }} 4>&1 )
echo x$s
"""
"""A command on a phone without shell v2: every line marked with its stream, ``x`` and the status last.
Capitals mark a last line without an end. ``read`` and ``print`` are mksh's own."""


GROUP = {True: "echo $$\n", False: "echo o$$\n"}
"""A first line of output: the shell's pid, which is its process group's. With and without shell v2."""


def service(command: str, modern: bool, input_size: int | None) -> str:
    """The name of the service that runs a command. ``input_size``: bytes of its input; None: open
    until this side lets go."""
    command = f"cd {HOME} 2>/dev/null\n{command}"
    if modern:
        return f"shell,v2,raw:{command}"
    # A stream of ADB can't be half closed: there a command's input ends after so many bytes.
    feed = "" if input_size is None else f"head -c {input_size} |"
    return "exec:" + TAGGED.format(command=shlex.quote(command), feed=feed)


class Shell:
    """One command's stream, in the words of either shell protocol."""

    def __init__(self, sock: socket.socket, modern: bool, says_group: bool = False) -> None:
        self.sock, self._modern, self._says_group = sock, modern, says_group
        self.group: int | None = None
        """Its process group on the device, where it says so and once it has begun to run."""
        self.begun = threading.Event()
        """That is known, or never will be."""

    def write(self, data: bytes) -> int:
        self.sock.sendall(PACKET.pack(STDIN, len(data)) + data if self._modern else data)
        return len(data)

    def end_input(self) -> None:
        if self._modern:
            self.sock.sendall(PACKET.pack(CLOSE_STDIN, 0))

    def pieces(self) -> Iterator[Piece]:
        """What comes; the last one is ("exit", status), unless the link broke."""
        head = b""
        with contextlib.suppress(OSError), self.sock.makefile("rb") as file:
            for piece in _packets(file) if self._modern else _tagged(file):
                if self._says_group and self.group is None and isinstance(piece[1], bytes) and piece[0] == "out":
                    head += piece[1]
                    if b"\n" not in head:
                        continue
                    first, rest = head.split(b"\n", 1)
                    if not first.isdigit():
                        return  # somebody else answers
                    self.group = int(first)
                    self.begun.set()
                    yield "out", rest
                    continue
                yield piece
                if piece[0] == "exit":
                    return

    def collect(self) -> Output | None:
        """All of it; None: the link broke."""
        blocks: dict[str, list[bytes]] = {"out": [], "err": []}
        status = None
        for name, data in self.pieces():
            if isinstance(data, int):
                status = data
            else:
                blocks[name].append(data)
        self.begun.set()
        out, err = (b"".join(blocks[stream]).decode("utf-8", "replace") for stream in ("out", "err"))
        return None if status is None else Output(out, err, status)

    def give(self, stdin: bytes) -> None:
        """All of a command's input; it may end without reading it."""
        with contextlib.suppress(OSError):
            for start in range(0, len(stdin), BLOCK):
                self.write(stdin[start : start + BLOCK])
            self.end_input()


def _packets(file: BinaryIO) -> Iterator[Piece]:
    """Shell protocol, version 2 (adb's shell_protocol.h): id, length, bytes."""
    while len(head := file.read(PACKET.size)) == PACKET.size:
        kind, size = PACKET.unpack(head)
        data = file.read(size)
        if len(data) < size:
            return
        if kind == EXIT and data:
            yield "exit", data[0]
        elif kind in (STDOUT, STDERR):
            yield ("out" if kind == STDOUT else "err"), data


def _tagged(file: BinaryIO) -> Iterator[Piece]:
    """See ``TAGGED``."""
    for line in file:
        tag, rest = line[:1], line[1:]
        if tag == b"x" and rest.strip().isdigit():
            yield "exit", int(rest)
        elif tag in b"oe":
            yield ("out" if tag == b"o" else "err"), rest
        elif tag in b"OE":
            yield ("out" if tag == b"O" else "err"), rest[:-1]


class Phone(Protocol):
    """What a running command needs of its transport."""

    def let_go(self, sock: socket.socket) -> None: ...
    def why(self) -> str: ...


class AdbProcess:
    """A command running on a phone."""

    def __init__(self, phone: Phone, shell: Shell) -> None:
        self._phone, self._shell = phone, shell
        self._status: int | None = None
        self._killed = False
        self._out: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._err: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._lines = LineQueue({"out": self._out.get, "err": self._err.get})
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        try:
            for name, data in self._shell.pieces():
                if isinstance(data, int):
                    self._status = data
                elif data:
                    (self._out if name == "out" else self._err).put(data)
        finally:
            self._phone.let_go(self._shell.sock)
            for stream in (self._out, self._err):
                stream.put(b"")

    def read(self, timeout: float) -> Line | None:
        line = self._lines.get(timeout)
        if line is None and self._lines.ended and self.status is None:
            raise DeviceLost(self._phone.why())
        return line

    def write(self, text: str) -> None:
        try:
            self._shell.write(text.encode())
        except OSError as error:
            raise DeviceLost(self._phone.why()) from error

    @property
    def status(self) -> int | None:
        if not self._lines.ended:
            return None
        return 128 + 9 if self._status is None and self._killed else self._status

    def kill(self) -> None:
        self._killed = True
        self._phone.let_go(self._shell.sock)
