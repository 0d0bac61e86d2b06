"""A device over SSH, by paramiko: keys only, host keys always checked."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgebench.core import Output, Progress
from edgebench.errors import DeviceLost, DeviceRefused, EdgebenchError, TimedOut
from edgebench.transports import ssh_files
from edgebench.transports.listener import join, listen
from edgebench.transports.ssh_login import CONNECT_S, Settings, broken, hang_up, login, transport
from edgebench.transports.ssh_shell import Collected, SshProcess, give

if TYPE_CHECKING:
    import paramiko

END_S = 5.0
"""Longest wait until a command that took too long is ended."""

FULL_S = (0.05, 0.2, 0.5)
"""Pauses before a refused session is asked for again: sshd may take a closed one for open for a moment."""

SHELL_S = 20.0
"""Longest wait for the first word of the device's shell."""


class Ssh:
    """A device over SSH."""

    Config = Settings
    keep_alive_s = 5.0
    silence_s = 20.0
    """A wire that owes an answer for so long is taken for dead."""

    def __init__(self, config: Settings) -> None:
        self._config = config
        self._clients: list[paramiko.SSHClient] = []
        self._reversed: dict[int, int] = {}
        self._groups = False
        self._closing = threading.Event()
        self._lost = ""

    def open(self) -> None:
        # Otherwise paramiko's threads print to stderr what the caller gets as an error anyway.
        logging.getLogger("paramiko").addHandler(logging.NullHandler())
        self._closing.clear()
        self._lost = ""
        self._clients = login(self._config)
        threading.Thread(target=self._keep_alive, args=[self._wire()], daemon=True).start()
        # A POSIX shell says its pid, which is its process group's; Windows' says the same two characters.
        try:
            self._groups = self._run("echo $$", SHELL_S, b"").stdout.strip().isdigit()
        except _Late as error:
            self.close()
            raise DeviceLost(
                f"logged in to {self._config.host}, but its shell did not respond within {SHELL_S:g} s",
                "Log in by ssh and look at what it waits for: a busy machine, or its login shell's start-up files.",
            ) from error

    def close(self) -> None:
        self._closing.set()
        hang_up(self._clients)

    def _keep_alive(self, wire: paramiko.Transport) -> None:
        """Ask for an answer now and then; hang up when it stays out, so that nobody waits for ever."""
        while not self._closing.wait(self.keep_alive_s) and wire.is_active():
            silent = threading.Timer(self.silence_s, self._silent, [wire])
            silent.daemon = True
            silent.start()
            with contextlib.suppress(*broken()):
                wire.global_request("keepalive@openssh.com")
            silent.cancel()

    def _silent(self, wire: paramiko.Transport) -> None:
        self._lost = f": no answer for {self.silence_s:g} s"
        with contextlib.suppress(*broken()):
            wire.close()

    def _wire(self) -> paramiko.Transport:
        if not self._clients:
            raise DeviceLost(f"the connection to {self._config.host} is closed")
        return transport(self._clients[-1])

    def _why(self) -> str:
        return f"the connection to {self._config.host} broke{self._lost}"

    @contextlib.contextmanager
    def _alive(self) -> Iterator[None]:
        """What breaks in here breaks because the wire did."""
        try:
            yield
        except broken() as error:
            raise DeviceLost(self._why()) from error

    def _channel(self) -> paramiko.Channel:
        import paramiko

        with self._alive():
            for pause in FULL_S:
                with contextlib.suppress(paramiko.ChannelException):
                    return self._wire().open_session(timeout=CONNECT_S)
                time.sleep(pause)
            try:
                return self._wire().open_session(timeout=CONNECT_S)
            except paramiko.ChannelException as error:
                raise DeviceRefused(
                    f"{self._config.host} refuses one more session on this connection",
                    "Set MaxSessions to 10 (its default) or more in the device's sshd_config.",
                ) from error

    def run(self, command: str, *, timeout: float = 60, stdin: bytes = b"") -> Output:
        if not self._groups:
            return self._run(command, timeout, stdin)
        try:
            said = self._run(f"echo $$\n{command}", timeout, stdin)
        except _Late as late:
            self._end(late.said)
            raise TimedOut(f"timed out: a command took longer than {timeout:g} s: {command[:200]}") from late
        return replace(said, stdout=said.stdout.partition("\n")[2])

    def _end(self, said: str) -> None:
        """Kill a command and what it started, which go on when only their channel closes."""
        group, end, _ = said.partition("\n")
        if end and group.isdigit():
            with contextlib.suppress(EdgebenchError):
                self._run(f"kill -9 -{group} 2>/dev/null || kill -9 {group}", END_S, b"")

    def _run(self, command: str, timeout: float, stdin: bytes) -> Output:
        deadline = time.monotonic() + timeout
        with self._alive(), contextlib.closing(self._channel()) as channel:
            channel.exec_command(command)
            out, err = Collected(channel.recv), Collected(channel.recv_stderr)
            threading.Thread(target=give, args=(channel, stdin), daemon=True).start()
            for stream in (out, err):
                stream.join(max(0.0, deadline - time.monotonic()))
                if stream.is_alive():
                    if self._groups:
                        out.begun.wait(END_S)  # its first line says what to end
                    raise _Late(f"timed out: a command took longer than {timeout:g} s: {command[:200]}", out.text)
            # What has arrived of a stream that broke off is not all that was said.
            status = -1 if out.broke.is_set() or err.broke.is_set() else channel.recv_exit_status()
        if status < 0:
            raise DeviceLost(self._why())
        return Output(out.text, err.text, status)

    def spawn(self, command: str) -> SshProcess:
        channel = self._channel()
        with self._alive():
            channel.exec_command(command)
        return SshProcess(channel, self._why)

    def push(self, local: Path, remote: str, progress: Progress | None = None) -> None:
        """Raises ``DeviceRefused`` where it can't be written."""
        with local.open("rb") as source, self._sftp() as sftp:
            ssh_files.push(sftp, source, remote, progress)

    def pull(self, remote: str, local: Path) -> None:
        with self._sftp() as sftp:
            ssh_files.pull(sftp, remote, local)

    @contextlib.contextmanager
    def _sftp(self) -> Iterator[paramiko.SFTPClient]:
        import paramiko

        channel = self._channel()
        with self._alive():
            try:
                channel.invoke_subsystem("sftp")
                sftp = paramiko.SFTPClient(channel)
            except paramiko.SFTPError as error:
                raise DeviceRefused(
                    f"{self._config.host} offers no SFTP: {error}",
                    "Check whether its login shell prints something in non-interactive sessions (~/.bashrc).",
                ) from error
            except (paramiko.SSHException, EOFError) as error:
                # A wire that broke a moment ago still counts as active: an answer proves that it is.
                self._wire().global_request("keepalive@openssh.com")
                if not self._wire().is_active():
                    raise
                raise DeviceRefused(
                    f"{self._config.host} offers no SFTP",
                    "Install sftp-server there, or enable its Subsystem in sshd_config.",
                ) from error
            with contextlib.closing(sftp):
                yield sftp

    def forward(self, port: int) -> AbstractContextManager[int]:
        def connect() -> Any:
            try:
                with self._alive():
                    return self._wire().open_channel("direct-tcpip", ("127.0.0.1", port), ("127.0.0.1", 0))
            except DeviceLost as error:
                raise ConnectionError(str(error)) from error

        return listen(connect, half_close=True)

    @contextlib.contextmanager
    def reverse(self, port: int) -> Iterator[int]:
        import paramiko

        wire = self._wire()
        with self._alive():
            try:
                there = wire.request_port_forward("127.0.0.1", 0, self._reached)
            except paramiko.SSHException as error:
                if not wire.is_active():
                    raise
                raise DeviceRefused(
                    f"{self._config.host} does not allow remote port forwarding",
                    "Set AllowTcpForwarding yes in its sshd_config.",
                ) from error
        self._reversed[there] = port
        try:
            yield there
        finally:
            del self._reversed[there]
            with contextlib.suppress(*broken()):
                wire.cancel_port_forward("127.0.0.1", there)

    def _reached(self, channel: paramiko.Channel, _: tuple[str, int], there: tuple[str, int]) -> None:
        """Somebody on the device connected to a port that leads here."""
        try:
            here = socket.create_connection(("127.0.0.1", self._reversed[there[1]]))
        except (OSError, KeyError):
            with contextlib.suppress(*broken()):
                channel.close()
            return
        threading.Thread(target=join, args=(here, lambda: channel, True, set()), daemon=True).start()


class _Late(TimedOut):
    """``said``: what it had printed by then."""

    def __init__(self, message: str, said: str) -> None:
        super().__init__(message)
        self.said = said
