"""A plan carried out on one device: a generator of what happens, ending in one record a trial."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edgebench import plugins
from edgebench.bench import deploy
from edgebench.bench.conditions import Conditions, Gate
from edgebench.bench.engine_slot import EngineSlot
from edgebench.bench.events import Activity, EngineLog, Event, RoundFinished, TrialFinished, TrialPlanned
from edgebench.bench.reconnection import Reconnection
from edgebench.bench.rounds import RoundRunner
from edgebench.bench.rpc import RpcWorkers
from edgebench.bench.trial_state import RunFacts, TrialState, now
from edgebench.core import (
    BandwidthKernel,
    Command,
    DeviceFacts,
    Doubt,
    Engine,
    Failure,
    FollowUp,
    Launch,
    ModelFile,
    Round,
    Trial,
    merged,
)
from edgebench.device.session import Session
from edgebench.errors import (
    DeviceLost,
    EdgebenchError,
    EngineFailed,
    InternalError,
    PartFailed,
    UnexpectedError,
)
from edgebench.judging import doubts, memory_fit, stats
from edgebench.plan import Plan
from edgebench.store import ids

Questions = Callable[[Sequence[tuple[Trial, Sequence[Round]]]], FollowUp]

RESTART_SHARE = 0.1
"""A single configuration's engine is started afresh for each round (one more load time, one more
placement in memory) as long as loading costs no more than this share of the round."""


class Bench:
    """One device's plan on its open session. ``events`` may be taken once.

    ``engine``: one of the caller's own; the plan's engine where absent. What an engine, a scenario or
    edgebench itself raises by mistake ends a trial, never the plan.
    """

    def __init__(
        self,
        plan: Plan,
        session: Session,
        engine: Engine | None = None,
        workers: RpcWorkers | None = None,
        *,
        run: Mapping[str, object] | None = None,
    ) -> None:
        """``run``: what the records say of the run they belong to."""
        self._run = dict(run or {})
        self._plan = plan
        self._workers = workers
        self._session = session
        self._given = engine
        self._engine: Engine
        self._states: list[TrialState] = []
        self._notes: list[str] = []
        self._facts = RunFacts()
        self._slot: EngineSlot | None = None
        self._runner: RoundRunner
        self._round_s = 0.0
        self._conditions = Conditions(session, plan.settle)

    def events(self) -> Generator[Event, None, None]:
        """Every trial that began ends in exactly one ``TrialFinished``, whatever happens to engine or device.

        Raises ``EngineMissing``, ``DeviceRefused``, ``DeviceLost`` before the first trial begins.
        """
        try:
            yield from self._begin()
            yield from self._measure()
        except DeviceLost as error:
            if not self._states:
                raise
            yield from self._lost(error)
        except Exception as error:
            known = isinstance(error, EdgebenchError) and not isinstance(error, UnexpectedError)
            if known and not self._states:
                raise
            yield from self._broken(_known(error))
        finally:
            if self._slot:
                self._slot.close()
        for index, state in enumerate(self._states):
            yield TrialFinished(index, state.record(self._facts))

    def _begin(self) -> Iterator[Event]:
        """The engine found, the models in place, every trial begun."""
        self._engine = self._given or _engine(self._session, self._plan.engine)
        self._facts.engine = yield from deploy.engine(self._session, self._engine, self._plan)
        self._facts.device = self._session.facts()
        if self._workers:
            self._workers.prepare()
        self._slot = EngineSlot(self._session, self._engine, self._plan, self._workers, self._facts)
        self._reconnection = Reconnection(self._session, self._workers, self._slot.release, self._note)
        self._runner = RoundRunner(
            self._session, self._engine, self._conditions, self._facts, self._plan.seed, self._plan.engine
        )
        yield from self._prepare()

    def _measure(self) -> Iterator[Event]:
        for index in itertools.count():
            if index >= self._plan.rounds and not self._unsure(index):
                break
            yield from self._whole_round(index)
        if self._plan.follow_up:
            yield from self._follow_up(self._plan.follow_up)
        yield from self._engines.stop()
        for doubt in self._conditions.end():
            for state in self._states:
                if state.rounds:  # without a figure there is nothing to doubt
                    state.doubts.append(doubt)

    def _unsure(self, rounds: int) -> bool:
        """Whether an interval is still wider than asked for, and the limit of rounds isn't reached."""
        target = self._plan.target_ci
        if target is None or rounds >= self._plan.max_rounds:
            return False
        return any(stats.half_width(state.rounds) > target for state in self._states if not state.failure)

    def abort(self) -> None:
        """From another thread: let what is under way fail, so that ``events`` yields soon."""
        if self._slot:
            self._slot.abort()

    def _note(self, text: str) -> None:
        """A note on every trial that has not failed, and on those to come."""
        self._notes.append(text)
        for state in self._states:
            if not state.failure:
                state.notes.append(text)

    @property
    def _engines(self) -> EngineSlot:
        assert self._slot is not None
        return self._slot

    def _prepare(self) -> Iterator[Event]:
        """All models in place and the device looked at, then every trial begins: none where that fails."""
        trials = self._plan.trials
        places: dict[Path, str] = {}
        for model in (model for one in trials for model in (one.model, one.draft) if model):
            if model.path not in places:
                yield Activity(0, f"putting {model.name} in place")
                places[model.path] = yield from self._place(model)
        yield Activity(0, "looking at the idle device")
        model = max((planned.model for planned in trials), key=lambda model: model.size)
        yield from self._reconnection.repeat(
            lambda: self._look(places[model.path], model.size), "before it was measured"
        )
        for index, planned in enumerate(trials):
            draft = places[planned.draft.path] if planned.draft else None
            launch = planned.launch(places[planned.model.path], draft)
            state = TrialState(
                ids.new_id(), self._run, planned, launch, notes=[*planned.notes, *self._notes], started=now()
            )
            if self._workers:
                state.rpc = self._workers.facts()
            if planned.clipped:
                state.doubts.append(doubts.named("context-clipped", planned.notes[0]))
            self._states.append(state)
            yield TrialPlanned(index, planned.trial, state.facts(self._facts), state.id, self._run)
            if planned.fault:
                yield from self._fail(index, planned.fault)

    def _look(self, path: str, size: int) -> Generator[Event, None, None]:
        seen = self._conditions.begin(path, size, self._gpu())
        self._facts.device = merged(self._facts.device, DeviceFacts(extra=seen))
        yield from ()

    def _place(self, model: ModelFile) -> Generator[Event, None, str]:
        """A model's path on the device; a transfer goes on where it was if the device comes back."""
        done = [0, 0]
        placing = self._reconnection.repeat(
            lambda: deploy.model(self._session, model, done), "while models were sent", lambda: done[1]
        )
        return (yield from placing)

    def _gpu(self) -> Command | str | None:
        """What tells how fast the GPU reads its memory, if one is to compute; else why nothing does."""
        if self._plan.backend == "cpu":
            return None
        if isinstance(self._engine, BandwidthKernel):
            return self._engine.routine()
        return f"{self._plan.engine} has no routine that measures it"

    def _whole_round(self, number: int) -> Iterator[Event]:
        """A round, gone on with where it was if the device was lost and comes back."""
        yield from self._reconnection.repeat(lambda: self._round(number), f"in round {number + 1}", self._measured)

    def _measured(self) -> int:
        return sum(len(state.rounds) for state in self._states)

    def _round(self, number: int) -> Generator[Event, None, None]:
        began = time.monotonic()
        order = [index for index in self._plan.order(number) if not self._states[index].failure]
        single = not self._plan.start_once and len({repr(self._states[index].launch) for index in order}) == 1
        live = self._engines.process
        if live and single and live.load.seconds <= RESTART_SHARE * self._round_s:
            yield from self._engines.stop()
        for index in order:
            state = self._states[index]
            if not state.failure and not any(done.index == number for done in state.rounds):
                yield from self._trial(index, number)
        self._round_s = time.monotonic() - began

    def _trial(self, index: int, number: int) -> Iterator[Event]:
        """One round of one trial, on an engine that fits it."""
        state = self._states[index]
        fresh = False
        try:
            fresh = not self._engines.fits(state.launch)
            if fresh:
                yield from self._engines.stop()
            gate = Gate(0.0)
            if self._plan.settle and (fresh or not self._plan.start_once):
                yield Activity(index, "waiting for a cool and quiet device", number)
                gate = self._conditions.ready(state.needs_b() if fresh else 0)
            if fresh:
                yield Activity(index, "starting the engine", number)
                yield from self._engines.start(index, state, number)
            yield Activity(index, "measuring", number)
            live = self._engines.use(index, state)
            done = self._runner.round(state, live, number, fresh=fresh, shared=self._plan.start_once)
        except DeviceLost:
            raise
        except EdgebenchError as error:
            yield from self._failed(index, number, error)
            return
        except Exception as defect:  # noqa: BLE001 - the other trials go on
            yield from self._failed(index, number, _known(defect))
            return
        if gate.doubt:
            state.doubts.append(gate.doubt)
        done = replace(done, notes=replace(done.notes, gate=gate.notes()))
        state.rounds.append(done)
        yield RoundFinished(index, done)

    def _follow_up(self, questions: Questions) -> Iterator[Event]:
        """What the answers of all rounds leave open, asked outside of what is timed."""
        asking = questions([(state.planned.trial, state.rounds) for state in self._states])
        last = self._plan.rounds - 1
        try:
            index, query = next(asking)
            while True:
                yield Activity(index, query.label, last)
                try:
                    state = self._states[index]
                    if not self._engines.fits(state.launch):
                        yield from self._engines.stop()
                        yield from self._engines.start(index, state, last)
                    reply = self._runner.answer(self._engines.use(index, state), query)
                except DeviceLost:
                    raise
                except EdgebenchError as error:
                    index, query = asking.throw(error)
                else:
                    index, query = asking.send(reply)
        except StopIteration as end:
            for index, remarks in end.value.items():
                self._states[index].notes += [one for one in remarks if isinstance(one, str)]
                self._states[index].doubts += [one for one in remarks if isinstance(one, Doubt)]

    # --- ends --------------------------------------------------------------------------------

    def _failed(self, index: int, number: int, error: EdgebenchError) -> Iterator[Event]:
        """A dead or refusing engine: once another way where the engine knows one, else a failed trial."""
        state = self._states[index]
        yield from self._engines.stop()
        try:
            other = self._fallback(state.launch, error)
        except PartFailed as fault:
            state.notes.append(f"before that: {error}")
            other, error = None, fault
        if other is not None:
            launch, why = other
            for one in [one for one in self._states if one.launch == state.launch]:
                one.launch = launch
                if not one.failure:
                    one.notes.append(why)
                    one.doubts.append(doubts.named("engine-fallback", why))
            yield Activity(index, why, number)
            yield from self._trial(index, number)
            return
        yield from self._fail(index, error, number)
        assert state.failure is not None
        if memory_fit.ran_out_of_memory(state.failure.log, state.failure.signal):
            yield from self._skip_larger(state, number)

    def _fallback(self, launch: Launch, error: EdgebenchError) -> tuple[Launch, str] | None:
        if isinstance(error, UnexpectedError):
            return None  # the engine is not what went wrong
        status, log = (error.status, error.log) if isinstance(error, EngineFailed) else (None, ())
        return self._engine.fallback(launch, status or 0, log)

    def _fail(self, index: int, error: EdgebenchError, number: int | None = None) -> Iterator[Event]:
        """A trial that ends here, as failed; the traceback of what was unexpected goes into its log."""
        state = self._states[index]
        if isinstance(error, UnexpectedError):
            yield EngineLog((index,), error.trace)
        yield Activity(index, f"failed: {state.fail(error)}", number, failed=True)

    def _broken(self, error: EdgebenchError) -> Iterator[Event]:
        """No trial can go on, nor begin: those that aren't complete have failed."""
        if self._facts.device == DeviceFacts():
            with contextlib.suppress(EdgebenchError):
                self._facts.device = self._session.facts()
        for index, planned in enumerate(self._plan.trials):
            if index == len(self._states):
                notes = [*planned.notes, *self._notes]
                state = TrialState(ids.new_id(), self._run, planned, Launch(model=""), notes=notes, started=now())
                self._states.append(state)
                yield TrialPlanned(index, planned.trial, state.facts(self._facts), state.id, self._run)
            state = self._states[index]
            if not state.failure and len(state.rounds) >= self._plan.rounds:
                state.notes.append(str(error))
                if isinstance(error, UnexpectedError):
                    yield EngineLog((index,), error.trace)
            elif not state.failure:
                yield from self._fail(index, error)

    def _skip_larger(self, failed: TrialState, number: int) -> Iterator[Event]:
        """Memory ran out: what needs at least as much needn't be tried."""
        if len(self._states) > 1:
            failed.notes.append("memory ran out here: the frontier of this sweep")
        ours = failed.planned.trial
        for index, state in enumerate(self._states):
            trial = state.planned.trial
            same = (trial.model, trial.engine, trial.backend) == (ours.model, ours.engine, ours.backend)
            untried = not state.failure and not state.rounds
            if same and untried and memory_fit.needs_as_much(self._plan.engine, ours.options, trial.options):
                why = f"it needs at least the memory of ctx {ours.options.get('ctx')}, which ran out"
                state.status, state.failure = "skipped", Failure(why)
                yield Activity(index, f"skipped: {why}", number, failed=True)

    def _lost(self, error: DeviceLost) -> Iterator[Event]:
        for index, state in enumerate(self._states):
            if not state.failure and len(state.rounds) < self._plan.rounds:
                state.status, state.failure = "lost", Failure(str(error), error.hint)
                yield Activity(index, f"device lost: {error}", failed=True)


def _engine(session: Session, name: str) -> Engine:
    """The engine of a plan. Raises ``PartFailed``."""
    engine = plugins.create("engines", name, session, config=session.device.engines.get(name, {}))
    return plugins.guard("engines", name, engine)


def _known(error: Exception) -> EdgebenchError:
    """An exception as an error of ours: what no contract allows is a defect."""
    if isinstance(error, EdgebenchError):
        return error
    return InternalError("edgebench, or the device's transport or system, raised", error)
