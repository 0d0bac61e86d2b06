"""Executes a plan on one device: a generator of events, with one record per trial at the end."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

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
from edgebench.device.engines import create_engine
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

FollowUpQueries = Callable[[Sequence[tuple[Trial, Sequence[Round]]]], FollowUp]

RESTART_SHARE = 0.1
"""The engine of a single configuration is restarted for each round (for one more load time and memory
placement) if loading takes at most this share of the round."""


class Bench:
    """One device's plan on its open session. ``events`` may be called once.

    ``engine``: overrides the plan's engine. Unexpected errors of an engine, a scenario or edgebench itself
    end a trial, never the plan.
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
        """``run``: the records' run metadata."""
        self._run = dict(run or {})
        self._plan = plan
        self._workers = workers
        self._session = session
        self._custom_engine = engine
        self._engine: Engine
        self._states: list[TrialState] = []
        self._notes: list[str] = []
        self._facts = RunFacts()
        self._slot: EngineSlot | None = None
        self._runner: RoundRunner
        self._round_s = 0.0
        self._conditions = Conditions(session, plan.settle)

    def events(self) -> Generator[Event, None, None]:
        """Every started trial ends in exactly one ``TrialFinished``, whatever happens to engine or device.

        Raises ``EngineMissing``, ``DeviceRefused``, ``DeviceLost`` before the first trial begins.
        """
        try:
            yield from self._set_up()
            yield from self._measure()
        except DeviceLost as error:
            if not self._states:
                raise
            yield from self._mark_lost(error)
        except Exception as error:
            is_expected = isinstance(error, EdgebenchError) and not isinstance(error, UnexpectedError)
            if is_expected and not self._states:
                raise
            yield from self._abandon(_as_edgebench_error(error))
        finally:
            if self._slot:
                self._slot.close()
        for index, state in enumerate(self._states):
            yield TrialFinished(index, state.record(self._facts))

    def _set_up(self) -> Iterator[Event]:
        """Prepare the engine, deploy the models, and start every trial."""
        self._engine = self._custom_engine or create_engine(self._session, self._plan.engine)
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
            if index >= self._plan.rounds and not self._is_imprecise(index):
                break
            yield from self._repeat_round(index)
        if self._plan.follow_up:
            yield from self._follow_up(self._plan.follow_up)
        yield from self._engines.stop()
        for doubt in self._conditions.end():
            for state in self._states:
                if state.rounds:  # without a figure there is nothing to doubt
                    state.doubts.append(doubt)

    def _is_imprecise(self, rounds: int) -> bool:
        """Whether an interval is still wider than requested, and the limit of rounds is not reached."""
        target = self._plan.target_ci
        if target is None or rounds >= self._plan.max_rounds:
            return False
        return any(stats.half_width(state.rounds) > target for state in self._states if not state.failure)

    def abort(self) -> None:
        """Stop the engine, so that ``events`` yields soon; called from another thread."""
        if self._slot:
            self._slot.abort()

    def _note(self, text: str) -> None:
        """Add a note to every trial that has not failed, and to later ones."""
        self._notes.append(text)
        for state in self._states:
            if not state.failure:
                state.notes.append(text)

    @property
    def _engines(self) -> EngineSlot:
        assert self._slot is not None
        return self._slot

    def _prepare(self) -> Iterator[Event]:
        """Deploy all models and measure the idle device, then start every trial."""
        trials = self._plan.trials
        paths: dict[Path, str] = {}
        for model in (model for one in trials for model in (one.model, one.draft) if model):
            if model.path not in paths:
                yield Activity(0, f"putting {model.name} in place")
                paths[model.path] = yield from self._deploy(model)
        yield Activity(0, "looking at the idle device")
        model = max((planned.model for planned in trials), key=lambda model: model.size)
        yield from self._reconnection.repeat(
            lambda: self._check_conditions(paths[model.path], model.size), "before it was measured"
        )
        for index, planned in enumerate(trials):
            draft = paths[planned.draft.path] if planned.draft else None
            launch = planned.launch(paths[planned.model.path], draft)
            state = TrialState(
                ids.new_id(), self._run, planned, launch, notes=[*planned.notes, *self._notes], started=now()
            )
            if self._workers:
                state.rpc = self._workers.facts()
            if planned.clipped:
                state.doubts.append(doubts.new_doubt("context-clipped", planned.notes[0]))
            self._states.append(state)
            yield TrialPlanned(index, planned.trial, state.facts(self._facts), state.id, self._run)
            if planned.fault:
                yield from self._fail(index, planned.fault)

    def _check_conditions(self, path: str, size: int) -> Generator[Event, None, None]:
        conditions = self._conditions.begin(path, size, self._gpu())
        self._facts.device = merged(self._facts.device, DeviceFacts(extra=conditions))
        yield from ()

    def _deploy(self, model: ModelFile) -> Generator[Event, None, str]:
        """Deploy a model; its path on the device. A transfer is resumed after a lost connection."""
        done = [0, 0]
        transfer = self._reconnection.repeat(
            lambda: deploy.model(self._session, model, done), "while models were sent", lambda: done[1]
        )
        return (yield from transfer)

    def _gpu(self) -> Command | str | None:
        """The command that measures the GPU's memory bandwidth, or why there is none; None on the CPU."""
        if self._plan.backend == "cpu":
            return None
        if isinstance(self._engine, BandwidthKernel):
            return self._engine.routine()
        return f"{self._plan.engine} has no routine that measures it"

    def _repeat_round(self, number: int) -> Iterator[Event]:
        """Run a round; it is resumed after a lost connection."""
        yield from self._reconnection.repeat(lambda: self._round(number), f"in round {number + 1}", self._measured)

    def _measured(self) -> int:
        return sum(len(state.rounds) for state in self._states)

    def _round(self, number: int) -> Generator[Event, None, None]:
        start = time.monotonic()
        order = [index for index in self._plan.order(number) if not self._states[index].failure]
        is_single = not self._plan.start_once and len({repr(self._states[index].launch) for index in order}) == 1
        process = self._engines.process
        if process and is_single and process.load.seconds <= RESTART_SHARE * self._round_s:
            yield from self._engines.stop()
        for index in order:
            state = self._states[index]
            if not state.failure and not any(done.index == number for done in state.rounds):
                yield from self._trial(index, number)
        self._round_s = time.monotonic() - start

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
            process = self._engines.use(index, state)
            done = self._runner.round(state, process, number, fresh=fresh, shared=self._plan.start_once)
        except DeviceLost:
            raise
        except EdgebenchError as error:
            yield from self._handle_failure(index, number, error)
            return
        except Exception as defect:  # noqa: BLE001 - the other trials go on
            yield from self._handle_failure(index, number, _as_edgebench_error(defect))
            return
        if gate.doubt:
            state.doubts.append(gate.doubt)
        done = replace(done, notes=replace(done.notes, gate=gate.notes()))
        state.rounds.append(done)
        yield RoundFinished(index, done)

    def _follow_up(self, follow_up: FollowUpQueries) -> Iterator[Event]:
        """Run the queries that depend on the replies of all rounds, outside of timed rounds."""
        queries = follow_up([(state.planned.trial, state.rounds) for state in self._states])
        last = self._plan.rounds - 1
        try:
            index, query = next(queries)
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
                    index, query = queries.throw(error)
                else:
                    index, query = queries.send(reply)
        except StopIteration as end:
            for index, remarks in end.value.items():
                self._states[index].notes += [remark for remark in remarks if isinstance(remark, str)]
                self._states[index].doubts += [remark for remark in remarks if isinstance(remark, Doubt)]

    # --- ends --------------------------------------------------------------------------------

    def _handle_failure(self, index: int, number: int, error: EdgebenchError) -> Iterator[Event]:
        """Retry with the engine's fallback launch if it has one, else fail the trial."""
        state = self._states[index]
        yield from self._engines.stop()
        try:
            retry = self._fallback(state.launch, error)
        except PartFailed as fault:
            state.notes.append(f"before that: {error}")
            retry, error = None, fault
        if retry is not None:
            launch, reason = retry
            for user in [user for user in self._states if user.launch == state.launch]:
                user.launch = launch
                if not user.failure:
                    user.notes.append(reason)
                    user.doubts.append(doubts.new_doubt("engine-fallback", reason))
            yield Activity(index, reason, number)
            yield from self._trial(index, number)
            return
        yield from self._fail(index, error, number)
        assert state.failure is not None
        if memory_fit.ran_out_of_memory(state.failure.log, state.failure.signal):
            yield from self._skip_larger(state, number)

    def _fallback(self, launch: Launch, error: EdgebenchError) -> tuple[Launch, str] | None:
        if isinstance(error, UnexpectedError):
            return None  # not a failure of the engine
        status, log = (error.status, error.log) if isinstance(error, EngineFailed) else (None, ())
        return self._engine.fallback(launch, status or 0, log)

    def _fail(self, index: int, error: EdgebenchError, number: int | None = None) -> Iterator[Event]:
        """Fail a trial; the traceback of an unexpected error goes to its log."""
        state = self._states[index]
        if isinstance(error, UnexpectedError):
            yield EngineLog((index,), error.trace)
        yield Activity(index, f"failed: {state.fail(error)}", number, failed=True)

    def _abandon(self, error: EdgebenchError) -> Iterator[Event]:
        """Fail all incomplete trials, including those that have not started."""
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
        """Skip trials that need at least as much memory as one that ran out of it."""
        if len(self._states) > 1:
            failed.notes.append("memory ran out here: the frontier of this sweep")
        failed_trial = failed.planned.trial
        for index, state in enumerate(self._states):
            trial = state.planned.trial
            is_comparable = (trial.model, trial.engine, trial.backend) == (
                failed_trial.model,
                failed_trial.engine,
                failed_trial.backend,
            )
            is_untried = not state.failure and not state.rounds
            if (
                is_comparable
                and is_untried
                and memory_fit.needs_as_much(self._plan.engine, failed_trial.options, trial.options)
            ):
                reason = f"it needs at least the memory of ctx {failed_trial.options.get('ctx')}, which ran out"
                state.status, state.failure = "skipped", Failure(reason)
                yield Activity(index, f"skipped: {reason}", number, failed=True)

    def _mark_lost(self, error: DeviceLost) -> Iterator[Event]:
        for index, state in enumerate(self._states):
            if not state.failure and len(state.rounds) < self._plan.rounds:
                state.status, state.failure = "lost", Failure(str(error), error.hint)
                yield Activity(index, f"device lost: {error}", failed=True)


def _as_edgebench_error(error: Exception) -> EdgebenchError:
    """The exception as ``EdgebenchError``; an unexpected one becomes ``InternalError``."""
    if isinstance(error, EdgebenchError):
        return error
    return InternalError("edgebench, or the device's transport or system, raised", error)
