"""A plan carried out on one device: a generator of what happens, ending in one record a trial."""

from __future__ import annotations

import contextlib
import itertools
import re
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from statistics import fmean
from typing import Any

from edgebench import cores, doubts, fits, measure, observe, plugins, provision, stats
from edgebench.conditions import Conditions, Gate
from edgebench.core import Doubt, Engine, Failure, Json, Launch, Record, Request, Round, Setting, Status, Trial
from edgebench.errors import DeviceLost, DeviceRefused, EdgebenchError, EngineFailed, Unreadable
from edgebench.launcher import Live, signal_name
from edgebench.plan import Plan, Planned
from edgebench.session import Session

BACK_OFF = (1.0, 3.0, 8.0, 15.0)
"""Seconds before each try to reach a lost device again."""

RESTART_SHARE = 0.1
"""A single configuration's engine is started afresh for each round (one more load time, one more
placement in memory) as long as loading costs no more than this share of the round."""

CLOCK_S = 0.1
"""An offset between the clocks known less well than this, seconds, is a doubt."""

WARMUP = Request(tokens=(1,) * 16, max_tokens=8, ignore_eos=True, measures=(), label="warm-up")


# --- what happens, for whoever watches -------------------------------------------------------


@dataclass(frozen=True)
class Began:
    """A trial is known; it has not run yet."""

    index: int
    trial: Trial
    facts: Mapping[str, Json]


@dataclass(frozen=True)
class Doing:
    """What the device is busy with now."""

    index: int
    text: str
    round: int | None = None
    failed: bool = False


@dataclass(frozen=True)
class Measured:
    """A round of a trial is over."""

    index: int
    round: Round


@dataclass(frozen=True)
class Logged:
    """An engine has ended; its whole log."""

    indexes: tuple[int, ...]
    text: str


@dataclass(frozen=True)
class Ended:
    """A trial is over."""

    index: int
    record: Record


Event = Began | Doing | Measured | Logged | Ended


# --- carrying it out -------------------------------------------------------------------------


@dataclass
class _State:
    """A trial under way."""

    planned: Planned
    launch: Launch
    rounds: list[Round] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    doubts: list[Doubt] = field(default_factory=list)
    status: Status = "ok"
    failure: Failure | None = None
    engine: dict[str, Json] = field(default_factory=dict)
    started: str = ""


