"""An Android device over ADB: the server is found by adbutils, the streams are spoken here.

The shell protocol's exit packet, or the end marker on devices without it, is what tells a
command's end from a lost link; the ``adb`` program and adbutils can't tell them apart.
"""

from __future__ import annotations

import contextlib
import queue
import select
import shlex
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from edgebench.core import Line, Output, Progress
from edgebench.errors import DeviceLost, DeviceRefused, TimedOut, UsageError
from edgebench.transports import adb_open
from edgebench.transports.listener import listen
from edgebench.transports.streams import LineQueue, temporary

if TYPE_CHECKING:
    import adbutils

Piece = tuple[Literal["out", "err"], bytes] | tuple[Literal["exit"], int]

LONGEST_COMMAND = 60_000
"""Bytes. adb refuses 64 KiB."""

BLOCK = 256 * 1024
"""Bytes per packet of a push."""

STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)
PACKET = struct.Struct("<BI")

HOME = "/data/local/tmp"
"""Where commands start: the one folder of ``adb shell`` that may be written and executed."""


class Adb:
    """An Android device over USB or Wi-Fi."""

    Config = adb_open.Settings
    keep_alive_s = 5.0
    silence_s = 20.0
    """A phone that owes an answer for so long is taken for lost."""

    def __init__(self, config: adb_open.Settings) -> None:
        self._config = config
        self._device: adbutils.AdbDevice | None = None
        self._modern = True
        self._sockets: set[socket.socket] = set()
        self._closing = threading.Event()
        self._lost = ""

    def open(self) -> None:
        self._closing.clear()
        self._lost = ""
        device = adb_open.find(self._config)
        with adb_open.server_errors(self._config):
            self._modern = "shell_v2" in device.get_features().split(",")
        self._device = device
        threading.Thread(target=self._keep_alive, daemon=True).start()

    def close(self) -> None:
        self._closing.set()
        self._device = None
        self._hang_up()

    def _hang_up(self) -> None:
        for sock in list(self._sockets):
            self.let_go(sock)

    def let_go(self, sock: socket.socket) -> None:
        self._sockets.discard(sock)
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        sock.close()

    def why(self) -> str:
        return f"the link to {self._config.serial or 'the phone'} broke{self._lost}"

    def _open(self, service: str) -> socket.socket:
        """A stream to a service of the device. Raises ``DeviceLost``."""
        from adbutils.errors import AdbError

        if self._device is None:
            raise DeviceLost("the link to the phone is closed")
        try:
            connection = self._device.open_transport(timeout=adb_open.CONNECT_S)
            connection.send_command(service)
            connection.check_okay()
        except (AdbError, OSError, EOFError, ValueError) as error:
            raise DeviceLost(f"{self.why()}: {error}") from error
        sock: socket.socket = connection.conn
        sock.settimeout(None)
        self._sockets.add(sock)
        return sock

    def _keep_alive(self) -> None:
        """One stat in a while, in a sync session that stays open: no process on the device."""
        try:
            sock = self._open("sync:")
        except DeviceLost:
            self._hang_up()
            return
        sock.settimeout(self.silence_s)
        with contextlib.suppress(OSError):
            while not self._closing.wait(self.keep_alive_s):
                sock.sendall(b"STAT" + struct.pack("<I", 1) + b"/")
                if len(_exactly(sock, 16)) < 16:
                    break
        if not self._closing.is_set():
            self._lost = f": no answer for {self.silence_s:g} s" if sock.fileno() != -1 else ""
            self._hang_up()

    def _shell(self, command: str, input_size: int | None = None) -> Shell:
        """Start a command whose input is so many bytes; None: open until this side lets go."""
        if len(command.encode()) > LONGEST_COMMAND:
            raise UsageError(f"a command of {len(command)} characters is too long for adb", "Send it as a file.")
        command = f"cd {HOME} 2>/dev/null\n{command}"
        if self._modern:
            return Shell(self._open(f"shell,v2,raw:{command}"), modern=True)
        # A stream of ADB can't be half closed: there a command's input ends after so many bytes.
        feed = "" if input_size is None else f"head -c {input_size} |"
        return Shell(self._open("exec:" + TAGGED.format(command=shlex.quote(command), feed=feed)), modern=False)

    def run(self, command: str, *, timeout: float = 60, stdin: bytes = b"") -> Output:
        shell = self._shell(command, len(stdin))
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self.let_go(shell.sock)

        timer = threading.Timer(timeout, give_up)
        timer.daemon = True
        timer.start()
        threading.Thread(target=_give, args=(shell, stdin), daemon=True).start()
        try:
            said = shell.collect()
        finally:
            timer.cancel()
            self.let_go(shell.sock)
        if said is not None:
            return said
        if late.is_set():
            raise TimedOut(f"a command took longer than {timeout:g} s: {command[:200]}")
        raise DeviceLost(self.why())

    def spawn(self, command: str) -> AdbProcess:
        return AdbProcess(self, self._shell(command))

    def push(self, local: Path, remote: str, progress: Progress | None = None) -> None:
        """Raises ``DeviceRefused`` where it can't be written."""
        size, path = local.stat().st_size, shlex.quote(remote)
        # ADB's own push starts again from nothing, so this goes through a shell.
        said = self.run(f": >>{path} && stat -Lc %s {path}")
        if said.status != 0:
            raise _refusal(remote, said)
        done = int(said.stdout)
        if done > size:
            self.run(f": >{path}")
            done = 0
        if done == size:
            return
        shell = self._shell(f"cat >>{path}", size - done)
        try:
            with local.open("rb") as source:
                source.seek(done)
                # An answer before the end is a refusal.
                while done < size and not select.select([shell.sock], [], [], 0)[0]:
                    done += shell.write(source.read(BLOCK))
                    if progress:
                        progress(done, size)
            shell.end_input()
            said_at_last = shell.collect()
        except OSError as error:
            raise DeviceLost(self.why()) from error
        finally:
            self.let_go(shell.sock)
        if said_at_last is None:
            raise DeviceLost(self.why())
        if said_at_last.status != 0:
            raise _refusal(remote, said_at_last)

    def pull(self, remote: str, local: Path) -> None:
        from adbutils.errors import AdbError

        if self._device is None:
            raise DeviceLost("the link to the phone is closed")
        with temporary(local) as part, part.open("wb") as file:
            try:
                for block in self._device.sync.iter_content(remote):
                    file.write(block)
            except AdbError as error:
                raise DeviceRefused(f"{remote}: the device says {error}") from error
            except (OSError, EOFError) as error:
                raise DeviceLost(self.why()) from error

    def forward(self, port: int) -> AbstractContextManager[int]:
        """Through streams of our own: the adb server's forwards outlive the controller, and end
        silently whenever the link drops."""

        def connect() -> socket.socket:
            try:
                return self._open(f"tcp:{port}")
            except DeviceLost as error:
                raise ConnectionError(str(error)) from error

        return listen(connect, half_close=False)


