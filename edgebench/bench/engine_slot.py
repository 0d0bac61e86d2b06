"""The one engine process of a run: started for a launch, used by every trial with an equal one."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from edgebench.bench.events import Activity, EngineLog, Event
from edgebench.bench.launcher import EngineProcess
from edgebench.bench.rpc import RpcWorkers
from edgebench.bench.trial_state import RunFacts, TrialState
from edgebench.core import Engine, Launch
from edgebench.device.session import Session
from edgebench.errors import DeviceLost
from edgebench.plan import Plan


class EngineSlot:
    """Holds at most one running engine on an open device."""

    def __init__(
        self, session: Session, engine: Engine, plan: Plan, workers: RpcWorkers | None, facts: RunFacts
    ) -> None:
        self._session = session
        self._engine = engine
        self._plan = plan
        self._workers = workers
        self._facts = facts
        self._users: dict[int, TrialState] = {}
        self.process: EngineProcess | None = None

    def fits(self, launch: Launch) -> bool:
        """Whether the running engine was started with an equal launch."""
        return self.process is not None and self.process.launch == launch

    def use(self, index: int, state: TrialState) -> EngineProcess:
        """The running engine, for one more trial."""
        assert self.process is not None
        self._users[index] = state
        return self.process

    def start(self, index: int, state: TrialState, number: int) -> Iterator[Event]:
        """Start the engine for a trial. Raises ``EngineFailed``, ``DeviceLost``, ``PartFailed``."""
        process = EngineProcess(
            self._session,
            self._engine,
            state.launch,
            regime=self._plan.load,
            timeout=self._plan.load_timeout,
            kernels=self._kernels(state.launch),
            rpc_workers=self._workers,
        )
        self._users = {index: state}
        try:
            for text in process.opening():
                yield Activity(index, text, number)
        except Exception:
            # What it printed before it failed, compilers and drivers included, is what one needs then.
            if process.log:
                yield EngineLog((index,), process.transcript())
            raise
        self.process = process

    def stop(self) -> Iterator[Event]:
        """End the engine, if one runs."""
        if self.process is None:
            return
        process, self.process = self.process, None
        process.__exit__(None, None, None)
        if dropped := process.running.log_lines_dropped:
            for state in self._users.values():
                state.notes.append(f"the middle of the engine's log lacks {dropped:,} lines")
        yield EngineLog(tuple(sorted(self._users)), process.transcript())

    def release(self) -> Iterator[Event]:
        """As ``stop``, on a device that may be lost."""
        with contextlib.suppress(DeviceLost):
            yield from self.stop()
        self.process = None

    def abort(self) -> None:
        """From another thread: let what is under way fail soon."""
        if process := self.process:
            process.running.stop(grace_s=3)

    def close(self) -> None:
        """End the engine, if one runs, and forget its log."""
        if self.process:
            self.process.__exit__(None, None, None)

    def _kernels(self, launch: Launch) -> str:
        """What a GPU's driver compiles at the first start: a name fit for a folder."""
        if launch.backend == "cpu":
            return ""
        engine = self._facts.engine
        return re.sub(r"[^\w.-]", "_", f"{engine.name}-{engine.build or 'unknown'}-{launch.backend}")
