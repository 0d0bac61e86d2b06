"""Executes plans on all devices in parallel: emits events and stores records as they come.

It combines session, lock, RPC workers and engine, so that command line, notebooks and benchmarks are
clients of the same run.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

from edgebench.bench import events
from edgebench.bench.rpc import RpcWorkers
from edgebench.bench.trials import Bench
from edgebench.core import Record
from edgebench.device import lock
from edgebench.device.session import Session
from edgebench.errors import DeviceLost, EdgebenchError, InternalError
from edgebench.judging import metrics
from edgebench.plan import Plan
from edgebench.store.filters import Filter
from edgebench.store.results import Store

STOP_TIMEOUT_S = 20.0
"""Seconds that interrupted devices get to end their engines."""

OnEvent = Callable[[str, events.Event], None]
"""Called in the caller's own thread with the device's name and what happened there."""
Finish = Callable[[Sequence[Record]], Sequence[Record]]
"""Completes one device's records (such as the speed-up over another of them) before they are stored."""
NextPlans = Callable[[Sequence[Record]], Sequence[Plan]]
"""Further plans for the same run, based on the records so far."""

_Queue = queue.SimpleQueue[tuple[int, events.Event]]


@dataclass(frozen=True)
class Execution:
    """A finished run."""

    run: str
    """Its id."""
    records: tuple[Record, ...]
    """By device and trial."""
    errors: tuple[tuple[str, EdgebenchError], ...] = ()
    """Devices whose plan an error ended, by name."""


class RunInterrupted(KeyboardInterrupt):
    """Ctrl-C during a run: its engines are ended, its finished rounds are in the store."""

    def __init__(self, run: str, measured: bool) -> None:
        super().__init__(f"run {run} was interrupted")
        self.run = run
        self.measured = measured
        """Whether any round was finished."""


def execute(
    plans: Sequence[Plan],
    store: Path,
    *,
    meta: Mapping[str, object],
    on_event: OnEvent = lambda device, event: None,
    finish: Finish | None = None,
    next_plans: NextPlans | None = None,
) -> Execution:
    """Execute the plans in one run of the store; ``meta`` (name, command, seed, version) describes it.

    An error of one device ends that device's plan and no other. What ``on_event`` raises ends the run.
    Raises ``StoreError``, ``UsageError`` for a faulty metric of a plugin, and ``RunInterrupted`` on Ctrl-C;
    engines are ended before either leaves.
    """
    metrics.definitions()  # a faulty metric of a plugin is refused before anything is measured
    with Store(store) as results:
        run = results.begin_run(meta)
        records: list[Record] = []
        errors: list[tuple[str, EdgebenchError]] = []
        try:
            while plans:
                writer = RecordWriter(results, finish)
                errors += _consume_events(plans, results.run(run), writer, on_event)
                records += writer.records()
                plans, next_plans = next_plans(records) if next_plans else (), None
        except KeyboardInterrupt as interrupt:
            measured = any(record.rounds for record in results.records(Filter(runs=(run,))))
            raise RunInterrupted(run, measured) from interrupt
        return Execution(run, tuple(records), tuple(errors))


