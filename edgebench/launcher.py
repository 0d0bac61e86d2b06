"""An engine started on a device, ready to be asked, watched by the sampler: from start to stop."""

from __future__ import annotations

import contextlib
import random
import re
import secrets
import signal
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Literal

from edgebench import cores, provision
from edgebench.client import HttpClient
from edgebench.core import Detached, Engine, EngineNotes, Launch, Narrator
from edgebench.errors import EngineFailed, EngineRefused, TimedOut, Unreadable
from edgebench.sampler import Sampler
from edgebench.session import Running, Session

KEY_VARIABLE = "LLAMA_API_KEY"
PORTS = range(20_000, 32_000)
"""Below the range that Linux, Android and Windows hand out by themselves."""
PORT_TRIES = 5
TAKEN = re.compile(r"couldn't bind|address already in use", re.I)
POLL_S = 0.02
WATCH_S = 0.2
"""Between two looks at the log of an engine that may lose its wits and live on."""
ATTACH_S = 60.0
"""Longest time until an app that was asked for runs."""
COMPILE_S = 3600.0
"""Longest time that compiling a model may take; it doesn't count as loading."""
SAY_S = 15.0
"""Between two words on a compilation that goes on."""
LOG_TAIL = 25
"""Lines of an engine's log that a failure shows."""

Regime = Literal["first", "cold", "warm"]


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


