"""An open device. Nothing else in the program touches one."""

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
from edgebench.errors import DeviceLost, DeviceRefused, EdgebenchError, TimedOut, Unreadable
from edgebench.transports.local import Local

BEAT = 1.0
"""Seconds between two signs of life to the watcher on the device."""

LOG_LINES = 20_000
"""Lines of an engine's log that are kept: the first half of them and the last."""


def transport_of(device: Device) -> Transport:
    """The device's transport, not yet open. Raises ``UsageError`` where there is none of that name."""
    config = {name: value for name, value in device.transport.items() if name != "kind"}
    return plugins.create("transports", str(device.transport["kind"]), config=config)


class Session(contextlib.AbstractContextManager["Session"]):
    """A device between ``with`` and its end: see ``core.DeviceSession``."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.transport = transport_of(device)
        self.system: System = plugins.create("systems", device.system)
        self.workspace = device.workspace or self.system.default_workspace
        self.again: list[Callable[[], None]] = []

    def __enter__(self) -> Session:
        try:
            self.transport.open()
        except EdgebenchError as error:
            # A wire doesn't know what its device is called.
            error.hint = error.hint.replace("NAME", self.device.name)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.transport.close()

    @property
    def is_local(self) -> bool:
        """Whether the device is the controller itself: its files are ours, nothing need be pushed."""
        return isinstance(self.transport, Local)

    def reopen(self) -> None:
        """After the wire broke. What ``again`` holds is done once more. Raises as ``open``."""
        self.transport.close()
        self.transport.open()
        for step in self.again:
            step()

    def run(self, command: str, *, timeout: float = 60, stdin: bytes = b"") -> Output:
        return self.transport.run(command, timeout=timeout, stdin=stdin)

    def push(self, local: Path, remote: str, progress: Progress | None = None) -> None:
        self.transport.push(local, remote, progress)

    def forward(self, port: int) -> contextlib.AbstractContextManager[int]:
        return self.transport.forward(port)

    def reverse(self, port: int) -> contextlib.AbstractContextManager[int]:
        """A port of the controller's loopback as one of the device's. Raises as ``way_back``."""
        return self.way_back().reverse(port)

    def way_back(self) -> ReverseForwarding:
        """The wire, if it also leads from the device to here. Raises ``DeviceRefused``."""
        if isinstance(self.transport, ReverseForwarding):
            return self.transport
        raise DeviceRefused(
            f"{self.device.name} cannot be the head: "
            f"{self.device.transport['kind']} cannot forward its ports to this machine",
            "Use a device over SSH (such as Termux on the same phone) or this machine as the head, and this one as a "
            "part: "
            f"--rpc {self.device.name}. Or start ggml-rpc-server yourself and pass its address: --rpc HOST:PORT",
        )

    def facts(self) -> DeviceFacts:
        """Everything the system can be asked about itself. What couldn't be learnt is in ``absent``
        with its reason, never a made-up value."""
        known = DeviceFacts()
        absent: dict[str, str] = {}
        for name, fact in self.system.facts.items():
            try:
                said = self.run(fact.command, timeout=20)
                found = fact.parse(said.stdout)
            except (TimedOut, Unreadable) as error:
                absent[name] = str(error)
                continue
            if found == DeviceFacts() and said.status != 0:
                absent[name] = (said.stderr.strip() or f"exit status {said.status}")[:200]
            known = merged(known, found)
        return replace(known, absent=absent)

    def boot(self) -> str | None:
        """What all profiles of one running machine have in common, where its system tells."""
        fact = self.system.facts.get("boot")
        if fact is None:
            return None
        with contextlib.suppress(TimedOut, Unreadable):
            return fact.parse(self.run(fact.command, timeout=20).stdout).boot
        return None

    def start(self, command: Command, secret_values: Sequence[str] = ()) -> SupervisedProcess:
        """Start a program under the device's watcher; it dies without this controller."""
        tag = f"@edgebench-{secrets.token_hex(6)}"
        process = self.transport.spawn(self.system.supervise(command, tag))
        return SupervisedProcess(process, tag, secret_values)


