"""Progress of a run on stderr: one updated line per device on a terminal, plain lines elsewhere."""

from __future__ import annotations

import itertools
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

import click

from edgebench.bench import events
from edgebench.cli import prefix_device
from edgebench.core import Trial
from edgebench.errors import EdgebenchError
from edgebench.judging import metrics
from edgebench.plan import Plan
from edgebench.views import units
from edgebench.views.text import clean, split_varying

if TYPE_CHECKING:
    from rich.progress import Progress

BAR_FROM = 80
"""Minimum width of a terminal, in columns, that shows a bar."""


class Display:
    """Progress on stderr, one line per device, fed with the run's events; never writes to stdout."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._rows: dict[str, Row] = {}

    def __enter__(self) -> Display:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
            from rich.table import Column

            console = Console(stderr=True)
            # A narrow terminal drops the bar, then truncates the activity; progress and time left stay.
            busy = Column(no_wrap=True, overflow="ellipsis", ratio=1)
            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False, table_column=busy),
                *([BarColumn(bar_width=12)] if console.width >= BAR_FROM else []),
                MofNCompleteColumn(),
                TextColumn("{task.fields[left]}", markup=False),
                console=console,
                refresh_per_second=4,
                expand=True,
                transient=True,
            )
            self._bar.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, device: str, event: events.Event) -> None:
        """Show an event of a device; an error that ended it is printed if other devices continue."""
        if isinstance(event, events.DeviceStarted):
            self._rows[device] = Row(event.plan, self._bar)
        elif isinstance(event, events.DeviceFinished):
            if event.error and not event.last:
                self._rows[device].show_error(event.error)
            self._rows[device].close()
        else:
            self._rows[device].show(event)

    def print_line(self, text: str) -> None:
        """Print a separate line."""
        if self._bar:
            self._bar.console.print(clean(text), markup=False, highlight=False)
        else:
            click.echo(text, err=True)


class Row:
    """One device's progress."""

    def __init__(self, plan: Plan, bar: Progress | None) -> None:
        self._names = distinct_names([planned.trial for planned in plan.trials])
        self._total = plan.rounds * len(plan.trials)
        self._rounds = plan.rounds
        self._device = plan.device.name
        self._rounds_done: Counter[int] = Counter()
        self._failed: set[int] = set()
        self._began = time.monotonic()
        self._last = ""
        self._bar = bar
        self._task = bar.add_task(f"{self._device}: getting ready", total=self._total, left="") if bar else None

    def show(self, event: events.Event) -> None:
        """Update the counts from an event and show it."""
        if isinstance(event, events.Activity):
            self._activity(event)
        elif isinstance(event, events.RoundFinished):
            self._rounds_done[event.index] += 1
            values = figures(event)
            self._last = values.get("decode", "")
            self._print(
                event.index,
                f"round {event.round.index + 1}/{max(self._rounds, event.round.index + 1)}",
                list(values.items()),
            )
        elif isinstance(event, events.TrialFinished) and event.record.failure and event.index not in self._failed:
            self._print(event.index, f"{event.record.status}: {event.record.failure.message}")

    def close(self) -> None:
        """Remove its line."""
        if self._bar and self._task is not None:
            self._bar.remove_task(self._task)

    def show_error(self, error: EdgebenchError) -> None:
        """Show the error that ended it."""
        text = clean(prefix_device(self._device, error))
        if self._bar and self._task is not None:
            self._bar.update(self._task, description=text)
            self._bar.stop_task(self._task)
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            click.echo(text, err=True)

    def _activity(self, event: events.Activity) -> None:
        if event.failed:
            self._failed.add(event.index)
            self._print(event.index, event.text)
        elif self._bar and self._task is not None:
            text = clean(f"{self._device}: {self._names[event.index]}, {event.text}")
            self._bar.update(self._task, description=text + (f"; last {self._last}" if self._last else ""))
        elif event.round in (None, 0):
            self._print(event.index, event.text)

    def _print(self, index: int, event: str, values: Sequence[tuple[str, str]] = ()) -> None:
        name, event = clean(f"{self._device}: {self._names[index]}"), clean(event)
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=self._rounds_done.total(), left=self._left())
            if values:
                # A single trial is already named in the progress line.
                name = name if self._names[1:] else clean(self._device)
                text = fit_line(name, event, values, self._bar.console.width)
            else:
                text = f"{name}: {event}"
            self._bar.console.print(text, markup=False, highlight=False)
        else:  # there is no progress line with the time left
            parts = (name, event, format_figures(values), self._left() if values else "")
            click.echo(": ".join(part for part in parts if part), err=True)

    def _left(self) -> str:
        going = set(range(len(self._names))) - self._failed
        remaining = sum(max(self._rounds - self._rounds_done[index], 0) for index in going)
        if not self._rounds_done or not remaining:
            return ""
        return f"about {duration(remaining * (time.monotonic() - self._began) / self._rounds_done.total())} left"


def distinct_names(trials: Sequence[Trial]) -> list[str]:
    """A short name for each trial of a run: the parts in which it differs from the others."""
    options = [{name.replace("_", "-"): str(value) for name, value in trial.options.items()} for trial in trials]
    parts = [
        {"": trial.model, " ": trial.scenario, **trial_options}
        for trial, trial_options in zip(trials, options, strict=True)
    ]
    names, _ = split_varying(parts)

    def words(part: Mapping[str, str], names: Sequence[str]) -> str:
        return " ".join(f"{name} {part[name]}".strip() for name in names if name in part)

    # Drop parts that some trials lack first, then the longest ones.
    lengths = {name: [len(words(part, [name])) for part in parts] for name in names}
    for name in sorted(names, key=lambda name: (min(lengths[name]) > 0, -max(lengths[name]))):
        fewer = [other_name for other_name in names if other_name != name]
        if len({words(part, fewer) for part in parts}) == len(parts):
            names = fewer
    return [words(part, names or ["", " "]) for part in parts]


def fit_line(name: str, event: str, values: Sequence[tuple[str, str]], width: int) -> str:
    """A line that fits ``width`` columns: drops figures from the end, then the middle of the name."""
    from rich.cells import cell_len

    visible = list(values)
    while visible[1:] and cell_len(": ".join((name, event, format_figures(visible)))) > width:
        visible.pop()
    tail = ": ".join(("", event, format_figures(visible)))
    if cell_len(name + tail) <= width:
        return name + tail
    begin, end = name[: len(name) // 2], name[len(name) // 2 :]
    while begin + end and cell_len(f"{begin}…{end}{tail}") > width:
        begin, end = (begin[:-1], end) if len(begin) > len(end) else (begin, end[1:])
    return f"{begin}…{end}{tail}"


def format_figures(values: Sequence[tuple[str, str]]) -> str:
    """Figures with their labels; a unit is omitted if the next figure has the same one."""
    parts = []
    for (word, figure), (_, following) in itertools.zip_longest(values, values[1:], fillvalue=("", "")):
        number, _, unit = figure.rpartition(" ")
        parts.append(f"{word} {number if unit == following.rpartition(' ')[2] else figure}")
    return ", ".join(parts)


def figures(event: events.RoundFinished) -> dict[str, str]:
    """A round's headline figures by their short titles, rates first."""
    values = event.round.metrics
    rates_first = sorted(metrics.headline(), key=lambda entry: entry.better != "higher")
    return {
        entry.short: units.quantity(values[entry.name], entry.unit) for entry in rates_first if entry.name in values
    }


def duration(seconds: float) -> str:
    """``40 s``, ``3 min``, ``2 h 5 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
