"""An Android device over ADB: the server is found by adbutils, the streams are spoken here.

The shell protocol's exit packet, or the end marker on devices without it, is what tells a
command's end from a lost link; the ``adb`` program and adbutils can't tell them apart.
"""

from __future__ import annotations

import contextlib
import select
import shlex
import socket
import struct
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from edgebench.core import Output, Progress
from edgebench.errors import DeviceLost, DeviceRefused, TimedOut, UsageError
from edgebench.transports import adb_open
from edgebench.transports.adb_shell import BLOCK, GROUP, AdbProcess, Shell, service
from edgebench.transports.listener import listen
from edgebench.transports.streams import temporary

if TYPE_CHECKING:
    import adbutils

LONGEST_COMMAND = 60_000
"""Bytes. adb refuses 64 KiB."""

END_S = 5.0
"""Longest wait until a command that took too long is ended."""


class Adb:
    """An Android device over USB or Wi-Fi."""

    Config = adb_open.Settings
    keep_alive_s = 5.0
    silence_s = 20.0
    """A phone that owes an answer for so long is taken for lost."""

    def __init__(self, config: adb_open.Settings) -> None:
        self._config = config
        self._client: adbutils.AdbClient | None = None
        self._device: adbutils.AdbDevice | None = None
        self._modern = True
        self._sockets: set[socket.socket] = set()
        self._closing = threading.Event()
        self._lost = ""

    def open(self) -> None:
        self._closing.clear()
        self._lost = ""
        self._client = adb_open.client(self._config)
        device = adb_open.find(self._client, self._config)
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
        client, device = self._client, self._device
        if client is None or device is None:
            raise DeviceLost("the link to the phone is closed")
        # Not by adbutils: where its server is gone that starts another one, on adb's own port, and leaves it.
        try:
            sock = socket.create_connection((client.host, client.port), adb_open.CONNECT_S)
            try:
                for command in (f"host:transport:{device.serial}", service):
                    _ask(sock, command.encode())
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.settimeout(None)
            except BaseException:
                sock.close()
                raise
        except (OSError, ValueError) as error:
            raise DeviceLost(f"{self.why()}: {error}") from error
        self._sockets.add(sock)
        return sock

    def _keep_alive(self) -> None:
        """One stat in a while, in a sync session that stays open: no process on the device."""
        try:
            sock = self._open("sync:")
        except DeviceLost:
            self._hang_up()
            return
        with contextlib.suppress(OSError):
            while not self._closing.wait(self.keep_alive_s):
                sock.settimeout(self.silence_s)
                sock.sendall(b"STAT" + struct.pack("<I", 1) + b"/")
                if len(_exactly(sock, 16)) < 16:
                    break
        if not self._closing.is_set():
            self._lost = f": no answer for {self.silence_s:g} s" if sock.fileno() != -1 else ""
            self._hang_up()

    def _shell(self, command: str, input_size: int | None = None, *, says_group: bool = False) -> Shell:
        """Start a command whose input is so many bytes; None: open until this side lets go."""
        if len(command.encode()) > LONGEST_COMMAND:
            raise UsageError(f"a command of {len(command)} characters is too long for adb", "Send it as a file.")
        name = service(command, self._modern, input_size)
        if says_group:
            kind, _, rest = name.partition(":")
            name = f"{kind}:{GROUP[self._modern]}{rest}"
        return Shell(self._open(name), self._modern, says_group)

    def run(self, command: str, *, timeout: float = 60, stdin: bytes = b"") -> Output:
        shell = self._shell(command, len(stdin), says_group=True)
        late = threading.Event()

        def give_up() -> None:
            late.set()
            try:
                self._end(shell)
            finally:
                self.let_go(shell.sock)

        timer = threading.Timer(timeout, give_up)
        timer.daemon = True
        timer.start()
        threading.Thread(target=shell.give, args=(stdin,), daemon=True).start()
        try:
            said = shell.collect()
        finally:
            timer.cancel()
            self.let_go(shell.sock)
        if late.is_set():
            raise TimedOut(f"timed out: a command took longer than {timeout:g} s: {command[:200]}")
        if said is None:
            raise DeviceLost(self.why())
        return said

    def _end(self, shell: Shell) -> None:
        """Kill a command and what it started: when its stream closes, its shell alone hears of it."""
        shell.begun.wait(END_S)
        if shell.group is None:
            return
        with contextlib.suppress(DeviceLost, OSError):
            killer = self._shell(f"kill -9 -{shell.group}")
            killer.sock.settimeout(END_S)
            killer.collect()
            self.let_go(killer.sock)

    def spawn(self, command: str) -> AdbProcess:
        return AdbProcess(self, self._shell(command))

    def push(self, local: Path, remote: str, progress: Progress | None = None) -> None:
        """Raises ``DeviceRefused`` where it can't be written."""
        size, path = local.stat().st_size, shlex.quote(remote)
        # ADB's own push starts again from nothing, so this goes through a shell.
        said = self.run(f": >>{path} && stat -Lc %s {path}")
        if said.status != 0 or not said.stdout.strip().isdigit():
            raise _refusal(remote, said)
        done = int(said.stdout)
        if done > size:
            self.run(f": >{path}")
            done = 0
        if done == size:
            return
        # mksh's `cat` and toybox' take 4 KiB at a time.
        shell = self._shell(f"exec dd bs={BLOCK} >>{path}", size - done)
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
        except (OSError, ValueError) as error:  # the latter of a socket that was let go of
            raise DeviceLost(self.why()) from error
        finally:
            self.let_go(shell.sock)
        if said_at_last is None:
            raise DeviceLost(self.why())
        if said_at_last.status != 0:
            raise _refusal(remote, said_at_last)

    def pull(self, remote: str, local: Path) -> None:
        from adbutils.errors import AdbError

        device = self._device
        if device is None:
            raise DeviceLost("the link to the phone is closed")
        with temporary(local) as part, part.open("wb") as file:
            try:
                for block in device.sync.iter_content(remote):
                    file.write(block)
            except AdbError as error:
                if error.args[1:] != (remote,):  # adbutils' own words for a stream that breaks off
                    raise DeviceLost(f"{self.why()}: {error}") from error
                raise DeviceRefused(f"{remote}: the device says {error.args[0]}") from error
            except (OSError, EOFError, ValueError, struct.error) as error:
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


def _refusal(remote: str, said: Output) -> DeviceRefused:
    # dd counts its blocks there as well.
    words = [line for line in said.stderr.splitlines() if line.strip() and not line[0].isdigit()]
    full = "no space" in said.stderr.lower()
    hint = (
        "Free some space; `edgebench devices clean` removes models."
        if full
        else "Choose another workspace: in the profile."
    )
    return DeviceRefused(f"{remote}: {'; '.join(words) or f'exit status {said.status}'}", hint)


def _ask(sock: socket.socket, command: bytes) -> None:
    """A word to the adb server (adb's docs/dev/services.md). Raises ``OSError``, ``ValueError``."""
    sock.sendall(b"%04x%s" % (len(command), command))
    answer = _exactly(sock, 4)
    if answer == b"FAIL":
        raise ConnectionError(_exactly(sock, int(_exactly(sock, 4), 16)).decode("utf-8", "replace"))
    if answer != b"OKAY":
        raise ConnectionError("the adb server hung up" if not answer else f"the adb server says {answer!r}")


def _exactly(sock: socket.socket, size: int) -> bytes:
    return sock.recv(size, socket.MSG_WAITALL)