class SupervisedProcess:
    """A program on a device, kept alive by a heartbeat, its log read as it comes."""

    def __init__(self, process: Process, tag: str, secret_values: Sequence[str]) -> None:
        self._process = process
        self._tag = tag
        self._changed = threading.Condition()
        self.log: list[Line] = []
        self.log_lines_dropped = 0
        self.pid: int | None = None
        """0 where it ended before its pid was seen."""
        self.started_at: float | None = None
        """``time.monotonic()`` at which the watcher said the program is started."""
        self.device_started: float | None = None
        """The same instant on the device's clock, where it has one."""
        self.status: int | None = None
        """Exit status, 128 + n for signal n, once it has ended."""
        self.lost: DeviceLost | None = None
        self._over = False
        for value in secret_values:
            process.write(value + "\n")
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()

    @property
    def ended(self) -> bool:
        return self._over

    def wait_started(self, timeout: float = 30) -> int:
        """The program's pid on the device. Raises ``DeviceRefused``, ``DeviceLost``."""
        with self._changed:
            self._changed.wait_for(lambda: self.pid is not None or self._over, timeout)
        if self.pid is None:
            words = "; ".join(line.text for line in self.log[-5:])
            raise self.lost or DeviceRefused(f"the device could not start a program: {words or 'no output'}")
        return self.pid

    def wait(self, timeout: float) -> bool:
        """Whether it ended within ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._over, timeout)

    def stop(self, patience: float = 10) -> None:
        """Ask politely (SIGINT), then firmly (SIGTERM), then kill. Never raises."""
        for word, seconds in (("stop", patience), ("term", 3.0), ("kill", 3.0)):
            if self._over:
                break
            with contextlib.suppress(EdgebenchError):
                self._process.write(word + "\n")
            if self.wait(seconds):
                break
        self._process.kill()

    def log_text(self) -> list[str]:
        """The program's own lines, both streams, in order of arrival."""
        return [line.text for line in list(self.log)]

    def kept_log(self) -> list[str]:
        """``log_text``, with a line that says so where lines were dropped."""
        lines, dropped = self.log_text(), self.log_lines_dropped
        if dropped:
            lines.insert(LOG_LINES // 2, f"… {dropped:,} {'line' if dropped == 1 else 'lines'} dropped …")
        return lines

    def _beat(self) -> None:
        # A watcher may read its standard input in blocks: what comes with a secret would be lost.
        with self._changed:
            self._changed.wait_for(lambda: self.pid is not None or self._over)
        while not self._over:
            try:
                self._process.write("beat\n")
            except DeviceLost as error:
                self._end(lost=None if self.wait(2) else error)
                return
            self.wait(BEAT)

    def _listen(self) -> None:
        while True:
            try:
                line = self._process.read(1.0)
            except DeviceLost as error:
                self._end(lost=error)
                return
            if line is not None:
                self._take(line)
            elif self._process.status is not None:
                break
        self._end(lost=self._loss())

    def _loss(self) -> DeviceLost | None:
        """Why an end is the wire's or this machine's doing, not the program's."""
        if self.status == SILENCED:
            return DeviceLost(
                "the device's watchdog received no heartbeat and stopped the engine",
                "Was this machine asleep, edgebench stopped (Ctrl-Z), or the connection interrupted?",
            )
        if self.status is None and self.pid is not None:
            return DeviceLost("lost the connection to the engine's watchdog")
        return None

    def _end(self, lost: DeviceLost | None) -> None:
        with self._changed:
            if not self._over:
                self.lost = lost
                self._over = True
            self._changed.notify_all()

    def _take(self, line: Line) -> None:
        if line.text.startswith(self._tag):
            self._take_word(line)
            return
        if len(self.log) >= LOG_LINES:
            # The load's lines are at the beginning, a crash's at the end: the middle goes.
            del self.log[LOG_LINES // 2]
            self.log_lines_dropped += 1
        self.log.append(line)

    def _take_word(self, line: Line) -> None:
        words = line.text.split()
        if len(words) != 4 or words[1] not in ("start", "pid", "exit"):
            return
        number = int(words[2])
        with self._changed:
            if words[1] != "exit" and self.started_at is None:
                self.started_at = line.at
                self.device_started = None if words[3] == "-" else float(words[3])
            if words[1] == "pid":
                self.pid = number
            elif words[1] == "exit":
                self.status = number
                self.pid = self.pid or 0
            self._changed.notify_all()
