"""Plans carried out: events into the store and onto the screen, then the table. For every command that measures."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import click

from edgebench import __version__, bench, plugins
from edgebench.bench import Bench
from edgebench.cli import options
from edgebench.cli.live import Live
from edgebench.core import Record
from edgebench.plan import Plan
from edgebench.session import Session
from edgebench.store import Store

INTERRUPTED = 130


def carry_out(plans: Sequence[Plan], path: Path, *, name: str, json_output: str | None) -> int:
    """Run the plans, keep everything, show the result; the exit code."""
    for plan in plans:
        for note in dict.fromkeys(note for planned in plan.trials for note in planned.notes):
            click.echo(f"note: {note}", err=True)
    with Store(path) as store:
        meta = {
            "name": name,
            "command": shlex.join(["edgebench", *sys.argv[1:]]),
            "seed": plans[0].seed,
            "version": __version__,
        }
        run = store.begin_run(meta)
        try:
            records = [record for plan in plans for record in _one_device(plan, store, run)]
        except KeyboardInterrupt:
            click.echo(f"interrupted, exit code {INTERRUPTED}; what was measured is kept", err=True)
            click.echo(f"  See it: edgebench results list --run {run}", err=True)
            return INTERRUPTED
    options.emit(records, json_output, "table")
    if any(record.status == "lost" for record in records):
        return 4
    return 1 if any(record.status != "ok" for record in records) else 0


def _one_device(plan: Plan, store: Store, run: str) -> list[Record]:
    device = plan.trials[0].device
    ids: dict[int, str] = {}
    records: list[Record] = []
    with Session(device) as session, Live(plan, device.name) as live:
        kind = plugins.load("engines", plan.trials[0].trial.engine)
        settings = device.engines.get(plan.trials[0].trial.engine, {})
        engine = kind(session, kind.Config(**settings))
        with closing(Bench(plan, session, engine).events()) as events:
            for event in events:
                if isinstance(event, bench.Began):
                    ids[event.index] = store.begin_trial(run, event.trial, event.facts)
                elif isinstance(event, bench.Measured):
                    store.add_round(ids[event.index], event.round)
                elif isinstance(event, bench.Logged):
                    for index in event.indexes:
                        store.add_log(ids[index], event.text)
                elif isinstance(event, bench.Ended):
                    record = replace(event.record, id=ids[event.index], run=store.run(run))
                    store.finish(record)
                    records.append(record)
                live.show(event)  # what is shown is already kept
    return records
