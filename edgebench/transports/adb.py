"""An Android device over ADB: adbutils finds the server, this module implements the streams.

The shell protocol's exit packet, or the end marker on devices without it, distinguishes the end
of a command from a lost connection; the ``adb`` program and adbutils cannot.
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
from edgebench.transports.adb_shell import BLOCK, PRINT_GROUP, AdbProcess, Shell, service_name
from edgebench.transports.listener import listen
from edgebench.transports.streams import temporary_path

if TYPE_CHECKING:
    import adbutils

LONGEST_COMMAND = 60_000
"""Bytes. adb refuses 64 KiB."""

END_S = 5.0
"""Timeout for killing a command that timed out."""


class Adb:
    """An Android device over USB or Wi-Fi."""

    Config = adb_open.Settings
    keep_alive_s = 5.0
    silence_s = 20.0
    """Seconds without a reply after which the phone counts as lost."""

    def __init__(self, config: adb_open.Settings) -> None:
        self._config = config
        self._client: adbutils.AdbClient | None = None
        self._device: adbutils.AdbDevice | None = None
        self._has_shell_v2 = True
        self._sockets: set[socket.socket] = set()
        self._closing = threading.Event()
        self._loss_cause = ""

    def open(self) -> None:
        self._closing.clear()
        self._loss_cause = ""
        self._client = adb_open.client(self._config)
        device = adb_open.find(self._client, self._config)
        with adb_open.server_errors(self._config):
            self._has_shell_v2 = "shell_v2" in device.get_features().split(",")
        self._device = device
        threading.Thread(target=self._keep_alive, daemon=True).start()

    def close(self) -> None:
        self._closing.set()
        self._device = None
        self._close_sockets()

    def _close_sockets(self) -> None:
        for sock in list(self._sockets):
            self.release(sock)

    def release(self, sock: socket.socket) -> None:
        self._sockets.discard(sock)
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        sock.close()

    def loss_message(self) -> str:
        return f"lost the connection to {self._config.serial or 'the phone'}{self._loss_cause}"

    def _open(self, service: str) -> socket.socket:
        """A stream to a service of the device. Raises ``DeviceLost``."""
        client, device = self._client, self._device
        if client is None or device is None:
            raise DeviceLost("the connection to the phone is closed")
        # Not by adbutils: without a server it starts one on adb's default port and leaves it running.
        try:
            sock = socket.create_connection((client.host, client.port), adb_open.CONNECT_S)
            try:
                for command in (f"host:transport:{device.serial}", service):
                    _request(sock, command.encode())
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.settimeout(None)
            except BaseException:
                sock.close()
                raise
        except (OSError, ValueError) as error:
            raise DeviceLost(f"{self.loss_message()}: {error}") from error
        self._sockets.add(sock)
        return sock

    def _keep_alive(self) -> None:
        """Send a stat request periodically in one open sync session, which starts no process on the device."""
        try:
            sock = self._open("sync:")
        except DeviceLost:
            self._close_sockets()
            return
        with contextlib.suppress(OSError):
            while not self._closing.wait(self.keep_alive_s):
                sock.settimeout(self.silence_s)
                sock.sendall(b"STAT" + struct.pack("<I", 1) + b"/")
                if len(_receive_exactly(sock, 16)) < 16:
                    break
        if not self._closing.is_set():
            self._loss_cause = f": no answer for {self.silence_s:g} s" if sock.fileno() != -1 else ""
            self._close_sockets()

    def _shell(self, command: str, input_size: int | None = None, *, prints_group: bool = False) -> Shell:
        """Start a command that reads ``input_size`` bytes of input; None: until the stream is closed."""
        if len(command.encode()) > LONGEST_COMMAND:
            raise UsageError(f"a command of {len(command)} characters is too long for adb", "Send it as a file.")
        name = service_name(command, self._has_shell_v2, input_size)
        if prints_group:
            scheme, _, rest = name.partition(":")
            name = f"{scheme}:{PRINT_GROUP[self._has_shell_v2]}{rest}"
        return Shell(self._open(name), self._has_shell_v2, prints_group)

    def run(self, command: str, *, timeout: float = 60, stdin: bytes = b"") -> Output:
        shell = self._shell(command, len(stdin), prints_group=True)
        timed_out = threading.Event()

        def abort() -> None:
            timed_out.set()
            try:
                self._kill_group(shell)
            finally:
                self.release(shell.sock)

        timer = threading.Timer(timeout, abort)
        timer.daemon = True
        timer.start()
        threading.Thread(target=shell.send_input, args=(stdin,), daemon=True).start()
        try:
            output = shell.collect()
        finally:
            timer.cancel()
            self.release(shell.sock)
        if timed_out.is_set():
            raise TimedOut(f"timed out: a command took longer than {timeout:g} s: {command[:200]}")
        if output is None:
            raise DeviceLost(self.loss_message())
        return output

    def _kill_group(self, shell: Shell) -> None:
        """Kill a command and its child processes: closing the stream ends only the shell."""
        shell.started.wait(END_S)
        if shell.group is None:
            return
        with contextlib.suppress(DeviceLost, OSError):
            killer = self._shell(f"kill -9 -{shell.group}")
            killer.sock.settimeout(END_S)
            killer.collect()
            self.release(killer.sock)

    def spawn(self, command: str) -> AdbProcess:
        return AdbProcess(self, self._shell(command))

    def push(self, local: Path, remote: str, progress: Progress | None = None) -> None:
        """Raises ``DeviceRefused`` if the file cannot be written."""
        size, path = local.stat().st_size, shlex.quote(remote)
        # ADB's own push cannot resume, so this goes through a shell.
        output = self.run(f": >>{path} && stat -Lc %s {path}")
        if output.status != 0 or not output.stdout.strip().isdigit():
            raise _upload_error(remote, output)
        done = int(output.stdout)
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
                # Output before the end means that the write failed.
                while done < size and not select.select([shell.sock], [], [], 0)[0]:
                    done += shell.write(source.read(BLOCK))
                    if progress:
                        progress(done, size)
            shell.end_input()
            upload = shell.collect()
        except (OSError, ValueError) as error:  # ValueError: the socket was closed meanwhile
            raise DeviceLost(self.loss_message()) from error
        finally:
            self.release(shell.sock)
        if upload is None:
            raise DeviceLost(self.loss_message())
        if upload.status != 0:
            raise _upload_error(remote, upload)

    def pull(self, remote: str, local: Path) -> None:
        from adbutils.errors import AdbError

        device = self._device
        if device is None:
            raise DeviceLost("the connection to the phone is closed")
        with temporary_path(local) as part, part.open("wb") as file:
            try:
                for block in device.sync.iter_content(remote):
                    file.write(block)
            except AdbError as error:
                if error.args[1:] != (remote,):  # adbutils' message for a stream that ends early
                    raise DeviceLost(f"{self.loss_message()}: {error}") from error
                raise DeviceRefused(f"{remote}: {error.args[0]}") from error
            except (OSError, EOFError, ValueError, struct.error) as error:
                raise DeviceLost(self.loss_message()) from error

    def forward(self, port: int) -> AbstractContextManager[int]:
        """Forward by streams of this process: the adb server's forwards outlive the controller and end
        silently when the connection drops."""

        def connect() -> socket.socket:
            try:
                return self._open(f"tcp:{port}")
            except DeviceLost as error:
                raise ConnectionError(str(error)) from error

        return listen(connect, half_close=False)


def _upload_error(remote: str, output: Output) -> DeviceRefused:
    # dd prints its block counts to stderr, too.
    messages = [line for line in output.stderr.splitlines() if line.strip() and not line[0].isdigit()]
    is_full = "no space" in output.stderr.lower()
    hint = (
        "Free some space; `edgebench devices clean` removes models."
        if is_full
        else "Choose another workspace: in the profile."
    )
    return DeviceRefused(f"{remote}: {'; '.join(messages) or f'exit status {output.status}'}", hint)


def _request(sock: socket.socket, command: bytes) -> None:
    """Send a request to the adb server (adb's docs/dev/services.md). Raises ``OSError``, ``ValueError``."""
    sock.sendall(b"%04x%s" % (len(command), command))
    reply = _receive_exactly(sock, 4)
    if reply == b"FAIL":
        raise ConnectionError(_receive_exactly(sock, int(_receive_exactly(sock, 4), 16)).decode("utf-8", "replace"))
    if reply != b"OKAY":
        raise ConnectionError(
            "the adb server closed the connection" if not reply else f"unexpected reply from the adb server: {reply!r}"
        )


def _receive_exactly(sock: socket.socket, size: int) -> bytes:
    return sock.recv(size, socket.MSG_WAITALL)
