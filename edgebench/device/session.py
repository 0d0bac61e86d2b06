"""An open connection to a device: the only module that uses transports and systems directly."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from edgebench import plugins
from edgebench.core import (
    SILENCED,
    Command,
    Device,
    DeviceFacts,
    Line,
    Output,
    Process,
    Progress,
    ReverseForwarding,
    System,
    Transport,
    merged,
)
from edgebench.errors import DeviceLost, DeviceRefused, EdgebenchError, PartFailed, TimedOut, Unreadable
from edgebench.transports.local import Local

HEARTBEAT_S = 1.0
"""Seconds between heartbeats to the watchdog on the device."""

MAX_LOG_LINES = 20_000
"""Maximum length of an engine's log: the first and the last half are kept."""


def create_transport(device: Device) -> Transport:
    """The device's transport, not yet open. Raises ``UsageError`` if there is no transport of that kind."""
    config = {name: value for name, value in device.transport.items() if name != "kind"}
    return plugins.create("transports", str(device.transport["kind"]), config=config)


class Session(contextlib.AbstractContextManager["Session"]):
    """A device between ``with`` and its end: see ``core.DeviceSession``."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.transport = create_transport(device)
        self.system: System = plugins.guard("systems", device.system, plugins.create("systems", device.system))
        self.workspace = device.workspace or self.system.default_workspace
        self.reconnect_hooks: list[Callable[[], None]] = []

    def __enter__(self) -> Session:
        try:
            self._open()
        except EdgebenchError as error:
            # A transport does not know the name of its device.
            error.hint = error.hint.replace("NAME", self.device.name)
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.transport.close()

    @property
    def is_local(self) -> bool:
        """Whether the device is the controller itself: files are used in place."""
        return isinstance(self.transport, Local)

    def reopen(self) -> None:
        """Reconnect after a lost connection and call the ``reconnect_hooks``. Raises as ``open``."""
        self.transport.close()
        self._open()
        for hook in self.reconnect_hooks:
            hook()

    def run(self, command: str, *, timeout: float = 60, stdin: bytes = b"") -> Output:
        with self._transport_boundary():
            return self.transport.run(command, timeout=timeout, stdin=stdin)

    def push(self, local: Path, remote: str, progress: Progress | None = None) -> None:
        with self._transport_boundary():
            self.transport.push(local, remote, progress)

    def spawn(self, command: str) -> Process:
        """See ``core.Transport``."""
        with self._transport_boundary():
            process = self.transport.spawn(command)
        return plugins.guard("transports", self._transport_name, process)

    def forward(self, port: int) -> contextlib.AbstractContextManager[int]:
        with self._transport_boundary():
            return self.transport.forward(port)

    def reverse(self, port: int) -> contextlib.AbstractContextManager[int]:
        """Forward a port of the device's loopback to one of the controller's. Raises as ``reverse_forwarding``."""
        return self.reverse_forwarding().reverse(port)

    def reverse_forwarding(self) -> ReverseForwarding:
        """The transport, if it can forward ports of the device to the controller. Raises ``DeviceRefused``."""
        if isinstance(self.transport, ReverseForwarding):
            return self.transport
        raise DeviceRefused(
            f"{self.device.name} cannot be the head: {self._transport_name} cannot forward its ports to this machine",
            "Use a device over SSH (such as Termux on the same phone) or this machine as the head, and this one as a "
            f"part: --rpc {self.device.name}. Or start ggml-rpc-server yourself and pass its address: --rpc HOST:PORT",
        )

    def facts(self) -> DeviceFacts:
        """All facts that the system reports. Unavailable ones are in ``absent`` with the reason."""
        facts = DeviceFacts()
        absent: dict[str, str] = {}
        for name, fact in self.system.facts.items():
            try:
                output = self.run(fact.command, timeout=20)
                with plugins.boundary("systems", self.device.system):
                    partial = fact.parse(output.stdout)
            except (TimedOut, Unreadable, PartFailed) as error:
                absent[name] = str(error)
                continue
            if partial == DeviceFacts() and output.status != 0:
                absent[name] = (output.stderr.strip() or f"exit status {output.status}")[:200]
            facts = merged(facts, partial)
        return replace(facts, absent=absent)

    def boot(self) -> str | None:
        """An ID common to all profiles of one running machine; None if the system has none."""
        fact = self.system.facts.get("boot")
        if fact is None:
            return None
        with contextlib.suppress(TimedOut, Unreadable):
            return fact.parse(self.run(fact.command, timeout=20).stdout).boot
        return None

    def start(self, command: Command, secret_values: Sequence[str] = ()) -> SupervisedProcess:
        """Start a program under the device's watchdog, which ends it without the controller's heartbeat."""
        tag = f"@edgebench-{secrets.token_hex(6)}"
        process = self.spawn(self.system.supervise(command, tag))
        return SupervisedProcess(process, tag, secret_values)

    def _open(self) -> None:
        with self._transport_boundary():
            self.transport.open()

    @property
    def _transport_name(self) -> str:
        return str(self.device.transport["kind"])

    def _transport_boundary(self) -> contextlib.AbstractContextManager[None]:
        return plugins.boundary("transports", self._transport_name)


class SupervisedProcess:
    """A program on a device, kept alive by a heartbeat; its log is read continuously."""

    def __init__(self, process: Process, tag: str, secret_values: Sequence[str]) -> None:
        self._process = process
        self._tag = tag
        self._changed = threading.Condition()
        self.log: list[Line] = []
        self.log_lines_dropped = 0
        self.pid: int | None = None
        """0 if it ended before its pid was reported."""
        self.started_at: float | None = None
        """``time.monotonic()`` at which the watchdog reported the start."""
        self.device_started: float | None = None
        """The same instant on the device's clock; None without one."""
        self.status: int | None = None
        """Exit status, 128 + n for signal n, once it has ended."""
        self.loss: DeviceLost | None = None
        self._has_ended = False
        for value in secret_values:
            process.write(value + "\n")
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._send_heartbeats, daemon=True).start()

    @property
    def is_ended(self) -> bool:
        return self._has_ended

    def wait_started(self, timeout: float = 30) -> int:
        """The program's pid on the device. Raises ``DeviceRefused``, ``DeviceLost``."""
        with self._changed:
            self._changed.wait_for(lambda: self.pid is not None or self._has_ended, timeout)
        if self.pid is None:
            log_lines = "; ".join(line.text for line in self.log[-5:])
            raise self.loss or DeviceRefused(f"the device could not start a program: {log_lines or 'no output'}")
        return self.pid

    def wait(self, timeout: float) -> bool:
        """Wait; whether it ended within ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._has_ended, timeout)

    def stop(self, grace_s: float = 10) -> None:
        """Send SIGINT, after ``grace_s`` SIGTERM, then SIGKILL. Never raises."""
        for signal_word, seconds in (("stop", grace_s), ("term", 3.0), ("kill", 3.0)):
            if self._has_ended:
                break
            with contextlib.suppress(EdgebenchError):
                self._process.write(signal_word + "\n")
            if self.wait(seconds):
                break
        self._process.kill()

    def log_text(self) -> list[str]:
        """The program's own lines, both streams, in order of arrival."""
        return [line.text for line in list(self.log)]

    def truncated_log(self) -> list[str]:
        """``log_text``, with a marker line if lines were dropped."""
        lines, dropped = self.log_text(), self.log_lines_dropped
        if dropped:
            lines.insert(MAX_LOG_LINES // 2, f"… {dropped:,} {'line' if dropped == 1 else 'lines'} dropped …")
        return lines

    def _send_heartbeats(self) -> None:
        # A watchdog may read its standard input in blocks: a heartbeat sent with a secret would be lost.
        with self._changed:
            self._changed.wait_for(lambda: self.pid is not None or self._has_ended)
        while not self._has_ended:
            try:
                self._process.write("beat\n")
            except DeviceLost as error:
                self._end(loss=None if self.wait(2) else error)
                return
            self.wait(HEARTBEAT_S)

    def _listen(self) -> None:
        while True:
            try:
                line = self._process.read(1.0)
            except DeviceLost as error:
                self._end(loss=error)
                return
            if line is not None:
                self._handle_line(line)
            elif self._process.status is not None:
                break
        self._end(loss=self._find_loss())

    def _find_loss(self) -> DeviceLost | None:
        """The error if the program ended because of the connection or the controller; None if by itself."""
        if self.status == SILENCED:
            return DeviceLost(
                "the device's watchdog received no heartbeat and stopped the engine",
                "Was this machine asleep, edgebench stopped (Ctrl-Z), or the connection interrupted?",
            )
        if self.status is None and self.pid is not None:
            return DeviceLost("lost the connection to the engine's watchdog")
        return None

    def _end(self, loss: DeviceLost | None) -> None:
        with self._changed:
            if not self._has_ended:
                self.loss = loss
                self._has_ended = True
            self._changed.notify_all()

    def _handle_line(self, line: Line) -> None:
        if line.text.startswith(self._tag):
            self._parse_report(line)
            return
        if len(self.log) >= MAX_LOG_LINES:
            # The beginning shows the load, the end a crash: drop the middle.
            del self.log[MAX_LOG_LINES // 2]
            self.log_lines_dropped += 1
        self.log.append(line)

    def _parse_report(self, line: Line) -> None:
        fields = line.text.split()
        if len(fields) != 4 or fields[1] not in ("start", "pid", "exit"):
            return
        number = int(fields[2])
        with self._changed:
            if fields[1] != "exit" and self.started_at is None:
                self.started_at = line.at
                self.device_started = None if fields[3] == "-" else float(fields[3])
            if fields[1] == "pid":
                self.pid = number
            elif fields[1] == "exit":
                self.status = number
                self.pid = self.pid or 0
            self._changed.notify_all()
