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
from edgebench.transports.listener import listen, relay
from edgebench.transports.ssh_login import CONNECT_S, Settings, close_clients, login, open_transport, transport_errors
from edgebench.transports.ssh_shell import SshProcess, StreamCollector, send_input

if TYPE_CHECKING:
    import paramiko

END_S = 5.0
"""Timeout for killing a command that timed out."""

CHANNEL_RETRY_S = (0.05, 0.2, 0.5)
"""Pauses before a rejected session is requested again: sshd may count a closed one as open for a moment."""

SHELL_S = 20.0
"""Timeout for the first output of the device's shell."""


class Ssh:
    """A device over SSH."""

    Config = Settings
    keep_alive_s = 5.0
    silence_s = 20.0
    """Seconds without a reply after which the connection counts as lost."""

    def __init__(self, config: Settings) -> None:
        self._config = config
        self._clients: list[paramiko.SSHClient] = []
        self._reversed_ports: dict[int, int] = {}
        self._has_process_groups = False
        self._closing = threading.Event()
        self._loss_cause = ""

    def open(self) -> None:
        # Otherwise paramiko's threads print to stderr what the caller gets as an error anyway.
        logging.getLogger("paramiko").addHandler(logging.NullHandler())
        self._closing.clear()
        self._loss_cause = ""
        self._clients = login(self._config)
        threading.Thread(target=self._keep_alive, args=[self._transport()], daemon=True).start()
        # A POSIX shell prints its pid, which is its process group's; cmd.exe prints the two characters.
        try:
            self._has_process_groups = self._run("echo $$", SHELL_S, b"").stdout.strip().isdigit()
        except _CommandTimedOut as error:
            self.close()
            raise DeviceLost(
                f"logged in to {self._config.host}, but its shell did not respond within {SHELL_S:g} s",
                "Log in with ssh to find the cause: a busy machine, or the login shell's start-up files.",
            ) from error

    def close(self) -> None:
        self._closing.set()
        close_clients(self._clients)

    def _keep_alive(self, connection: paramiko.Transport) -> None:
        """Request a reply periodically; without one, close the connection so that no caller blocks forever."""
        while not self._closing.wait(self.keep_alive_s) and connection.is_active():
            timer = threading.Timer(self.silence_s, self._close_silent, [connection])
            timer.daemon = True
            timer.start()
            with contextlib.suppress(*transport_errors()):
                connection.global_request("keepalive@openssh.com")
            timer.cancel()

    def _close_silent(self, connection: paramiko.Transport) -> None:
        self._loss_cause = f": no answer for {self.silence_s:g} s"
        with contextlib.suppress(*transport_errors()):
            connection.close()

    def _transport(self) -> paramiko.Transport:
        if not self._clients:
            raise DeviceLost(f"the connection to {self._config.host} is closed")
        return open_transport(self._clients[-1])

    def _loss_message(self) -> str:
        return f"lost the connection to {self._config.host}{self._loss_cause}"

    @contextlib.contextmanager
    def _connected(self) -> Iterator[None]:
        """Raise ``DeviceLost`` for errors of the connection."""
        try:
            yield
        except transport_errors() as error:
            raise DeviceLost(self._loss_message()) from error

    def _channel(self) -> paramiko.Channel:
        import paramiko

        with self._connected():
            for pause in CHANNEL_RETRY_S:
                with contextlib.suppress(paramiko.ChannelException):
                    return self._transport().open_session(timeout=CONNECT_S)
                time.sleep(pause)
            try:
                return self._transport().open_session(timeout=CONNECT_S)
            except paramiko.ChannelException as error:
                raise DeviceRefused(
                    f"{self._config.host} refuses one more session on this connection",
                    "Set MaxSessions to 10 (its default) or more in the device's sshd_config.",
                ) from error

    def run(self, command: str, *, timeout: float = 60, stdin: bytes = b"") -> Output:
        if not self._has_process_groups:
            return self._run(command, timeout, stdin)
        try:
            output = self._run(f"echo $$\n{command}", timeout, stdin)
        except _CommandTimedOut as error:
            self._kill_group(error.output)
            raise TimedOut(f"timed out: a command took longer than {timeout:g} s: {command[:200]}") from error
        return replace(output, stdout=output.stdout.partition("\n")[2])

    def _kill_group(self, output: str) -> None:
        """Kill a command and its child processes: they outlive their channel."""
        group, newline, _ = output.partition("\n")
        if newline and group.isdigit():
            with contextlib.suppress(EdgebenchError):
                self._run(f"kill -9 -{group} 2>/dev/null || kill -9 {group}", END_S, b"")

    def _run(self, command: str, timeout: float, stdin: bytes) -> Output:
        deadline = time.monotonic() + timeout
        with self._connected(), contextlib.closing(self._channel()) as channel:
            channel.exec_command(command)
            out, err = StreamCollector(channel.recv), StreamCollector(channel.recv_stderr)
            threading.Thread(target=send_input, args=(channel, stdin), daemon=True).start()
            for stream in (out, err):
                stream.join(max(0.0, deadline - time.monotonic()))
                if stream.is_alive():
                    if self._has_process_groups:
                        out.started.wait(END_S)  # its first line is the process group
                    raise _CommandTimedOut(
                        f"timed out: a command took longer than {timeout:g} s: {command[:200]}", out.text
                    )
            # A stream that failed is incomplete.
            status = -1 if out.failed.is_set() or err.failed.is_set() else channel.recv_exit_status()
        if status < 0:
            raise DeviceLost(self._loss_message())
        return Output(out.text, err.text, status)

    def spawn(self, command: str) -> SshProcess:
        channel = self._channel()
        with self._connected():
            channel.exec_command(command)
        return SshProcess(channel, self._loss_message)

    def push(self, local: Path, remote: str, progress: Progress | None = None) -> None:
        """Raises ``DeviceRefused`` if the file cannot be written."""
        with local.open("rb") as source, self._sftp() as sftp:
            ssh_files.push(sftp, source, remote, progress)

    def pull(self, remote: str, local: Path) -> None:
        with self._sftp() as sftp:
            ssh_files.pull(sftp, remote, local)

    @contextlib.contextmanager
    def _sftp(self) -> Iterator[paramiko.SFTPClient]:
        import paramiko

        channel = self._channel()
        with self._connected():
            try:
                channel.invoke_subsystem("sftp")
                sftp = paramiko.SFTPClient(channel)
            except paramiko.SFTPError as error:
                raise DeviceRefused(
                    f"{self._config.host} offers no SFTP: {error}",
                    "Check whether its login shell prints something in non-interactive sessions (~/.bashrc).",
                ) from error
            except (paramiko.SSHException, EOFError) as error:
                # A connection that just broke still counts as active: only a reply proves that it is.
                self._transport().global_request("keepalive@openssh.com")
                if not self._transport().is_active():
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
                with self._connected():
                    return self._transport().open_channel("direct-tcpip", ("127.0.0.1", port), ("127.0.0.1", 0))
            except DeviceLost as error:
                raise ConnectionError(str(error)) from error

        return listen(connect, half_close=True)

    @contextlib.contextmanager
    def reverse(self, port: int) -> Iterator[int]:
        import paramiko

        connection = self._transport()
        with self._connected():
            try:
                remote_port = connection.request_port_forward("127.0.0.1", 0, self._relay_reversed)
            except paramiko.SSHException as error:
                if not connection.is_active():
                    raise
                raise DeviceRefused(
                    f"{self._config.host} does not allow remote port forwarding",
                    "Set AllowTcpForwarding yes in its sshd_config.",
                ) from error
        self._reversed_ports[remote_port] = port
        try:
            yield remote_port
        finally:
            del self._reversed_ports[remote_port]
            with contextlib.suppress(*transport_errors()):
                connection.cancel_port_forward("127.0.0.1", remote_port)

    def _relay_reversed(self, channel: paramiko.Channel, _: tuple[str, int], address: tuple[str, int]) -> None:
        """Relay a connection to a reverse-forwarded port on the device."""
        try:
            local = socket.create_connection(("127.0.0.1", self._reversed_ports[address[1]]))
        except (OSError, KeyError):
            with contextlib.suppress(*transport_errors()):
                channel.close()
            return
        threading.Thread(target=relay, args=(local, lambda: channel, True, set()), daemon=True).start()


class _CommandTimedOut(TimedOut):
    """``output``: printed before the timeout."""

    def __init__(self, message: str, output: str) -> None:
        super().__init__(message)
        self.output = output
