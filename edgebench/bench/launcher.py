"""An engine started on a device, ready to be asked, watched by the sampler: from start to stop."""

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
WATCH_S = 0.2
"""Between two looks at the log of an engine that may lose its wits and live on."""
ATTACH_S = 60.0
"""Longest time until an app that was asked for runs."""
COMPILE_S = 3600.0
"""Longest time that compiling a model may take; it doesn't count as loading."""
SAY_S = 15.0
"""Between two words on a compilation that goes on."""


@dataclass(frozen=True)
class Load:
    """One start of an engine."""

    seconds: float
    """Process start → ready."""
    regime: Regime
    clock: Literal["log", "poll"]
    """Whether the end is the engine's own ready line or the first answer to a question."""
    resident: float | None
    """Share of the model file in the page cache before the start, 0…1."""
    compile_s: float | None = None
    """What an earlier start spent on compiling the model, seconds; None where nothing was compiled."""


class EngineProcess:
    """A running engine: ``with EngineProcess(…) as live``. Raises ``EngineFailed`` where it doesn't get ready."""

    def __init__(
        self,
        session: Session,
        engine: Engine,
        launch: Launch,
        *,
        regime: Literal["warm", "cold"] = "warm",
        timeout: float = 300.0,
        kernels: str = "",
        helpers: RpcWorkers | None = None,
    ) -> None:
        """``kernels`` names what is compiled at the first start on a device (build and backend);
        empty where nothing is. ``helpers``: the other devices that hold parts of the model."""
        self._session = session
        self._engine = engine
        self.launch = launch
        self._regime = regime
        self._timeout = timeout
        self._kernels = kernels
        self.helpers = helpers
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
        """What ``with`` does, step by step: yields what there is to say while it takes long."""
        with contextlib.ExitStack() as stack:
            resident, regime = prepare_cache(self._session, self.launch.model, self._regime)
            compiled = None
            while True:
                ready_at, clock = yield from self._start(stack)
                narrated = self._narrated()
                if narrated is None or compiled is not None:
                    break
                compiled = narrated[0]
                stack.close()
                yield f"compiled the model in {compiled:.0f} s, starting it again"
            began = self._engine.load_began if isinstance(self._engine, AppEngine) else None
            started = began or self.running.started_at
            assert started is not None
            if self._kernels and is_first_start(self._session, self._kernels):
                regime = "first"
            self.load = Load(ready_at - started, regime, clock, resident, compiled)
            self._stack = stack.pop_all()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def log(self) -> list[str]:
        """The engine's own log, lines; none before it was started."""
        return self.running.log_text() if hasattr(self, "running") else []

    @property
    def tail(self) -> tuple[str, ...]:
        """The log's last lines."""
        return tuple(self.log[-LOG_TAIL:])

    def transcript(self) -> str:
        """The log as it is kept: marked where lines are missing, with the tracebacks of probes that failed."""
        faults = self.sampler.faults.values() if hasattr(self, "sampler") else ()
        traces = [fault.trace for fault in faults if isinstance(fault, UnexpectedError)]
        return "\n".join([*self.running.truncated_log(), *traces])

    def notes(self) -> EngineFacts:
        notes = self._engine.info(self.log)
        if self.helpers is None:
            return notes
        named = {self.helpers.named(name): size for name, size in notes.buffers.items()}
        return replace(notes, buffers=named)

    def died(self) -> EngineFailed | None:
        """Why the engine is gone, if it is. Raises ``DeviceLost`` where the wire is what broke."""
        # What watches over an app needs a while to see that it is gone, and to ask why.
        gone = isinstance(self._engine, AppEngine) and self._engine.attach() is None
        if not self.running.wait(30 if gone else 2):
            return None
        if self.running.loss:
            raise self.running.loss
        found = self._death("while it was measured")
        return self.helpers.blamed(found) if self.helpers else found

    def raise_fault(self) -> None:
        """Raises ``PartFailed`` where the engine's log could not be watched to the end."""
        if self._fault:
            raise self._fault

    def _death(self, when: str) -> EngineFailed:
        """The end of the engine, in its own words where it had any. Raises ``PartFailed``."""
        self.raise_fault()
        found = crash_error(self.running, when)
        if not isinstance(self._engine, LogDiagnostics):
            return found
        verdict = self._engine.verdict(self.log)
        said = verdict or self._engine.last_words(self.log)
        if said is None:
            return found
        if verdict:  # it was ended from here: its status says nothing
            return EngineFailed(f"the engine failed {when}: {said[0]}", said[1], log=found.log)
        return EngineFailed(f"{found}: {said[0]}", said[1] or found.hint, status=found.status, log=found.log)

    def _narrated(self) -> tuple[float, bool] | None:
        return self._engine.compiling(self.running.log) if isinstance(self._engine, LogDiagnostics) else None

    def _watch(self, running: SupervisedProcess) -> None:
        """End an engine that goes on without its model's thread: nobody would ever be answered."""
        assert isinstance(self._engine, LogDiagnostics)
        while not running.wait(WATCH_S):
            try:
                hopeless = self._engine.verdict(running.log_text()) is not None
            except PartFailed as error:
                self._fault, hopeless = error, True
            if hopeless:
                running.stop(grace_s=2)
                return

    def _start(self, stack: contextlib.ExitStack) -> Generator[str, None, tuple[float, Literal["log", "poll"]]]:
        """Try ports until one is free; the times of readiness."""
        for attempt in range(PORT_TRIES):
            port, key = random.choice(PORTS), secrets.token_hex(16)  # noqa: S311 - a port, not a secret
            with contextlib.ExitStack() as inner:
                launch = inner.enter_context(self.helpers.serving(self.launch)) if self.helpers else self.launch
                command = self._engine.command(launch, port)
                if self.launch.affinity:
                    command = replace(
                        command, argv=["taskset", cores.affinity_mask(self.launch.affinity), *command.argv]
                    )
                self.running = self._session.start(command, [key] * len(command.secrets))
                inner.callback(self.running.stop)
                pid = self._attached(self.running.wait_started())
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

    def _attached(self, pid: int) -> int:
        """The process to sample: what was started, or what it made the system run."""
        if not isinstance(self._engine, AppEngine):
            return pid
        deadline = time.monotonic() + ATTACH_S
        while time.monotonic() < deadline and not self.running.is_ended:
            found = self._engine.attach()
            if found is not None:
                return found
            self.running.wait(WATCH_S)
        raise self._death("before it began to load")

    def _wait_ready(self) -> Generator[str, None, tuple[float, Literal["log", "poll"]]]:
        began = time.monotonic()
        said_at = 0.0
        while True:
            seconds, over = self._narrated() or (0.0, True)
            now = time.monotonic()
            if now > began + self._timeout + min(seconds, COMPILE_S):
                break
            if not over and now > said_at + SAY_S:
                yield f"compiling the model for this device, {seconds:.0f} s so far"
                said_at = now
            if self.running.is_ended:
                if self.running.loss:
                    raise self.running.loss
                if self._engine.port_taken(self.log[-LOG_TAIL:]):
                    raise PortInUse(
                        "every port tried on the device's loopback is taken", log=tuple(self.log[-LOG_TAIL:])
                    )
                raise self._death("while it was loading")
            try:
                if self._engine.ready(self.client):
                    return self._ready_at(time.monotonic())
            except EngineRefused:
                raise
            except EngineFailed:
                pass  # nobody listens yet
            self.running.wait(POLL_S)
        raise EngineFailed(
            f"the engine was not ready after {self._timeout:g} s",
            "If it only needs longer, give --load-timeout SECONDS.",
            log=self.tail,
        )

    def _ready_at(self, answered: float) -> tuple[float, Literal["log", "poll"]]:
        said = next((line.at for line in self.running.log if self._engine.ready_line(line.text)), None)
        return (said, "log") if said is not None and said <= answered else (answered, "poll")
