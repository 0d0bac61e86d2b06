"""Starts an engine on a device, waits until it is ready, and samples it until it is stopped."""

from __future__ import annotations

import contextlib
import random
import secrets
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Literal

from edgebench.bench.client import HttpClient
from edgebench.bench.rpc import RpcWorkers
from edgebench.bench.sampler import Sampler
from edgebench.core import AppEngine, Engine, EngineFacts, Launch, LogDiagnostics
from edgebench.device import cores
from edgebench.device.crashes import LOG_TAIL, crash_error
from edgebench.device.pagecache import Regime, is_first_start, prepare_cache
from edgebench.device.ports import PORT_TRIES, PORTS, PortInUse
from edgebench.device.session import Session, SupervisedProcess
from edgebench.errors import EngineFailed, EngineRefused, PartFailed, UnexpectedError

POLL_S = 0.02
LOG_POLL_S = 0.2
"""Polling interval of the log of an engine that may fail without exiting, seconds."""
ATTACH_TIMEOUT_S = 60.0
"""Timeout of an app's start, seconds."""
COMPILE_TIMEOUT_S = 3600.0
"""Maximum time for compiling a model, seconds; it does not count as load time."""
COMPILE_REPORT_S = 15.0
"""Interval of progress reports of a compilation, seconds."""


@dataclass(frozen=True)
class Load:
    """One start of an engine."""

    seconds: float
    """Process start → ready."""
    regime: Regime
    clock: Literal["log", "poll"]
    """Whether readiness is the engine's own log line or the first successful poll."""
    resident: float | None
    """Share of the model file in the page cache before the start, 0…1."""
    compile_s: float | None = None
    """Time that an earlier start spent compiling the model, seconds; None if nothing was compiled."""