class DeviceWorker(threading.Thread):
    """Executes one device's plan in its own thread; puts events into a queue, ``DeviceFinished`` last."""

    def __init__(
        self, number: int, plan: Plan, run: Mapping[str, object], events_queue: _Queue, mutex: lock.MachineMutex
    ) -> None:
        super().__init__(daemon=True, name=plan.device.name)
        self._number = number
        self._run_meta = run
        self._events_queue = events_queue
        self._mutex = mutex
        self._last_announcement = ""
        self._aborted = False
        self._bench: Bench | None = None
        self.plan = plan
        self.error: EdgebenchError | None = None

    def run(self) -> None:
        plan = self.plan
        try:
            with ExitStack() as stack:
                session = stack.enter_context(Session(plan.device))
                stack.enter_context(self._mutex.hold(session, self._announce))
                wait_policy = lock.WaitPolicy(plan.wait, self._announce)
                stack.enter_context(lock.hold_lock(session, wait_policy))
                rpc = RpcWorkers(session, plan.engine, plan.rpc, wait_policy) if plan.rpc else None
                workers = stack.enter_context(rpc) if rpc else None
                self._bench = Bench(plan, session, workers=workers, run=self._run_meta)
                with closing(self._bench.events()) as event_stream:
                    for event in event_stream:
                        if self._aborted:
                            return
                        self._events_queue.put((self._number, event))
        except EdgebenchError as error:
            self.error = error
        except Exception as defect:  # noqa: BLE001 - the other devices go on
            self.error = InternalError("edgebench raised", defect, "This is a defect; please report it.")
        finally:
            self._events_queue.put((self._number, events.DeviceFinished(self.error)))

    def abort(self) -> None:
        """Stop the plan soon; called from another thread."""
        self._aborted = True
        if self._bench:
            self._bench.abort()

    def _announce(self, text: str) -> None:
        """Report that another process uses the device."""
        if self._aborted:
            raise DeviceLost("interrupted")
        if text != self._last_announcement:  # the wait may take hours
            self._last_announcement = text
            self._events_queue.put((self._number, events.Activity(0, text)))


class RecordWriter:
    """Stores the events of all devices as they come, and collects the records."""

    def __init__(self, store: Store, finish: Finish | None = None) -> None:
        self._store, self._finish = store, finish
        self._ids: dict[tuple[int, int], str] = {}
        self._records: dict[tuple[int, int], Record] = {}

    def write(self, number: int, event: events.Event) -> None:
        """Keep an event of the device with this number."""
        store, ids = self._store, self._ids
        if isinstance(event, events.TrialPlanned):
            ids[number, event.index] = event.id
            store.begin_trial(str(event.run["id"]), event.trial, event.facts, id=event.id)
        elif isinstance(event, events.RoundFinished):
            store.add_round(ids[number, event.index], event.round)
        elif isinstance(event, events.EngineLog):
            for index in event.indexes:
                store.add_log(ids[number, index], event.text)
        elif isinstance(event, events.TrialFinished):
            self._records[number, event.index] = event.record
            if not self._finish:
                store.finish(event.record)
        elif isinstance(event, events.DeviceFinished) and self._finish:
            keys = [key for key in sorted(self._records) if key[0] == number]
            finished = self._finish([self._records[key] for key in keys])
            for key, record in zip(keys, finished, strict=True):
                self._records[key] = record
                store.finish(record)

    def records(self) -> list[Record]:
        return [self._records[key] for key in sorted(self._records)]


def _consume_events(
    plans: Sequence[Plan], run: Mapping[str, object], writer: RecordWriter, on_event: OnEvent
) -> list[tuple[str, EdgebenchError]]:
    """Store every event, then pass it to ``on_event``; the errors by device."""
    events_queue: _Queue = queue.SimpleQueue()
    mutex = lock.MachineMutex()
    workers = [DeviceWorker(number, plan, run, events_queue, mutex) for number, plan in enumerate(plans)]
    running_count = len(workers)
    try:
        for worker in workers:
            on_event(worker.name, events.DeviceStarted(worker.plan))
        for worker in workers:
            worker.start()
        while running_count:
            number, event = events_queue.get()
            writer.write(number, event)
            if isinstance(event, events.DeviceFinished):
                running_count -= 1
                event = replace(event, last=not running_count)
            on_event(workers[number].name, event)
    except BaseException:
        # Interrupted, or nothing more can be stored.
        _stop(workers)
        raise
    return [(worker.name, worker.error) for worker in workers if worker.error]


def _stop(workers: Sequence[DeviceWorker]) -> None:
    """End the engines, all at once."""
    threads = [threading.Thread(target=worker.abort, daemon=True) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in [*threads, *workers]:
        if thread.ident:
            thread.join(STOP_TIMEOUT_S)
