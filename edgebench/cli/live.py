"""What the person sees while a run goes on: on a terminal one line that lives, elsewhere plain lines."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import click

from edgebench.bench import events
from edgebench.cli import of
from edgebench.core import Trial
from edgebench.errors import EdgebenchError
from edgebench.judging import metrics
from edgebench.plan import Plan
from edgebench.views import units
from edgebench.views.text import clean


class Display:
    """Progress on stderr, a line a device. Feed it the bench's events; it never writes to stdout."""

    def __init__(self, plans: Sequence[Plan]) -> None:
        self._bar: Any = None
        self._plans = plans
        self._rows: list[Row] = []

    def __enter__(self) -> Display:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
            from rich.table import Column

            # What it does gives way first on a narrow terminal; how far it is and what is left stay.
            busy = Column(no_wrap=True, overflow="ellipsis", ratio=1)
            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False, table_column=busy),
                BarColumn(bar_width=12),
                MofNCompleteColumn(),
                TextColumn("{task.fields[left]}", markup=False),
                console=Console(stderr=True),
                refresh_per_second=4,
                expand=True,
                transient=True,
            )
            self._bar.start()
        self._rows = [Row(plan, self._bar) for plan in self._plans]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, number: int, event: events.Event) -> None:
        """An event of the device with this number."""
        self._rows[number].show(event)

    def over(self, number: int, error: EdgebenchError | None) -> None:
        """Nothing more comes from a device. What ended it is said where others go on."""
        if error:
            self._rows[number].gone(error)


class Row:
    """One device's progress."""

    def __init__(self, plan: Plan, bar: Any) -> None:
        self._trials: list[Trial] = [planned.trial for planned in plan.trials]
        self._total = plan.rounds * len(plan.trials)
        self._rounds = plan.rounds
        self._device = plan.trials[0].device.name
        self._done: Counter[int] = Counter()
        self._failed: set[int] = set()
        self._began = time.monotonic()
        self._last = ""
        self._bar = bar
        self._task = bar.add_task(f"{self._device}: getting ready", total=self._total, left="") if bar else None

    def show(self, event: events.Event) -> None:
        """Take note of an event and show it."""
        if isinstance(event, events.Doing):
            self._doing(event)
        elif isinstance(event, events.Measured):
            self._done[event.index] += 1
            found = figures(event)
            self._last = found.get("decode", "")
            self._say(
                event.index,
                f"round {event.round.index + 1}/{max(self._rounds, event.round.index + 1)}",
                ", ".join(f"{word} {figure}" for word, figure in found.items()),
                "" if self._bar else self._left(),  # the line that lives has it
            )
        elif isinstance(event, events.Ended) and event.record.failure and event.index not in self._failed:
            self._say(event.index, event.record.status, event.record.failure.message)

    def gone(self, error: EdgebenchError) -> None:
        """It ended by an error."""
        text = clean(of(self._device, error))
        if self._bar:
            self._bar.update(self._task, description=text)
            self._bar.stop_task(self._task)
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            click.echo(text, err=True)

    def _doing(self, event: events.Doing) -> None:
        if event.failed:
            self._failed.add(event.index)
            self._say(event.index, event.text)
        elif self._bar:
            text = clean(f"{self._device}: {describe(self._trials, event.index)}, {event.text}")
            self._bar.update(self._task, description=text + (f"; last {self._last}" if self._last else ""))
        elif event.round in (None, 0):
            self._say(event.index, event.text)

    def _say(self, index: int, *parts: str) -> None:
        text = ": ".join([f"{self._device}: {describe(self._trials, index)}", *(part for part in parts if part)])
        text = clean(text)
        if self._bar:
            self._bar.update(self._task, completed=self._done.total(), left=self._left())
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            click.echo(text, err=True)

    def _left(self) -> str:
        going = set(range(len(self._trials))) - self._failed
        remaining = sum(max(self._rounds - self._done[index], 0) for index in going)
        if not self._done or not remaining:
            return ""
        return f"about {duration(remaining * (time.monotonic() - self._began) / self._done.total())} left"


def describe(trials: Sequence[Trial], index: int) -> str:
    """A trial by what tells it apart from the others of its run."""
    trial = trials[index]
    single = len({(other.model, other.scenario, str(other.options)) for other in trials}) == 1
    words = [trial.model] if single or len({other.model for other in trials}) > 1 else []
    words += [trial.scenario] if single or len({other.scenario for other in trials}) > 1 else []
    for name, value in trial.options.items():
        if any(other.options.get(name) != value for other in trials):
            words.append(f"{name} {value}")
    return " ".join(words)


def figures(event: events.Measured) -> dict[str, str]:
    """A round's headline figures by the word for each."""
    shown = (("prefill_tps", "prefill"), ("decode_tps", "decode"), ("load_s", "load"), ("peak_footprint_b", "memory"))
    found = event.round.metrics
    return {word: units.quantity(found[name], metrics.find(name).unit) for name, word in shown if name in found}


def duration(seconds: float) -> str:
    """``40 s``, ``3 min``, ``2 h 5 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