class EngineProcess:
    """A running engine: ``with EngineProcess(…) as process``. Raises ``EngineFailed`` if it does not become ready."""

    def __init__(
        self,
        session: Session,
        engine: Engine,
        launch: Launch,
        *,
        regime: Literal["warm", "cold"] = "warm",
        timeout: float = 300.0,
        kernels: str = "",
        rpc_workers: RpcWorkers | None = None,
    ) -> None:
        """``kernels``: key of the kernels that are compiled at the first start on a device (build and backend), or
        empty. ``rpc_workers``: the other devices that hold parts of the model."""
        self._session = session
        self._engine = engine
        self.launch = launch
        self._regime = regime
        self._timeout = timeout
        self._kernels = kernels
        self.rpc_workers = rpc_workers
        self._stack = contextlib.ExitStack()
        self.client: HttpClient
        self.sampler: Sampler
        self.running: SupervisedProcess
        self.load: Load
        self._fault: PartFailed | None = None
        """Why the engine's log is not watched any more."""

    def __enter__(self) -> EngineProcess:
        for _ in self.opening():
            pass
        return self

    def opening(self) -> Iterator[str]:
        """Start the engine; yields progress messages."""
        with contextlib.ExitStack() as stack:
            resident, regime = prepare_cache(self._session, self.launch.model, self._regime)
            compile_s = None
            while True:
                ready_at, clock = yield from self._start(stack)
                compile_state = self._compile_state()
                if compile_state is None or compile_s is not None:
                    break
                compile_s = compile_state[0]
                stack.close()
                yield f"compiled the model in {compile_s:.0f} s, starting it again"
            load_began = self._engine.load_began if isinstance(self._engine, AppEngine) else None
            started_at = load_began or self.running.started_at
            assert started_at is not None
            if self._kernels and is_first_start(self._session, self._kernels):
                regime = "first"
            self.load = Load(ready_at - started_at, regime, clock, resident, compile_s)
            self._stack = stack.pop_all()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def log(self) -> list[str]:
        """Lines of the engine's own log; empty before it was started."""
        return self.running.log_text() if hasattr(self, "running") else []

    @property
    def tail(self) -> tuple[str, ...]:
        """The log's last lines."""
        return tuple(self.log[-LOG_TAIL:])

    def transcript(self) -> str:
        """The log as it is stored: with marks for dropped lines, and the tracebacks of failed probes."""
        faults = self.sampler.faults.values() if hasattr(self, "sampler") else ()
        traces = [fault.trace for fault in faults if isinstance(fault, UnexpectedError)]
        return "\n".join([*self.running.truncated_log(), *traces])

    def notes(self) -> EngineFacts:
        notes = self._engine.info(self.log)
        if self.rpc_workers is None:
            return notes
        buffers = {self.rpc_workers.with_device_names(name): size for name, size in notes.buffers.items()}
        return replace(notes, buffers=buffers)

    def died(self) -> EngineFailed | None:
        """Why the engine has exited; None if it runs. Raises ``DeviceLost`` if the connection broke."""
        # The supervisor of an app needs a while to detect its exit and query the reason.
        has_exited = isinstance(self._engine, AppEngine) and self._engine.attach() is None
        if not self.running.wait(30 if has_exited else 2):
            return None
        if self.running.loss:
            raise self.running.loss
        error = self._exit_error("while it was measured")
        return self.rpc_workers.attribute_error(error) if self.rpc_workers else error

    def raise_fault(self) -> None:
        """Raises ``PartFailed`` if the engine plugin failed while its log was watched."""
        if self._fault:
            raise self._fault

    def _exit_error(self, phase: str) -> EngineFailed:
        """The error of an engine that exited, with its own message if it has one. Raises ``PartFailed``."""
        self.raise_fault()
        error = crash_error(self.running, phase)
        if not isinstance(self._engine, LogDiagnostics):
            return error
        verdict = self._engine.verdict(self.log)
        message = verdict or self._engine.last_words(self.log)
        if message is None:
            return error
        if verdict:  # edgebench stopped it: its status means nothing
            return EngineFailed(f"the engine failed {phase}: {message[0]}", message[1], log=error.log)
        return EngineFailed(f"{error}: {message[0]}", message[1] or error.hint, status=error.status, log=error.log)

    def _compile_state(self) -> tuple[float, bool] | None:
        return self._engine.compiling(self.running.log) if isinstance(self._engine, LogDiagnostics) else None

    def _watch(self, running: SupervisedProcess) -> None:
        """Stop an engine whose model thread crashed: it would never respond."""
        assert isinstance(self._engine, LogDiagnostics)
        while not running.wait(LOG_POLL_S):
            try:
                has_failed = self._engine.verdict(running.log_text()) is not None
            except PartFailed as error:
                self._fault, has_failed = error, True
            if has_failed:
                running.stop(grace_s=2)
                return

    def _start(self, stack: contextlib.ExitStack) -> Generator[str, None, tuple[float, Literal["log", "poll"]]]:
        """Start the engine on a free port; (time of readiness, its clock)."""
        for attempt in range(PORT_TRIES):
            port, key = random.choice(PORTS), secrets.token_hex(16)  # noqa: S311 - a port, not a secret
            with contextlib.ExitStack() as inner:
                launch = inner.enter_context(self.rpc_workers.serving(self.launch)) if self.rpc_workers else self.launch
                command = self._engine.command(launch, port)
                if self.launch.affinity:
                    command = replace(
                        command, argv=["taskset", cores.affinity_mask(self.launch.affinity), *command.argv]
                    )
                self.running = self._session.start(command, [key] * len(command.secrets))
                inner.callback(self.running.stop)
                pid = self._attach(self.running.wait_started())
                if isinstance(self._engine, LogDiagnostics):
                    threading.Thread(target=self._watch, args=(self.running,), daemon=True).start()
                self.sampler = inner.enter_context(Sampler(self._session, pid))
                self.client = HttpClient(inner.enter_context(self._session.forward(port)), key)
                try:
                    ready = yield from self._wait_ready()
                except PortInUse:
                    if attempt == PORT_TRIES - 1:
                        raise
                    continue
                stack.push(inner.pop_all())
                return ready
        raise AssertionError("unreachable")

    def _attach(self, pid: int) -> int:
        """PID of the process to sample: the started one, or the app that it launched. Raises ``EngineFailed``."""
        if not isinstance(self._engine, AppEngine):
            return pid
        deadline = time.monotonic() + ATTACH_TIMEOUT_S
        while time.monotonic() < deadline and not self.running.is_ended:
            app_pid = self._engine.attach()
            if app_pid is not None:
                return app_pid
            self.running.wait(LOG_POLL_S)
        raise self._exit_error("before it began to load")

    def _wait_ready(self) -> Generator[str, None, tuple[float, Literal["log", "poll"]]]:
        start = time.monotonic()
        reported_at = 0.0
        while True:
            seconds, is_done = self._compile_state() or (0.0, True)
            now = time.monotonic()
            if now > start + self._timeout + min(seconds, COMPILE_TIMEOUT_S):
                break
            if not is_done and now > reported_at + COMPILE_REPORT_S:
                yield f"compiling the model for this device, {seconds:.0f} s so far"
                reported_at = now
            if self.running.is_ended:
                if self.running.loss:
                    raise self.running.loss
                if self._engine.port_taken(self.log[-LOG_TAIL:]):
                    raise PortInUse(
                        "every port tried on the device's loopback is taken", log=tuple(self.log[-LOG_TAIL:])
                    )
                raise self._exit_error("while it was loading")
            try:
                if self._engine.ready(self.client):
                    return self._ready_at(time.monotonic())
            except EngineRefused:
                raise
            except EngineFailed:
                pass  # it does not listen yet
            self.running.wait(POLL_S)
        raise EngineFailed(
            f"timed out: the engine was not ready after {self._timeout:g} s",
            "If it needs longer, set --load-timeout SECONDS.",
            log=self.tail,
        )

    def _ready_at(self, responded_at: float) -> tuple[float, Literal["log", "poll"]]:
        log_time = next((line.at for line in self.running.log if self._engine.ready_line(line.text)), None)
        return (log_time, "log") if log_time is not None and log_time <= responded_at else (responded_at, "poll")
