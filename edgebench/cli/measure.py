"""Plans carried out: events into the store and onto the screen, then the table. For every command that measures."""

from __future__ import annotations

import queue
import shlex
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace

import click

from edgebench import __version__, plugins
from edgebench.bench import events
from edgebench.bench.rpc import RpcWorkers
from edgebench.bench.trials import Bench
from edgebench.cli import options, say_error
from edgebench.cli.progress import Display
from edgebench.core import Record
from edgebench.device import lock
from edgebench.device.session import Session
from edgebench.errors import DeviceLost, DeviceRefused, EdgebenchError
from edgebench.plan import Plan
from edgebench.store.results import Store
from edgebench.store.where import Where

Queue = queue.SimpleQueue[tuple[int, events.Event | None]]

INTERRUPTED = 130
PATIENCE = 20.0
"""Seconds that interrupted devices get to end their engines."""


Finish = Callable[[Sequence[Record]], Sequence[Record]]
"""What is made of one device's records before they are kept."""


def carry_out(
    plans: Sequence[Plan],
    outcome: options.Outcome,
    *,
    view: str = "table",
    finish: Finish | None = None,
    then: Callable[[Sequence[Record]], Sequence[Plan]] | None = None,
) -> int:
    """Run the plans, one device each and all at once, keep everything, show the result; the exit code.

    ``then`` may ask for more in the same run when it sees the records.
    """
    for note in dict.fromkeys(note for plan in plans for planned in plan.trials for note in planned.notes):
        click.echo(f"note: {note}", err=True)
    command = shlex.join(["edgebench", *sys.argv[1:]])
    with Store(outcome.path) as store:
        meta = {"name": outcome.name, "command": command, "seed": plans[0].seed, "version": __version__}
        run = store.begin_run(meta)
        try:
            book = Book(store, run, finish)
            errors = follow(plans, book)
            records = book.records()
            if then and (more := then(records)):
                book = Book(store, run, finish)
                errors += follow(more, book)
                records += book.records()
        except KeyboardInterrupt:
            return _interrupted(store, run)
    if not records and len(plans) == 1:
        raise errors[0][1]
    if records:
        options.emit(records, outcome.json_output, view)
    for device, error in errors:
        say_error(error, "" if len(plans) == 1 else device)
    code = exit_code(records, [error for _, error in errors])
    doubted = sum(bool(record.doubts) for record in records)
    if outcome.strict and doubted:
        click.echo(f"--strict: {doubted} of {len(records)} results in doubt", err=True)
        return code or 1
    return code


def _interrupted(store: Store, run: str) -> int:
    if any(record.rounds for record in store.records(Where(runs=(run,)))):
        click.echo(f"interrupted, exit code {INTERRUPTED}; what was measured is kept", err=True)
        click.echo(f"  See it: edgebench results list --run {run}", err=True)
    else:
        click.echo(f"interrupted, exit code {INTERRUPTED}; nothing had been measured yet", err=True)
    return INTERRUPTED


class Worker(threading.Thread):
    """One device's plan in a thread of its own; what happens goes into the queue, None at the end."""

    def __init__(self, number: int, plan: Plan, happened: Queue, turns: lock.MachineMutex) -> None:
        super().__init__(daemon=True, name=plan.trials[0].device.name)
        self._number = number
        self._happened = happened
        self._turns = turns
        self._awaited = ""
        self.plan = plan
        self._bench: Bench | None = None
        self._ended = False
        self.error: EdgebenchError | None = None
        self.defect: Exception | None = None
        """Anything else that ended it."""

    def run(self) -> None:
        first = self.plan.trials[0]
        try:
            with ExitStack() as stack:
                session = stack.enter_context(Session(first.device))
                stack.enter_context(self._turns.mine(session, self._waiting))
                patience = lock.Patience(self.plan.wait, self._waiting)
                stack.enter_context(lock.held(session, patience))
                rpc = self.plan.rpc
                helpers = stack.enter_context(RpcWorkers(session, rpc, patience)) if rpc else None
                config = first.device.engines.get(first.trial.engine, {})
                engine = plugins.create("engines", first.trial.engine, session, config=config)
                self._bench = Bench(self.plan, session, engine, helpers)
                with closing(self._bench.events()) as happening:
                    for event in happening:
                        if self._ended:
                            return
                        self._happened.put((self._number, event))
        except EdgebenchError as error:
            self.error = error
        except Exception as defect:  # noqa: BLE001 - raised again by the main thread
            self.defect = defect
        finally:
            self._happened.put((self._number, None))

    def raise_defect(self) -> None:
        """Where people see it."""
        if self.defect:
            raise self.defect

    def _waiting(self, text: str) -> None:
        """Somebody else has the device."""
        if self._ended:
            raise DeviceLost("interrupted")
        if text != self._awaited:  # it may wait for hours
            self._awaited = text
            self._happened.put((self._number, events.Doing(0, text)))

    def abort(self) -> None:
        """Let it end soon."""
        self._ended = True
        if self._bench:
            self._bench.abort()