class Bench:
    """One device's plan on its open session. ``events`` may be taken once."""

    def __init__(self, plan: Plan, session: Session, engine: Engine) -> None:
        self._plan = plan
        self._session = session
        self._engine = engine
        self._states: list[_State] = []
        self._live: Live | None = None
        self._users: set[int] = set()
        self._facts: dict[str, Json] = {}
        self._round_s = 0.0
        self._conditions = Conditions(session, plan.settle)

    def events(self) -> Generator[Event, None, None]:
        """Every trial that began ends in exactly one ``Ended``, whatever happens to engine or device.

        Raises ``EngineMissing``, ``DeviceRefused``, ``DeviceLost`` before the first trial begins.
        """
        self._facts = {"device": self._session.facts(), "engine": dict(self._engine.prepare())}
        yield from self._prepare()
        try:
            for index in itertools.count():
                if index >= self._plan.rounds and not self._unsure(index):
                    break
                yield from self._whole_round(index)
            yield from self._stop()
            for doubt in self._conditions.end():
                for state in self._states:
                    state.doubts.append(doubt)
        except DeviceLost as error:
            yield from self._lost(error)
        finally:
            if self._live:
                self._live.__exit__(None, None, None)
        for index, state in enumerate(self._states):
            yield Ended(index, self._record(state))

    def _unsure(self, rounds: int) -> bool:
        """Whether an interval is still wider than asked for, and the limit of rounds isn't reached."""
        target = self._plan.target_ci
        if target is None or rounds >= self._plan.max_rounds:
            return False
        return any(stats.half_width(state.rounds) > target for state in self._states if not state.failure)

    def abort(self) -> None:
        """From another thread: let what is under way fail, so that ``events`` yields soon."""
        if live := self._live:
            live.running.stop(patience=3)

    def _prepare(self) -> Iterator[Event]:
        for index, planned in enumerate(self._plan.trials):
            yield Doing(index, f"putting {planned.model.name} in place")
            path = provision.place_model(self._session, planned.model)
            draft = provision.place_model(self._session, planned.draft) if planned.draft else None
            if index == 0:
                yield Doing(index, "looking at the idle device")
                self._facts["device"] |= self._conditions.begin(path, planned.model.size)
            state = _State(planned, planned.launch(path, draft), notes=list(planned.notes), started=now())
            if planned.clipped:
                state.doubts.append(doubts.named("context-clipped", planned.notes[0]))
            self._states.append(state)
            yield Began(index, planned.trial, self._facts_of(state))

    def _whole_round(self, number: int) -> Iterator[Event]:
        """A round, gone on with where it was if the device was lost and comes back."""
        while True:
            try:
                yield from self._round(number)
            except DeviceLost as error:
                yield from self._come_back(number, error)
            else:
                return

    def _come_back(self, number: int, error: DeviceLost) -> Iterator[Event]:
        """Raises ``DeviceLost`` where the device stays away."""
        with contextlib.suppress(DeviceLost):
            yield from self._stop()
        self._live = None
        for wait in BACK_OFF:
            yield Doing(0, f"device lost: {error}; trying again in {wait:g} s", number)
            time.sleep(wait)
            try:
                self._session.reopen()
            except DeviceLost as still:
                error = still
            except DeviceRefused as refused:
                raise DeviceLost(str(refused), refused.hint) from refused
            else:
                for state in self._states:
                    if not state.failure:
                        state.notes.append(f"the device was lost in round {number + 1} and came back")
                return
        raise error

    def _round(self, number: int) -> Iterator[Event]:
        began = time.monotonic()
        order = [index for index in self._plan.order(number) if not self._states[index].failure]
        single = not self._plan.start_once and len({repr(self._states[index].launch) for index in order}) == 1
        if self._live and single and self._live.load.seconds <= RESTART_SHARE * self._round_s:
            yield from self._stop()
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
            fresh = self._live is None or self._live.launch != state.launch
            if fresh:
                yield from self._stop()
            gate = Gate(0.0)
            if self._plan.settle and (fresh or not self._plan.start_once):
                yield Doing(index, "waiting for a cool and quiet device", number)
                gate = self._conditions.ready(self._need(state) if fresh else 0)
            if fresh:
                yield Doing(index, "starting the engine", number)
                yield from self._start(index, number)
            yield Doing(index, "measuring", number)
            done = self._measure(index, number, fresh)
        except DeviceLost:
            raise
        except EdgebenchError as error:
            yield from self._failed(index, number, error)
            return
        if gate.doubt:
            state.doubts.append(gate.doubt)
        done = replace(done, notes={**done.notes, "gate": gate.notes()})
        state.rounds.append(done)
        yield Measured(index, done)

    @staticmethod
    def _need(state: _State) -> float:
        """Bytes of memory that must be free for a start."""
        need = fits.estimate(state.planned.model.facts, state.planned.trial.options)
        return need.total_b if need is not None else float(state.planned.model.size)

    def _start(self, index: int, number: int) -> Iterator[Event]:
        state = self._states[index]
        plan = self._plan
        live = Live(
            self._session,
            self._engine,
            state.launch,
            regime=plan.load,
            timeout=plan.load_timeout,
            kernels=self._kernels(state.launch),
        )
        self._users = {index}
        for text in live.opening():
            yield Doing(index, text, number)
        self._live = live

    def _kernels(self, launch: Launch) -> str:
        """What a GPU's driver compiles at the first start: a name fit for a folder."""
        if launch.backend == "cpu":
            return ""
        engine = self._facts["engine"]
        return re.sub(r"[^\w.-]", "_", f"{engine['name']}-{engine.get('build', 'unknown')}-{launch.backend}")

    def _measure(self, index: int, number: int, fresh: bool) -> Round:
        state, live = self._states[index], self._live
        assert live is not None
        self._users.add(index)
        started, begin = now(), time.monotonic()
        turns: list[dict[str, Json]] = []
        if fresh:
            begin = live.running.started_at or begin
            turns.append(measure.turn(WARMUP, self._ask(WARMUP)))
        else:
            live.sampler.reset_peak()
        if fresh or not state.engine:
            self._learn(state, live)
        try:
            own = self._drive(state, turns)
        except EngineFailed:
            state.notes.append(broken_off(number, turns))
            raise
        end = time.monotonic()
        # One more reading of what changes fast after the end, so that the last peak is in it.
        if not live.sampler.wait(lambda s: s.reaches(end), timeout=5):
            state.doubts.append(doubts.named("lost-samples", "no reading came after the end of a round"))
        metrics = {**measure.rates(turns), **own}
        notes = self._observe(state, metrics, turns, begin, end, fresh)
        if fresh:
            metrics["load_s"] = live.load.seconds
            if live.load.compile_s is not None:
                metrics["compile_s"] = live.load.compile_s
            if live.load.clock == "poll" and not self._session.here:
                state.doubts.append(doubts.named("load-clock"))
            notes.update(load_regime=live.load.regime, load_clock=live.load.clock, resident=live.load.resident)
        within = live.sampler.within(begin, end + 1)
        return Round(number, started, metrics, tuple(turns), within, fresh, notes)

    def _drive(self, state: _State, turns: list[dict[str, Json]]) -> Mapping[str, float]:
        """Run the scenario through: its requests are sent, it is sent the replies, which are added to
        ``turns``. The metrics of its own."""
        planned, live = state.planned, self._live
        assert live is not None
        client = live.client
        setting = Setting(
            model=planned.model,
            ctx=int(planned.trial.options["ctx"]),
            options=planned.trial.options,
            seed=self._plan.seed,
            count_tokens=lambda text: self._engine.count_tokens(client, text),
            engine=planned.trial.engine,
        )
        scenario = plugins.load("scenarios", planned.trial.scenario)()
        asking: Generator[Request, Any, Mapping[str, float] | None] = scenario.turns(setting)
        try:
            request = next(asking)
            while True:
                reply = self._ask(request)
                turns.append(measure.turn(request, reply))
                request = asking.send(reply)
        except StopIteration as end:
            return end.value or {}

    def _ask(self, request: Request) -> Any:
        assert self._live is not None
        try:
            return self._engine.complete(self._live.client, request)
        except (EngineFailed, Unreadable) as error:
            raise self._live.died() or EngineFailed(str(error), error.hint, log=self._live.tail) from error

    def _observe(
        self,
        state: _State,
        metrics: dict[str, float],
        turns: Sequence[dict[str, Json]],
        begin: float,
        end: float,
        fresh: bool,
    ) -> dict[str, Json]:
        """Add what the sampler saw to a round's metrics; the notes about it."""
        live, conditions = self._live, self._conditions
        assert live is not None
        sampler = live.sampler
        metrics.update(observe.metrics(sampler, begin, end, turns))
        if sampler.clock and sampler.clock.uncertainty > CLOCK_S:
            state.doubts.append(doubts.named("clock-offset", f"± {sampler.clock.uncertainty:.2g} s"))
        started = live.running.started_at
        load = (started, started + live.load.seconds) if fresh and started is not None else None
        joules, metered = observe.joules(sampler, begin, end, turns, load=load, idle=conditions.idle)
        metrics.update(joules)
        notes = {**observe.notes(sampler, begin, end), **metered}
        if conditions.bandwidth and state.planned.trial.backend == "cpu":
            uses = observe.bandwidth_use(turns, state.planned.model.facts, conditions.bandwidth.bytes_per_s)
            if uses:
                metrics["mbu"] = fmean(use for _, use in uses)
                notes["mbu_by_depth"] = [[depth, use] for depth, use in uses]
        steady = measure.steadiness(turns)
        if steady is not None and steady.slope is not None:
            metrics["decode_burst_tps"] = steady.burst
            if steady.sustained is not None:
                metrics["decode_sustained_tps"] = steady.sustained
            else:
                state.doubts.append(doubts.named("never-settled", f"{steady.slope:+.1%} in 30 s at the end"))
        base = live.notes().extra.get("base_rss_b")
        if base is not None:
            metrics["base_rss_b"] = float(base)
        return notes

    def _learn(self, state: _State, live: Live) -> None:
        """What the engine said of itself while it loaded, into the trial's facts."""
        notes = live.notes()
        told = {
            "backend": notes.backend,
            "layers_offloaded": notes.layers_offloaded,
            "layers": notes.layers,
            "buffers": dict(notes.buffers) or None,
            **{name: value for name, value in notes.extra.items() if name != "base_rss_b"},
        }
        state.engine.update({name: value for name, value in told.items() if value is not None})
        if state.launch.affinity and live.running.pid:
            state.engine["affinity"] = sorted(cores.allowed(self._session, live.running.pid))
            if state.engine["affinity"] != [state.launch.affinity]:
                ran = " and ".join(state.engine["affinity"]) or "nobody knows where"
                state.doubts.append(doubts.named("affinity", f"asked for {state.launch.affinity}, runs on {ran}"))
        more = missing_instruction_sets(self._facts["device"], self._facts["engine"])
        if more and state.planned.trial.backend == "cpu":
            state.doubts.append(doubts.named("instruction-sets", f"the CPU also has {', '.join(more)}"))

    # --- ends --------------------------------------------------------------------------------

    def _failed(self, index: int, number: int, error: EdgebenchError) -> Iterator[Event]:
        """A dead or refusing engine: once another way where the engine knows one, else a failed trial."""
        state = self._states[index]
        yield from self._stop()
        status, log = (error.status, error.log) if isinstance(error, EngineFailed) else (None, ())
        other = self._engine.fallback(state.launch, status or 0, log)
        if other is not None:
            launch, why = other
            for one in self._states:
                if one.launch == state.launch and not one.failure:
                    one.notes.append(why)
                    one.doubts.append(doubts.named("engine-fallback", why))
            self._states = [replace(s, launch=launch) if s.launch == state.launch else s for s in self._states]
            yield Doing(index, why, number)
            yield from self._trial(index, number)
            return
        state.status = "failed"
        whole = len(state.rounds)
        survived = f" (after {whole} whole round{'s' if whole > 1 else ''}, kept)" if whole else ""
        state.failure = Failure(f"{error}{survived}", error.hint, status, signal_name(status), log)
        yield Doing(index, f"failed: {error}{survived}", number, failed=True)
        if fits.exhausted(log, state.failure.signal):
            yield from self._skip_larger(state, number)

    def _skip_larger(self, failed: _State, number: int) -> Iterator[Event]:
        """Memory ran out: what needs at least as much needn't be tried."""
        failed.notes.append("memory ran out here: the frontier of this sweep")
        ours = failed.planned.trial
        for index, state in enumerate(self._states):
            trial = state.planned.trial
            same = (trial.model, trial.engine, trial.backend) == (ours.model, ours.engine, ours.backend)
            if same and not state.failure and not state.rounds and fits.must_fail_too(ours.options, trial.options):
                why = f"skipped: it needs at least the memory of ctx {ours.options.get('ctx')}, which ran out"
                state.status, state.failure = "skipped", Failure(why)
                yield Doing(index, why, number, failed=True)

    def _stop(self) -> Iterator[Event]:
        if self._live is None:
            return
        live, self._live = self._live, None
        live.__exit__(None, None, None)
        yield Logged(tuple(sorted(self._users)), "\n".join(live.log))

    def _lost(self, error: DeviceLost) -> Iterator[Event]:
        for index, state in enumerate(self._states):
            if not state.failure and len(state.rounds) < self._plan.rounds:
                state.status, state.failure = "lost", Failure(str(error), error.hint)
                yield Doing(index, f"device lost: {error}", failed=True)

    def _facts_of(self, state: _State) -> dict[str, Json]:
        model = state.planned.model
        about = {
            "name": model.name,
            "sha256": model.sha256,
            "size_b": model.size,
            "format": model.format,
            "quantization": model.quantization,
            "architecture": model.architecture,
            **model.facts,
        }
        need = fits.estimate(model.facts, state.planned.trial.options)
        if need is not None:
            about["estimate"] = need.facts()
        return {**self._facts, "engine": {**self._facts["engine"], **state.engine}, "model": about}

    def _record(self, state: _State) -> Record:
        record = Record(
            id="",
            run={},
            status=state.status,
            trial=state.planned.trial,
            facts=self._facts_of(state),
            metrics=stats.over_rounds(state.rounds),
            doubts=tuple(dict.fromkeys(state.doubts)),
            rounds=tuple(state.rounds),
            failure=state.failure,
            notes=tuple(dict.fromkeys(state.notes)),
            started=state.started,
            finished=now(),
        )
        return replace(record, doubts=doubts.judge(record))


def broken_off(number: int, turns: Sequence[dict[str, Json]]) -> str:
    """What was measured of a round that an engine didn't survive: it is no round, but it was seen."""
    counted = [turn for turn in turns if turn["measures"]]
    rates = ", ".join(f"{name} {value:.4g}" for name, value in measure.rates(counted).items() if name.endswith("_tps"))
    return f"round {number + 1} broke off after {len(counted)} answers" + (f": {rates} until then" if rates else "")


def missing_instruction_sets(device: Mapping[str, Json], engine: Mapping[str, Json]) -> list[str]:
    """Instruction sets that the CPU has and the engine was built without; none where either is unknown."""
    if not engine.get("instruction_sets"):
        return []
    return [name for name in device.get("instruction_sets", ()) if name not in engine["instruction_sets"]]


def now() -> str:
    """The time, ISO 8601, UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
