"""What the person sees while a run goes on: on a terminal one line that lives, elsewhere plain lines."""

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
from edgebench.cli import of
from edgebench.core import Trial
from edgebench.errors import EdgebenchError
from edgebench.judging import metrics
from edgebench.plan import Plan
from edgebench.views import units
from edgebench.views.text import clean, varying

if TYPE_CHECKING:
    from rich.progress import Progress

BAR_FROM = 80
"""Columns of a terminal from which on there is room for a bar."""


class Display:
    """Progress on stderr, a line a device. Feed it the run's events; it never writes to stdout."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._rows: dict[str, Row] = {}

    def __enter__(self) -> Display:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
            from rich.table import Column

            console = Console(stderr=True)
            # On a narrow terminal the bar gives way, then what it does; how far it is and what is left stay.
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
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, device: str, event: events.Event) -> None:
        """An event of this device. What ended a device early is said where others go on."""
        if isinstance(event, events.DeviceStarted):
            self._rows[device] = Row(event.plan, self._bar)
        elif isinstance(event, events.DeviceFinished):
            if event.error and not event.last:
                self._rows[device].gone(event.error)
            self._rows[device].close()
        else:
            self._rows[device].show(event)

    def say(self, text: str) -> None:
        """A line of its own."""
        if self._bar:
            self._bar.console.print(clean(text), markup=False, highlight=False)
        else:
            click.echo(text, err=True)


class Row:
    """One device's progress."""

    def __init__(self, plan: Plan, bar: Progress | None) -> None:
        self._names = told_apart([planned.trial for planned in plan.trials])
        self._total = plan.rounds * len(plan.trials)
        self._rounds = plan.rounds
        self._device = plan.device.name
        self._done: Counter[int] = Counter()
        self._failed: set[int] = set()
        self._began = time.monotonic()
        self._last = ""
        self._bar = bar
        self._task = bar.add_task(f"{self._device}: getting ready", total=self._total, left="") if bar else None

    def show(self, event: events.Event) -> None:
        """Take note of an event and show it."""
        if isinstance(event, events.Activity):
            self._activity(event)
        elif isinstance(event, events.RoundFinished):
            self._done[event.index] += 1
            found = figures(event)
            self._last = found.get("decode", "")
            self._say(
                event.index,
                f"round {event.round.index + 1}/{max(self._rounds, event.round.index + 1)}",
                list(found.items()),
            )
        elif isinstance(event, events.TrialFinished) and event.record.failure and event.index not in self._failed:
            self._say(event.index, f"{event.record.status}: {event.record.failure.message}")

    def close(self) -> None:
        """Its line goes."""
        if self._bar and self._task is not None:
            self._bar.remove_task(self._task)

    def gone(self, error: EdgebenchError) -> None:
        """It ended by an error."""
        text = clean(of(self._device, error))
        if self._bar and self._task is not None:
            self._bar.update(self._task, description=text)
            self._bar.stop_task(self._task)
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            click.echo(text, err=True)

    def _activity(self, event: events.Activity) -> None:
        if event.failed:
            self._failed.add(event.index)
            self._say(event.index, event.text)
        elif self._bar and self._task is not None:
            text = clean(f"{self._device}: {self._names[event.index]}, {event.text}")
            self._bar.update(self._task, description=text + (f"; last {self._last}" if self._last else ""))
        elif event.round in (None, 0):
            self._say(event.index, event.text)

    def _say(self, index: int, happened: str, found: Sequence[tuple[str, str]] = ()) -> None:
        name, happened = clean(f"{self._device}: {self._names[index]}"), clean(happened)
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=self._done.total(), left=self._left())
            if found:
                # Of a single trial the line that lives says which it is.
                name = name if self._names[1:] else clean(self._device)
                text = fitted(name, happened, found, self._bar.console.width)
            else:
                text = f"{name}: {happened}"
            self._bar.console.print(text, markup=False, highlight=False)
        else:  # no line lives there and says what is left
            parts = (name, happened, listed(found), self._left() if found else "")
            click.echo(": ".join(part for part in parts if part), err=True)

    def _left(self) -> str:
        going = set(range(len(self._names))) - self._failed
        remaining = sum(max(self._rounds - self._done[index], 0) for index in going)
        if not self._done or not remaining:
            return ""
        return f"about {duration(remaining * (time.monotonic() - self._began) / self._done.total())} left"


def told_apart(trials: Sequence[Trial]) -> list[str]:
    """Each trial of a run by what tells it apart from the others, in few words."""
    options = [{name.replace("_", "-"): str(value) for name, value in trial.options.items()} for trial in trials]
    parts = [{"": trial.model, " ": trial.scenario, **its} for trial, its in zip(trials, options, strict=True)]
    names, _ = varying(parts)

    def words(each: Mapping[str, str], names: Sequence[str]) -> str:
        return " ".join(f"{name} {each[name]}".strip() for name in names if name in each)

    # What some don't have is no name for the others; then the longest gives way first.
    lengths = {name: [len(words(each, [name])) for each in parts] for name in names}
    for name in sorted(names, key=lambda name: (min(lengths[name]) > 0, -max(lengths[name]))):
        fewer = [other for other in names if other != name]
        if len({words(each, fewer) for each in parts}) == len(parts):
            names = fewer
    return [words(each, names or ["", " "]) for each in parts]


def fitted(name: str, happened: str, found: Sequence[tuple[str, str]], width: int) -> str:
    """A line that a terminal has room for: figures give way, the last one first, then the middle of the name."""
    from rich.cells import cell_len

    shown = list(found)
    while shown[1:] and cell_len(": ".join((name, happened, listed(shown)))) > width:
        shown.pop()
    rest = ": ".join(("", happened, listed(shown)))
    if cell_len(name + rest) <= width:
        return name + rest
    begin, end = name[: len(name) // 2], name[len(name) // 2 :]
    while begin + end and cell_len(f"{begin}…{end}{rest}") > width:
        begin, end = (begin[:-1], end) if len(begin) > len(end) else (begin, end[1:])
    return f"{begin}…{end}{rest}"


def listed(found: Sequence[tuple[str, str]]) -> str:
    """Figures with their words; one in the unit of the next leaves it to that one."""
    shown = []
    for (word, figure), (_, following) in itertools.zip_longest(found, found[1:], fillvalue=("", "")):
        number, _, unit = figure.rpartition(" ")
        shown.append(f"{word} {number if unit == following.rpartition(' ')[2] else figure}")
    return ", ".join(shown)


def figures(event: events.RoundFinished) -> dict[str, str]:
    """A round's headline figures by the word for each, the one that matters most first."""
    found = event.round.metrics
    rates_first = sorted(metrics.headline(), key=lambda entry: entry.better != "higher")
    return {entry.short: units.quantity(found[entry.name], entry.unit) for entry in rates_first if entry.name in found}


def duration(seconds: float) -> str:
    """``40 s``, ``3 min``, ``2 h 5 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
