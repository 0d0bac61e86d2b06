"""One round of one trial on a running engine: what is asked, what was seen meanwhile, and what comes of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace

from edgebench import engine_options, plugins
from edgebench.bench import measure, observe, schedules
from edgebench.bench.conditions import Conditions
from edgebench.bench.launcher import EngineProcess
from edgebench.bench.trial_state import RunFacts, TrialState, now
from edgebench.core import (
    AnswersQueries,
    DeviceFacts,
    Engine,
    EngineFacts,
    EngineStart,
    Option,
    Query,
    Reply,
    Request,
    Round,
    RoundData,
    RoundNotes,
    ScenarioContext,
    Step,
    Turn,
    merged,
)
from edgebench.device import cores
from edgebench.device.pagecache import mapped_bytes
from edgebench.device.session import Session
from edgebench.errors import EngineFailed, PartFailed, Unreadable
from edgebench.judging import doubts, metrics

CLOCK_S = 0.1
"""An offset between the clocks known less well than this, seconds, is a doubt."""

MAX_REQUESTS = 5000
"""In one round: a scenario whose end depends on the replies might never end."""


class RoundRunner:
    """What takes rounds: an engine on an open device whose idle state is known."""

    def __init__(
        self,
        session: Session,
        engine: Engine,
        conditions: Conditions,
        facts: RunFacts,
        seed: int,
        engine_name: str,
    ) -> None:
        self._session = session
        self._engine = engine
        self._conditions = conditions
        self._facts = facts
        self._seed = seed
        self._name = engine_name

    def round(self, state: TrialState, live: EngineProcess, number: int, *, fresh: bool, shared: bool = False) -> Round:
        """Carry out one round. ``fresh``: the engine was started for it; ``shared``: one process serves
        many short trials, whose peak of memory is that process's highest so far.

        Raises ``EngineFailed`` where the engine dies or refuses, ``DeviceLost`` where the wire breaks.
        """
        started, begin = now(), time.monotonic()
        turns: list[Turn] = []
        if fresh:
            begin = live.running.started_at or begin
            turns.append(Turn.from_reply(self._engine.warm_up, self.complete(live, self._engine.warm_up)))
        elif not shared:
            live.sampler.reset_peak()
        if fresh or state.engine == EngineFacts():
            self._learn(state, live)
        try:
            own = self._drive(state, live, turns)
            live.raise_fault()
        except (EngineFailed, PartFailed):
            state.notes.append(broken_off(number, turns))
            raise
        end = time.monotonic()
        # One more reading of what changes fast after the end, so that the last peak, or the last
        # joule, is in it: unless the next trial begins on the same process, and nothing is metered.
        since = begin if shared and not live.sampler.metered else end
        if not live.sampler.wait(lambda s: s.reaches(since), timeout=5):
            state.doubts.append(doubts.named("lost-samples", "no sample arrived after the end of a round"))
        data = self._data(state, live, turns, begin, end, fresh=fresh, scenario_values=own)
        figures = self._metrics(state, data)
        notes = self._observe(state, live, data)
        if fresh:
            if live.load.clock == "poll" and not self._session.is_local:
                state.doubts.append(doubts.named("load-clock"))
            load = live.load
            notes = replace(notes, load_regime=load.regime, load_clock=load.clock, resident=load.resident)
        within = live.sampler.within(begin, end + 1)
        return Round(number, started, figures, tuple(turns), within, fresh, notes)

    def _drive(self, state: TrialState, live: EngineProcess, turns: list[Turn]) -> Mapping[str, float]:
        """Run the scenario through: its requests are sent, it is sent the replies, which are added to
        ``turns``. The metrics of its own."""
        planned, client = state.planned, live.client
        setting = ScenarioContext(
            model=planned.model,
            ctx=int(planned.trial.options["ctx"]),
            options=planned.trial.options,
            seed=self._seed,
            count_tokens=lambda text: self._engine.count_tokens(client, text),
            capabilities=plugins.load("engines", planned.trial.engine).capabilities,
        )
        name = planned.trial.scenario
        scenario = plugins.guard("scenarios", name, plugins.create("scenarios", name))
        asking: Generator[Step, Reply | tuple[Reply, ...] | None, Mapping[str, float] | None]
        asking = scenario.turns(setting)
        replies: Reply | tuple[Reply, ...] | None = None
        try:
            while True:
                step = asking.send(replies)
                if isinstance(step, Query):
                    replies = self.answer(live, step)
                    turns.append(Turn.from_query(step, replies))
                    continue
                try:
                    schedule = schedules.of_step(step)
                except (TypeError, ValueError) as error:
                    raise plugins.fault("scenarios", name, error) from error
                if len(turns) + len(schedule) > MAX_REQUESTS:
                    raise EngineFailed(
                        f"the scenario {name} did not end after {MAX_REQUESTS} requests in one round",
                        f"Does the engine count tokens correctly? See: edgebench results show {state.id}",
                    )
                answers = schedules.carry_out(
                    schedule, lambda request: self.complete(live, request), lambda: live.running.is_ended
                )
                turns += map(Turn.from_reply, (request for _, request in schedule), answers)
                replies = answers[0] if isinstance(step, Request) else answers
        except StopIteration as end:
            return _own_metrics(name, end.value)

    def complete(self, live: EngineProcess, request: Request) -> Reply:
        """One request and its reply. Raises ``EngineFailed``, with the reason of a death."""
        with self._naming_a_death(live):
            return self._checked("complete", self._engine.complete(live.client, request))

    def answer(self, live: EngineProcess, query: Query) -> Reply:
        """The reply to a query. Raises ``EngineFailed``, too where the engine has no such capability."""
        if not isinstance(self._engine, AnswersQueries):
            raise EngineFailed(f"the engine does not support {type(query).__name__}")
        with self._naming_a_death(live):
            return self._checked("answer", self._engine.answer(live.client, query))

    def _checked(self, method: str, reply: object) -> Reply:
        """Raises ``PartFailed`` for what is no reply."""
        if not isinstance(reply, Reply):
            raise plugins.misuse("engines", self._name, f"{method} returned {type(reply).__name__}, not Reply")
        return reply

    @contextlib.contextmanager
    def _naming_a_death(self, live: EngineProcess) -> Iterator[None]:
        try:
            yield
        except (EngineFailed, Unreadable) as error:
            raise live.died() or EngineFailed(str(error), error.hint, log=live.tail) from error

    def _data(
        self,
        state: TrialState,
        live: EngineProcess,
        turns: Sequence[Turn],
        begin: float,
        end: float,
        *,
        fresh: bool,
        scenario_values: Mapping[str, float],
    ) -> RoundData:
        """What the metrics of a round are computed from."""
        load, idle, ceiling = live.load, self._conditions.idle, self._ceiling(state)
        return RoundData(
            turns=turns,
            begin=begin,
            end=end,
            samples=live.sampler,
            start=EngineStart(load.seconds, live.running.started_at, load.compile_s) if fresh else None,
            idle_w=idle.watts if idle else None,
            model=state.planned.model.facts,
            engine=live.notes(),
            bytes_per_s=None if isinstance(ceiling, str) else ceiling,
            scenario_values=scenario_values,
        )

    @staticmethod
    def _metrics(state: TrialState, data: RoundData) -> dict[str, float]:
        """Every metric of a round. Raises ``EngineFailed`` for one that a scenario returned and nobody declares."""
        trial = state.planned.trial
        entries = metrics.for_trial(trial.scenario, trial.engine)
        if undeclared := sorted(data.scenario_values.keys() - {entry.name for entry in entries}):
            raise EngineFailed(
                f"the scenario {trial.scenario} returned {', '.join(undeclared)}, which it does not declare",
                "Add a MetricDefinition to its class attribute metrics.",
            )
        figures, faults = metrics.compute(entries, data)
        state.notes += faults
        return figures

    def _observe(self, state: TrialState, live: EngineProcess, data: RoundData) -> RoundNotes:
        """Notes on what the sampler saw of a round; doubts about it go into ``state``."""
        sampler = live.sampler
        if sampler.clock and sampler.clock.uncertainty > CLOCK_S:
            state.doubts.append(doubts.named("clock-offset", f"± {sampler.clock.uncertainty:.2g} s"))
        notes = observe.notes(sampler, data, self._facts.device.clusters)
        ceiling = self._ceiling(state)
        if isinstance(ceiling, str):
            notes = replace(notes, mbu_absent=ceiling)
        else:
            notes = replace(notes, mbu_by_depth=tuple(metrics.bandwidth.utilisation_by_depth(data)))
        steady = metrics.rates.steadiness(data.turns)
        if steady is not None and steady.slope is not None and steady.sustained is None:
            slope = steady.slope
            doubt = "never-settled" if slope.state == "changing" else "steadiness-unknown"
            state.doubts.append(doubts.named(doubt, f"{slope.value:+.1%} ± {slope.half_width:.1%} in 30 s at the end"))
        return notes

    def _ceiling(self, state: TrialState) -> float | str:
        """Bytes per second that what computes can read from its memory, or why that is unknown."""
        if state.launch.rpc:
            return "part of the model is on other devices"
        asked, used = state.planned.trial.backend, state.engine.backend
        if used != asked:
            return f"requested {asked}, used {used}" if used else f"requested {asked}; the backend used is unknown"
        if asked == "cpu":
            found = self._conditions.bandwidth
        elif state.engine.layers_offloaded == state.engine.layers:
            found = self._conditions.gpu_bandwidth or "not measured"
        else:
            return "some layers are on the GPU and some are not"
        return found if isinstance(found, str) else found.bytes_per_s

    @staticmethod
    def _options_used(state: TrialState, live: EngineProcess) -> dict[str, Option]:
        engine = state.planned.trial.engine
        with plugins.boundary("engines", engine):
            return engine_options.read_back(engine, live.log)

    def _learn(self, state: TrialState, live: EngineProcess) -> None:
        """What the engine said of itself while it loaded, into the trial's facts."""
        notes = live.notes()
        if live.helpers:
            state.rpc = live.helpers.facts()
            state.notes.append("memory, load, heat and energy are measured on the head device only")
        notes = replace(notes, options_used=self._options_used(state, live))
        if notes.backend not in (None, "cpu") and live.running.pid:
            mapped = mapped_bytes(self._session, live.running.pid, state.launch.model)
            notes = replace(notes, weights_mapped_b=mapped)
        if state.launch.affinity and live.running.pid:
            notes = replace(notes, affinity=tuple(sorted(cores.query_affinity(self._session, live.running.pid))))
            if notes.affinity != (state.launch.affinity,):
                ran = " and ".join(notes.affinity) or "unknown CPUs"
                state.doubts.append(doubts.named("affinity", f"pinned to {state.launch.affinity}, runs on {ran}"))
        state.engine = merged(state.engine, notes)
        more = missing_instruction_sets(self._facts.device, self._facts.engine)
        if more and state.planned.trial.backend == "cpu":
            state.doubts.append(doubts.named("instruction-sets", f"the CPU also has {', '.join(more)}"))


def _own_metrics(scenario: str, given: object) -> Mapping[str, float]:
    """What a scenario returned at its end. Raises ``PartFailed`` for what isn't numbers by name."""
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(value, int | float) for value in given.values()):
        raise plugins.misuse("scenarios", scenario, f"turns returned {given!r:.80}, not numbers by name")
    return given


def broken_off(number: int, turns: Sequence[Turn]) -> str:
    """What was measured of a round that an engine didn't survive: it is no round, but it was seen."""
    counted = [turn for turn in turns if turn.measures]
    rates = ", ".join(f"{name} {value:.4g}" for name, value in measure.rates(counted).items() if name.endswith("_tps"))
    return f"round {number + 1} failed after {len(counted)} responses" + (f": {rates} until then" if rates else "")


def missing_instruction_sets(device: DeviceFacts, engine: EngineFacts) -> list[str]:
    """Instruction sets that the CPU has and the engine was built without; none where either is unknown."""
    if not engine.instruction_sets:
        return []
    return [name for name in device.instruction_sets if name not in engine.instruction_sets]