class Book:
    """What happens on the devices goes into the store as it happens; their records."""

    def __init__(self, store: Store, run: str, finish: Finish | None) -> None:
        self._store, self._run, self._finish = store, run, finish
        self._ids: dict[tuple[int, int], str] = {}
        self._records: dict[tuple[int, int], Record] = {}

    def keep(self, number: int, event: events.Event) -> None:
        """An event of the device with this number."""
        store, ids = self._store, self._ids
        if isinstance(event, events.Began):
            ids[number, event.index] = store.begin_trial(self._run, event.trial, event.facts)
        elif isinstance(event, events.Measured):
            store.add_round(ids[number, event.index], event.round)
        elif isinstance(event, events.Logged):
            for index in event.indexes:
                store.add_log(ids[number, index], event.text)
        elif isinstance(event, events.Ended):
            key = number, event.index
            self._records[key] = replace(event.record, id=ids[key], run=store.run(self._run))
            if not self._finish:
                store.finish(self._records[key])

    def close(self, number: int) -> None:
        """Nothing more comes from a device."""
        if self._finish:
            mine = [key for key in sorted(self._records) if key[0] == number]
            for key, record in zip(mine, self._finish([self._records[key] for key in mine]), strict=True):
                self._records[key] = record
                self._store.finish(record)

    def records(self) -> list[Record]:
        return [self._records[key] for key in sorted(self._records)]


def follow(plans: Sequence[Plan], book: Book) -> list[tuple[str, EdgebenchError]]:
    """Carry out the plans and take what happens, first into the store, then onto the screen.

    The answer: which devices' plans were ended by an error, and by which.
    """
    happened: Queue = queue.SimpleQueue()
    turns = lock.MachineMutex()
    workers = [Worker(number, plan, happened, turns) for number, plan in enumerate(plans)]
    running = len(workers)
    try:
        with Display(plans) as display:
            for worker in workers:
                worker.start()
            while running:
                number, event = happened.get()
                if event is None:
                    running -= 1
                    workers[number].raise_defect()
                    display.over(number, workers[number].error if running else None)
                    book.close(number)
                else:
                    book.keep(number, event)
                    display.show(number, event)
    except BaseException:
        end(workers)  # interrupted, or nothing more can be kept: no engine needs to go on
        raise
    return [(worker.name, worker.error) for worker in workers if worker.error]


def end(workers: Sequence[Worker]) -> None:
    """End the engines, all at once."""
    threads = [threading.Thread(target=worker.abort, daemon=True) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in [*threads, *workers]:
        if thread.ident:
            thread.join(PATIENCE)


def exit_code(records: Sequence[Record], errors: Sequence[EdgebenchError]) -> int:
    """0 done, 1 with failed trials, 3 where a device refused, 4 where one was lost."""
    if any(record.status == "lost" for record in records) or any(isinstance(e, DeviceLost) for e in errors):
        return DeviceLost.exit_code
    if any(isinstance(error, DeviceRefused) for error in errors):
        return DeviceRefused.exit_code
    return 1 if errors or any(record.status != "ok" for record in records) else 0