TAGGED = """\
tag() {{ while IFS= read -r l; do print -r -- "$1$l"; done; [ -z "$l" ] || print -r -- "$2$l"; }}
exec 3>&1
go() {{ sh -c {command} 3>&- 4>&-; echo $? >&4; }}
s=$( {{ {feed} {{ {{ go 2>&1 >&5 5>&- | tag e E >&3; }} 5>&1 | tag o O >&3; }}; }} 4>&1 )
echo x$s
"""
"""A command on a phone without shell v2: every line marked with its stream, ``x`` and the status last.
Capitals mark a last line without an end. ``read`` and ``print`` are mksh's own."""


class Shell:
    """One command's stream, in the words of either shell protocol."""

    def __init__(self, sock: socket.socket, modern: bool) -> None:
        self.sock, self._modern = sock, modern

    def write(self, data: bytes) -> int:
        self.sock.sendall(PACKET.pack(STDIN, len(data)) + data if self._modern else data)
        return len(data)

    def end_input(self) -> None:
        if self._modern:
            self.sock.sendall(PACKET.pack(CLOSE_STDIN, 0))

    def pieces(self) -> Iterator[Piece]:
        """What comes; the last one is ("exit", status), unless the link broke."""
        with contextlib.suppress(OSError), self.sock.makefile("rb") as file:
            for piece in _packets(file) if self._modern else _tagged(file):
                yield piece
                if piece[0] == "exit":
                    return

    def collect(self) -> Output | None:
        """All of it; None: the link broke."""
        blocks: dict[str, list[bytes]] = {"out": [], "err": []}
        for name, data in self.pieces():
            if isinstance(data, int):
                out, err = (b"".join(blocks[stream]).decode("utf-8", "replace") for stream in ("out", "err"))
                return Output(out, err, data)
            blocks[name].append(data)
        return None


def _packets(file: BinaryIO) -> Iterator[Piece]:
    """Shell protocol, version 2 (adb's shell_protocol.h): id, length, bytes."""
    while len(head := file.read(PACKET.size)) == PACKET.size:
        kind, size = PACKET.unpack(head)
        data = file.read(size)
        if len(data) < size:
            return
        if kind == EXIT:
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


class AdbProcess:
    """A command running on a phone."""

    def __init__(self, phone: Adb, shell: Shell) -> None:
        self._phone, self._shell = phone, shell
        self._status: int | None = None
        self._killed = False
        self._out: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._err: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._lines = LineQueue({"out": self._out.get, "err": self._err.get})
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for name, data in self._shell.pieces():
            if isinstance(data, int):
                self._status = data
            elif data:
                (self._out if name == "out" else self._err).put(data)
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


def _give(shell: Shell, stdin: bytes) -> None:
    # A command may end without reading it all.
    with contextlib.suppress(OSError):
        for start in range(0, len(stdin), BLOCK):
            shell.write(stdin[start : start + BLOCK])
        shell.end_input()


def _refusal(remote: str, said: Output) -> DeviceRefused:
    full = "no space" in said.stderr.lower()
    hint = (
        "Free some space; `edgebench devices clean` removes models."
        if full
        else "Choose another workspace: in the profile."
    )
    return DeviceRefused(f"{remote}: {said.stderr.strip() or f'exit status {said.status}'}", hint)


def _exactly(sock: socket.socket, size: int) -> bytes:
    return sock.recv(size, socket.MSG_WAITALL)
