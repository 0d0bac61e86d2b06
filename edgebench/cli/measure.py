"""Execute plans for a command: progress while they run, then the table and the exit code."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence

import click

from edgebench.bench import executor
from edgebench.cli import options, print_error
from edgebench.cli.progress import Display
from edgebench.core import Record
from edgebench.errors import DeviceLost, DeviceRefused, EdgebenchError
from edgebench.plan import Plan
from edgebench.version import __version__

INTERRUPTED = 130

PrintLine = Callable[[str], None]


def execute(
    plans: Sequence[Plan],
    output: options.OutputOptions,
    *,
    view: str = "table",
    finish: executor.Finish | None = None,
    next_plans: Callable[[PrintLine], executor.NextPlans | None] | None = None,
) -> int:
    """Execute the plans, store the records, print the results; return the exit code.

    ``next_plans`` takes a function that prints a line and returns the planner of further trials in the same run.
    """
    for note in dict.fromkeys(note for plan in plans for trial in plan.trials for note in trial.notes):
        click.echo(f"note: {note}", err=True)
    command = shlex.join(["edgebench", *sys.argv[1:]])
    meta = {"name": output.name, "command": command, "seed": plans[0].seed, "version": __version__}
    try:
        with Display() as display:
            execution = executor.execute(
                plans,
                output.path,
                meta=meta,
                on_event=display.show,
                finish=finish,
                next_plans=next_plans(display.print_line) if next_plans else None,
            )
    except executor.RunInterrupted as interrupt:
        return _interrupted(interrupt)
    records, errors = execution.records, execution.errors
    if not records and len(plans) == 1:
        raise errors[0][1]
    if records:
        options.emit(records, output.json_output, view)
    for device, error in errors:
        print_error(error, "" if len(plans) == 1 else device)
    code = exit_code(records, [error for _, error in errors])
    doubtful = sum(bool(record.doubts) for record in records)
    if output.strict and doubtful:
        click.echo(f"--strict: {doubtful} of {len(records)} results have doubts", err=True)
        return code or 1
    return code


def _interrupted(interrupt: executor.RunInterrupted) -> int:
    if interrupt.measured:
        click.echo(f"interrupted, exit code {INTERRUPTED}; finished rounds are kept", err=True)
        click.echo(f"  Show them: edgebench results list --run {interrupt.run}", err=True)
    else:
        click.echo(f"interrupted, exit code {INTERRUPTED}; no round was finished", err=True)
    return INTERRUPTED


def exit_code(records: Sequence[Record], errors: Sequence[EdgebenchError]) -> int:
    """0 for success, 1 for failed trials, 3 for a refused connection, 4 for a lost device."""
    if any(record.status == "lost" for record in records) or any(isinstance(e, DeviceLost) for e in errors):
        return DeviceLost.exit_code
    if any(isinstance(error, DeviceRefused) for error in errors):
        return DeviceRefused.exit_code
    return 1 if errors or any(record.status != "ok" for record in records) else 0