class Live:
    """A running engine: ``with Live(…) as live``. Raises ``EngineFailed`` where it doesn't get ready."""

    def __init__(
        self,
        session: Session,
        engine: Engine,
        launch: Launch,
        *,
        regime: Literal["warm", "cold"] = "warm",
        timeout: float = 300.0,
        kernels: str = "",
    ) -> None:
        """``kernels`` names what is compiled at the first start on a device (build and backend);
        empty where nothing is."""
        self._session = session
        self._engine = engine
        self.launch = launch
        self._regime = regime
        self._timeout = timeout
        self._kernels = kernels
        self._stack = contextlib.ExitStack()
        self.client: HttpClient
        self.sampler: Sampler
        self.running: Running
        self.load: Load

    def __enter__(self) -> Live:
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
            began = self._engine.load_began if isinstance(self._engine, Detached) else None
            started = began or self.running.started_at
            assert started is not None
            if self._kernels and first_start(self._session, self._kernels):
                regime = "first"
            self.load = Load(ready_at - started, regime, clock, resident, compiled)
            self._stack = stack.pop_all()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def log(self) -> list[str]:
        """The engine's own log, lines."""
        return self.running.log_text()

    @property
    def tail(self) -> tuple[str, ...]:
        """The log's last lines."""
        return tuple(self.log[-LOG_TAIL:])

    def notes(self) -> EngineNotes:
        return self._engine.notes(self.log)

    def died(self) -> EngineFailed | None:
        """Why the engine is gone, if it is. Raises ``DeviceLost`` where the wire is what broke."""
        # What watches over an app needs a while to see that it is gone, and to ask why.
        gone = isinstance(self._engine, Detached) and self._engine.attach() is None
        if not self.running.wait(30 if gone else 2):
            return None
        if self.running.lost:
            raise self.running.lost
        return self._death("while it was measured")

    def _death(self, when: str) -> EngineFailed:
        """The end of the engine, in its own words where it had any."""
        found = death(self.running, when)
        if not isinstance(self._engine, Narrator):
            return found
        verdict = self._engine.verdict(self.log)
        said = verdict or self._engine.last_words(self.log)
        if said is None:
            return found
        if verdict:  # it was ended from here: its status says nothing
            return EngineFailed(f"the engine failed {when}: {said[0]}", said[1], log=found.log)
        return EngineFailed(f"{found}: {said[0]}", said[1] or found.hint, status=found.status, log=found.log)

    def _narrated(self) -> tuple[float, bool] | None:
        return self._engine.compiling(self.running.log) if isinstance(self._engine, Narrator) else None

    def _watch(self, running: Running) -> None:
        """End an engine that goes on without its model's thread: nobody would ever be answered."""
        assert isinstance(self._engine, Narrator)
        while not running.wait(WATCH_S):
            if self._engine.verdict(running.log_text()):
                running.stop(patience=2)
                return

    def _start(self, stack: contextlib.ExitStack) -> Generator[str, None, tuple[float, Literal["log", "poll"]]]:
        """Try ports until one is free; the times of readiness."""
        for attempt in range(PORT_TRIES):
            port, key = random.choice(PORTS), secrets.token_hex(16)  # noqa: S311 - a port, not a secret
            with contextlib.ExitStack() as inner:
                command = self._engine.command(self.launch, port, KEY_VARIABLE)
                if self.launch.affinity:
                    command = replace(command, argv=["taskset", cores.mask(self.launch.affinity), *command.argv])
                self.running = self._session.start(command, [key])
                inner.callback(self.running.stop)
                pid = self._attached(self.running.wait_started())
                if isinstance(self._engine, Narrator):
                    threading.Thread(target=self._watch, args=(self.running,), daemon=True).start()
                self.sampler = inner.enter_context(Sampler(self._session, pid))
                self.client = HttpClient(inner.enter_context(self._session.forward(port)), key)
                inner.callback(self.client.close)
                try:
                    ready = yield from self._wait_ready()
                except PortTaken:
                    if attempt == PORT_TRIES - 1:
                        raise
                    continue
                stack.push(inner.pop_all())
                return ready
        raise AssertionError("unreachable")

    def _attached(self, pid: int) -> int:
        """The process to sample: what was started, or what it made the system run."""
        if not isinstance(self._engine, Detached):
            return pid
        deadline = time.monotonic() + ATTACH_S
        while time.monotonic() < deadline and not self.running.ended:
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
            if self.running.ended:
                if self.running.lost:
                    raise self.running.lost
                if any(TAKEN.search(text) for text in self.log[-LOG_TAIL:]):
                    raise PortTaken(
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


class PortTaken(EngineFailed):
    """Somebody else listens there."""


def first_start(session: Session, kernels: str) -> bool:
    """Whether this device never saw these kernels started before: drivers keep what they compiled
    (Vulkan's pipeline cache, OpenCL's binaries). Remembered by a folder in the workspace."""
    files = session.system.files
    mark = files.join(session.workspace, "started", kernels)
    if provision.ask(session, files.look(mark)):
        return False
    provision.ask(session, files.folder(mark))
    return True


def prepare_cache(session: Session, path: str, wanted: Literal["warm", "cold"]) -> tuple[float | None, Regime]:
    """Make the model's pages cached or not, and look whether they are: (share before the start, regime).

    Where nobody can look into the page cache the regime is what was asked for only if it is
    ``warm`` (the file has just been read through); a cold start that can't be verified is refused.
    """
    cache = session.system.page_cache(path)
    if cache is None:
        if wanted == "cold":
            raise EngineFailed(
                f"{session.device.name} lets nobody look into its page cache: a cold start can't be verified",
                "Leave --load cold out.",
            )
        return None, "warm"

    def resident() -> float | None:
        try:
            return float(cache.resident.parse(session.run(cache.resident.command).stdout)["resident"])
        except (Unreadable, TimedOut):
            return None

    share = resident()
    if wanted == "warm" and share is not None and share < 0.99:
        session.run(cache.fill, timeout=600)
        share = resident()
    elif wanted == "cold":
        session.run(cache.evict, timeout=60)
        share = resident()
        if share is None or share > 0.01:
            raise EngineFailed(
                f"the model's pages are still in the page cache ({share or 0:.0%}): this start would not be cold",
                "Another program may hold the file open. Leave --load cold out, or end that program.",
            )
    return share, wanted


def death(running: Running, when: str) -> EngineFailed:
    """The end of an engine in words: its signal or exit status, and its last lines."""
    status = running.status
    name = signal_name(status)
    if name:
        how = f"died by {name}"
    elif status is None:
        how = "is gone without an exit status"
    else:
        how = f"ended with exit status {status}"
    log = tuple(running.log_text()[-LOG_TAIL:])
    return EngineFailed(f"the engine {how} {when}", _hint(name, log), status=status, log=log)


def signal_name(status: int | None) -> str | None:
    """``SIGSEGV`` for 139; None for an exit of its own."""
    if status is None or not 128 < status < 160:
        return None
    with contextlib.suppress(ValueError):
        return signal.Signals(status - 128).name
    return f"signal {status - 128}"


def _hint(name: str | None, log: tuple[str, ...]) -> str:
    text = "\n".join(log).lower()
    if name == "SIGKILL":
        return "The system may have run out of memory: use a smaller --ctx or model."
    if name in ("SIGILL", "SIGSEGV", "SIGBUS"):
        return "The engine's build may not fit this CPU: try another build."
    for words, hint in HINTS:
        if words in text:
            return hint
    return ""


HINTS: tuple[tuple[str, str], ...] = (
    ("error while loading shared libraries", "A library is missing: set LD_LIBRARY_PATH in the profile's `env:`."),
    ("failed to allocate", "It does not fit: use a smaller --ctx, a smaller quantization or fewer --gpu-layers."),
    ("out of memory", "It does not fit: use a smaller --ctx, a smaller quantization or fewer --gpu-layers."),
    ("unknown model architecture", "This build is too old for the model: use a newer llama.cpp."),
    ("invalid argument", "This build knows other flags than edgebench used; please report it with its --version."),
)
