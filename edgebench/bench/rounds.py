"""Runs one round of one trial on a running engine: requests, samples and metrics."""

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
from edgebench.device.engines import check_facts
from edgebench.device.pagecache import mapped_bytes
from edgebench.device.session import Session
from edgebench.errors import EngineFailed, PartFailed, Unreadable
from edgebench.judging import doubts, metrics

CLOCK_S = 0.1
"""Largest uncertainty of the clock offset without a doubt, seconds."""

MAX_REQUESTS = 5000
"""Limit per round: a scenario whose end depends on the replies might never end."""


class RoundRunner:
    """Runs rounds of an engine on an open device."""

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

    def round(
        self, state: TrialState, process: EngineProcess, number: int, *, fresh: bool, shared: bool = False
    ) -> Round:
        """Run one round. ``fresh``: the engine was started for it; ``shared``: one process serves many short
        trials, and their peak memory is the process's peak so far.

        Raises ``EngineFailed`` if the engine crashes or rejects a request, ``DeviceLost`` if the connection breaks.
        """
        started, begin = now(), time.monotonic()
        turns: list[Turn] = []
        if fresh:
            begin = process.running.started_at or begin
            turns.append(Turn.from_reply(self._engine.warm_up, self.complete(process, self._engine.warm_up)))
        elif not shared:
            process.sampler.reset_peak()
        if fresh or state.engine == EngineFacts():
            self._read_engine_facts(state, process)
        try:
            scenario_values = self._drive(state, process, turns)
            process.raise_fault()
        except (EngineFailed, PartFailed):
            state.notes.append(partial_round_note(number, turns))
            raise
        end = time.monotonic()
        # Wait for one more sample of fast sources, to include the last peak and the last joule: unless
        # the next trial starts on the same process, and there is no power meter.
        sample_after = begin if shared and not process.sampler.metered else end
        if not process.sampler.wait(lambda s: s.reaches(sample_after), timeout=5):
            state.doubts.append(doubts.new_doubt("lost-samples", "no sample arrived after the end of a round"))
        data = self._data(state, process, turns, begin, end, fresh=fresh, scenario_values=scenario_values)
        figures = self._metrics(state, data)
        notes = self._observe(state, process, data)
        if fresh:
            if process.load.clock == "poll" and not self._session.is_local:
                state.doubts.append(doubts.new_doubt("load-clock"))
            load = process.load
            notes = replace(notes, load_regime=load.regime, load_clock=load.clock, resident=load.resident)
        samples = process.sampler.within(begin, end + 1)
        return Round(number, started, figures, tuple(turns), samples, fresh, notes)

    def _drive(self, state: TrialState, process: EngineProcess, turns: list[Turn]) -> Mapping[str, float]:
        """Run the scenario: send its requests, pass it the replies, and append them to ``turns``. Returns the
        values that the scenario returned. Raises ``EngineFailed``."""
        planned, client = state.planned, process.client
        context = ScenarioContext(
            model=planned.model,
            ctx=int(planned.trial.options["ctx"]),
            options=planned.trial.options,
            seed=self._seed,
            count_tokens=lambda text: self._engine.count_tokens(client, text),
            capabilities=plugins.load("engines", planned.trial.engine).capabilities,
        )
        name = planned.trial.scenario
        scenario = plugins.guard("scenarios", name, plugins.create("scenarios", name))
        steps: Generator[Step, Reply | tuple[Reply, ...] | None, Mapping[str, float] | None]
        steps = scenario.turns(context)
        replies: Reply | tuple[Reply, ...] | None = None
        try:
            while True:
                step = steps.send(replies)
                if isinstance(step, Query):
                    replies = self.answer(process, step)
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
                answers = schedules.send_all(
                    schedule, lambda request: self.complete(process, request), lambda: process.running.is_ended
                )
                turns += map(Turn.from_reply, (request for _, request in schedule), answers)
                replies = answers[0] if isinstance(step, Request) else answers
        except StopIteration as end:
            return _check_scenario_values(name, end.value)

    def complete(self, process: EngineProcess, request: Request) -> Reply:
        """Send a request; its reply. Raises ``EngineFailed``, with the reason of a crash."""
        with self._report_exit(process):
            return self._check_reply("complete", self._engine.complete(process.client, request))

    def answer(self, process: EngineProcess, query: Query) -> Reply:
        """The reply to a query. Raises ``EngineFailed``, also if the engine does not support queries."""
        if not isinstance(self._engine, AnswersQueries):
            raise EngineFailed(f"the engine does not support {type(query).__name__}")
        with self._report_exit(process):
            return self._check_reply("answer", self._engine.answer(process.client, query))

    def _check_reply(self, method: str, reply: object) -> Reply:
        """The reply. Raises ``PartFailed`` for another type."""
        if not isinstance(reply, Reply):
            raise plugins.misuse("engines", self._name, f"{method} returned {type(reply).__name__}, not Reply")
        return reply

    @contextlib.contextmanager
    def _report_exit(self, process: EngineProcess) -> Iterator[None]:
        try:
            yield
        except (EngineFailed, Unreadable) as error:
            raise process.died() or EngineFailed(str(error), error.hint, log=process.tail) from error

    def _data(
        self,
        state: TrialState,
        process: EngineProcess,
        turns: Sequence[Turn],
        begin: float,
        end: float,
        *,
        fresh: bool,
        scenario_values: Mapping[str, float],
    ) -> RoundData:
        """The data from which the metrics of a round are computed."""
        load, idle, ceiling = process.load, self._conditions.idle, self._ceiling(state)
        return RoundData(
            turns=turns,
            begin=begin,
            end=end,
            samples=process.sampler,
            start=EngineStart(load.seconds, process.running.started_at, load.compile_s) if fresh else None,
            idle_w=idle.watts if idle else None,
            model=state.planned.model.facts,
            engine=self._info(process),
            bytes_per_s=None if isinstance(ceiling, str) else ceiling,
            scenario_values=scenario_values,
        )

    @staticmethod
    def _metrics(state: TrialState, data: RoundData) -> dict[str, float]:
        """Every metric of a round. Raises ``EngineFailed`` for an undeclared one that a scenario returned."""
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

    def _observe(self, state: TrialState, process: EngineProcess, data: RoundData) -> RoundNotes:
        """Notes from a round's samples; adds doubts to ``state``."""
        sampler = process.sampler
        if sampler.clock and sampler.clock.uncertainty > CLOCK_S:
            state.doubts.append(doubts.new_doubt("clock-offset", f"± {sampler.clock.uncertainty:.2g} s"))
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
            state.doubts.append(
                doubts.new_doubt(doubt, f"{slope.value:+.1%} ± {slope.half_width:.1%} in 30 s at the end")
            )
        return notes

    def _ceiling(self, state: TrialState) -> float | str:
        """Memory read bandwidth of the processor or GPU in use, bytes/s, or why it is unknown."""
        if state.launch.rpc:
            return "part of the model is on other devices"
        requested, used = state.planned.trial.backend, state.engine.backend
        if used != requested:
            return (
                f"requested {requested}, used {used}" if used else f"requested {requested}; the backend used is unknown"
            )
        if requested == "cpu":
            result = self._conditions.bandwidth
        elif state.engine.layers_offloaded == state.engine.layers:
            result = self._conditions.gpu_bandwidth or "not measured"
        else:
            return "some layers are on the GPU and some are not"
        return result if isinstance(result, str) else result.bytes_per_s

    def _info(self, process: EngineProcess) -> EngineFacts:
        """What the engine's log reports. Raises ``PartFailed`` for another return type."""
        return check_facts(self._name, "info", process.notes())

    @staticmethod
    def _options_used(state: TrialState, process: EngineProcess) -> dict[str, Option]:
        engine = state.planned.trial.engine
        with plugins.boundary("engines", engine):
            return engine_options.read_back(engine, process.log)

    def _read_engine_facts(self, state: TrialState, process: EngineProcess) -> None:
        """Add the facts from the engine's log to the trial."""
        notes = self._info(process)
        if process.rpc_workers:
            state.rpc = process.rpc_workers.facts()
            state.notes.append("memory, load, heat and energy are measured on the head device only")
        notes = replace(notes, options_used=self._options_used(state, process))
        if notes.backend not in (None, "cpu") and process.running.pid:
            mapped = mapped_bytes(self._session, process.running.pid, state.launch.model)
            notes = replace(notes, weights_mapped_b=mapped)
        if state.launch.affinity and process.running.pid:
            notes = replace(notes, affinity=tuple(sorted(cores.query_affinity(self._session, process.running.pid))))
            if notes.affinity != (state.launch.affinity,):
                actual = " and ".join(notes.affinity) or "unknown CPUs"
                state.doubts.append(
                    doubts.new_doubt("affinity", f"pinned to {state.launch.affinity}, runs on {actual}")
                )
        state.engine = merged(state.engine, notes)
        missing = missing_instruction_sets(self._facts.device, self._facts.engine)
        if missing and state.planned.trial.backend == "cpu":
            state.doubts.append(doubts.new_doubt("instruction-sets", f"the CPU also has {', '.join(missing)}"))


def _check_scenario_values(scenario: str, returned: object) -> Mapping[str, float]:
    """The values that a scenario returned. Raises ``PartFailed`` for anything but numbers by name."""
    if returned is None:
        return {}
    if not isinstance(returned, Mapping) or not all(isinstance(value, int | float) for value in returned.values()):
        raise plugins.misuse("scenarios", scenario, f"turns returned {returned!r:.80}, not numbers by name")
    return returned


def partial_round_note(number: int, turns: Sequence[Turn]) -> str:
    """Note on an incomplete round: the rates measured before the engine failed."""
    responses = [turn for turn in turns if turn.measures]
    rates = ", ".join(
        f"{name} {value:.4g}" for name, value in measure.rates(responses).items() if name.endswith("_tps")
    )
    return f"round {number + 1} failed after {len(responses)} responses" + (f": {rates} until then" if rates else "")


def missing_instruction_sets(device: DeviceFacts, engine: EngineFacts) -> list[str]:
    """Instruction sets of the CPU that the engine was built without; empty if either is unknown."""
    if not engine.instruction_sets:
        return []
    return [name for name in device.instruction_sets if name not in engine.instruction_sets]
