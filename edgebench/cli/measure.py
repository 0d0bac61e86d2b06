"""Plans executed for a command: progress on the screen, then the table and the exit code."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence

import click

from edgebench.bench import executor
from edgebench.cli import options, say_error
from edgebench.cli.progress import Display
from edgebench.core import Record
from edgebench.errors import DeviceLost, DeviceRefused, EdgebenchError
from edgebench.plan import Plan
from edgebench.version import __version__

INTERRUPTED = 130

Say = Callable[[str], None]


def execute(
    plans: Sequence[Plan],
    outcome: options.Outcome,
    *,
    view: str = "table",
    finish: executor.Finish | None = None,
    next_plans: Callable[[Say], executor.NextPlans | None] | None = None,
) -> int:
    """Execute the plans, keep everything, show the result; the exit code.

    ``next_plans`` is given what prints a line, and may ask for more in the same run.
    """
    for note in dict.fromkeys(note for plan in plans for planned in plan.trials for note in planned.notes):
        click.echo(f"note: {note}", err=True)
    command = shlex.join(["edgebench", *sys.argv[1:]])
    meta = {"name": outcome.name, "command": command, "seed": plans[0].seed, "version": __version__}
    try:
        with Display() as display:
            execution = executor.execute(
                plans,
                outcome.path,
                meta=meta,
                on_event=display.show,
                finish=finish,
                next_plans=next_plans(display.say) if next_plans else None,
            )
    except executor.RunInterrupted as interrupt:
        return _interrupted(interrupt)
    records, errors = execution.records, execution.errors
    if not records and len(plans) == 1:
        raise errors[0][1]
    if records:
        options.emit(records, outcome.json_output, view)
    for device, error in errors:
        say_error(error, "" if len(plans) == 1 else device)
    code = exit_code(records, [error for _, error in errors])
    doubted = sum(bool(record.doubts) for record in records)
    if outcome.strict and doubted:
        click.echo(f"--strict: {doubted} of {len(records)} results have doubts", err=True)
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
    """0 done, 1 with failed trials, 3 where a device refused, 4 where one was lost."""
    if any(record.status == "lost" for record in records) or any(isinstance(e, DeviceLost) for e in errors):
        return DeviceLost.exit_code
    if any(isinstance(error, DeviceRefused) for error in errors):
        return DeviceRefused.exit_code
    return 1 if errors or any(record.status != "ok" for record in records) else 0
