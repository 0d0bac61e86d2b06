"""Plans carried out: events into the store and onto the screen, then the table. For every command that measures."""

from __future__ import annotations

import queue
import shlex
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import click

from edgebench import __version__, plugins
from edgebench.bench import events
from edgebench.bench.rpc import Helpers
from edgebench.bench.trials import Bench
from edgebench.cli import options, say_error
from edgebench.cli.live import Display
from edgebench.core import Record
from edgebench.device import lock
from edgebench.device.session import Session
from edgebench.errors import DeviceLost, DeviceRefused, EdgebenchError, StoreError
from edgebench.plan import Plan
from edgebench.store.results import Store

Queue = queue.SimpleQueue[tuple[int, events.Event | None]]

INTERRUPTED = 130
PATIENCE = 20.0
"""Seconds that interrupted devices get to end their engines."""


Finish = Callable[[Sequence[Record]], Sequence[Record]]
"""What is made of one device's records before they are kept."""


def carry_out(
    plans: Sequence[Plan],
    path: Path,
    *,
    name: str,
    json_output: str | None,
    view: str = "table",
    finish: Finish | None = None,
    then: Callable[[Sequence[Record]], Sequence[Plan]] | None = None,
    strict: bool = False,
) -> int:
    """Run the plans, one device each and all at once, keep everything, show the result; the exit code.

    ``then`` may ask for more in the same run when it sees the records. ``strict``: a doubt is a failure.
    """
    for note in dict.fromkeys(note for plan in plans for planned in plan.trials for note in planned.notes):
        click.echo(f"note: {note}", err=True)
    command = shlex.join(["edgebench", *sys.argv[1:]])
    with Store(path) as store:
        meta = {"name": name, "command": command, "seed": plans[0].seed, "version": __version__}
        run = store.begin_run(meta)
        happened: Queue = queue.SimpleQueue()
        turns = lock.Turns()
        workers = [Worker(number, plan, happened, turns) for number, plan in enumerate(plans)]
        try:
            records = follow(workers, happened, store, run, finish)
            if then and (more := then(records)):
                workers = [Worker(number, plan, happened, turns) for number, plan in enumerate(more)]
                records += follow(workers, happened, store, run, finish)
        except KeyboardInterrupt:
            end(workers)
            click.echo(f"interrupted, exit code {INTERRUPTED}; what was measured is kept", err=True)
            click.echo(f"  See it: edgebench results list --run {run}", err=True)
            return INTERRUPTED
        except StoreError:
            end(workers)  # nothing more can be kept: no engine needs to go on
            raise
    errors = [worker.error for worker in workers if worker.error]
    if records:
        options.emit(records, json_output, view)
    elif len(workers) == 1:
        raise errors[0]
    for worker in workers:
        if worker.error:
            say_error(worker.error, "" if len(workers) == 1 else worker.name)
    code = exit_code(records, errors)
    doubted = sum(bool(record.doubts) for record in records)
    if strict and doubted:
        click.echo(f"--strict: {doubted} of {len(records)} results in doubt", err=True)
        return code or 1
    return code


class Worker(threading.Thread):
    """One device's plan in a thread of its own; what happens goes into the queue, None at the end."""

    def __init__(self, number: int, plan: Plan, happened: Queue, turns: lock.Turns) -> None:
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
                helpers = stack.enter_context(Helpers(session, rpc, patience)) if rpc else None
                kind = plugins.load("engines", first.trial.engine)
                engine = kind(session, kind.Config(**first.device.engines.get(first.trial.engine, {})))
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


def follow(
    workers: Sequence[Worker], happened: Queue, store: Store, run: str, finish: Finish | None = None
) -> list[Record]:
    """Start the workers and take their events, each first into the store, then onto the screen."""
    ids: dict[tuple[int, int], str] = {}
    records: dict[tuple[int, int], Record] = {}
    running = len(workers)
    with Display([worker.plan for worker in workers]) as display:
        for worker in workers:
            worker.start()
        while running:
            number, event = happened.get()
            if event is None:
                running -= 1
                workers[number].raise_defect()
                display.over(number, workers[number].error if running else None)
                if finish:
                    mine = [key for key in sorted(records) if key[0] == number]
                    records.update(zip(mine, finish([records[key] for key in mine]), strict=True))
                    for key in mine:
                        store.finish(records[key])
                continue
            if isinstance(event, events.Began):
                ids[number, event.index] = store.begin_trial(run, event.trial, event.facts)
            elif isinstance(event, events.Measured):
                store.add_round(ids[number, event.index], event.round)
            elif isinstance(event, events.Logged):
                for index in event.indexes:
                    store.add_log(ids[number, index], event.text)
            elif isinstance(event, events.Ended):
                key = number, event.index
                records[key] = replace(event.record, id=ids[key], run=store.run(run))
                if not finish:
                    store.finish(records[key])
            display.show(number, event)
    return [records[key] for key in sorted(records)]


def end(workers: Sequence[Worker]) -> None:
    """Interrupted: end the engines, all at once."""
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
