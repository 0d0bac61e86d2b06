"""The record of a trial, and the protocols of views."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, runtime_checkable

from edgebench.core.engine import Reply
from edgebench.core.facts import Facts
from edgebench.core.probe import Sample
from edgebench.core.queries import Query
from edgebench.core.round_notes import RoundNotes
from edgebench.core.turn import Turn
from edgebench.core.values import Option

SCHEMA = 2
"""Version of the record format, written to every record and every JSON document."""

Status = Literal["ok", "failed", "interrupted", "lost", "skipped", "running"]
"""Outcome of a trial: ``lost``: the device was lost; ``skipped``: never started; ``running``: not ended
yet, which only occurs in a store that a run is writing to."""


@dataclass(frozen=True)
class Metric:
    """One metric of a record: its rounds, their median and its 95 % interval."""

    value: float
    unit: str
    rounds: tuple[float | None, ...] = ()
    """In the order of the rounds; None for a round without a value."""
    low: float | None = None
    high: float | None = None
    iqr: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Doubt:
    """A named reason not to trust a figure, from the closed list in ``doubts``."""

    id: str
    detail: str = ""


@dataclass(frozen=True)
class Trial:
    """One device × model × engine × scenario × set of options."""

    device: str
    model: str
    engine: str
    backend: str
    scenario: str
    options: Mapping[str, Option]


@dataclass(frozen=True)
class Failure:
    """Why a trial has no result."""

    message: str
    hint: str = ""
    exit_status: int | None = None
    signal: str | None = None
    log: tuple[str, ...] = ()
    """The engine's last lines."""


@dataclass(frozen=True)
class Round:
    """One round of a trial."""

    index: int
    started: str
    """ISO 8601, UTC."""
    metrics: Mapping[str, float]
    turns: tuple[Turn, ...] = ()
    """One per request, in the order they were sent."""
    samples: tuple[Sample, ...] = ()
    fresh: bool = False
    """Whether the engine was started for this round, so that its ``load_s`` counts."""
    notes: RoundNotes = RoundNotes()


@dataclass(frozen=True)
class Record:
    """The result of one trial: immutable, versioned, and the only input of views."""

    id: str
    run: Mapping[str, object]
    """``id``, ``name``, ``started``, ``command``, ``seed``, ``version`` of edgebench."""
    status: Status
    trial: Trial
    facts: Facts
    metrics: Mapping[str, Metric]
    doubts: tuple[Doubt, ...] = ()
    rounds: tuple[Round, ...] = ()
    failure: Failure | None = None
    notes: tuple[str, ...] = ()
    started: str = ""
    finished: str = ""
    schema: int = SCHEMA


FollowUp = Generator[tuple[int, Query], Reply, Mapping[int, Sequence[str | Doubt]]]
"""Yields the index of a trial and a query for its engine; receives the reply, or the ``EdgebenchError``
that was raised instead. Returns notes and doubts by the index of the trial."""


@runtime_checkable
class View(Protocol):
    """An output format for records. A plugin is a class whose constructor takes no arguments.

    ``render`` may raise ``UsageError``; any other exception is a fault of the view, which is named (exit code 2).
    """

    suffix: ClassVar[str]

    def render(self, records: Sequence[Record]) -> str: ...


@runtime_checkable
class Streamed(View, Protocol):
    """A view that is written record by record, for stores of any size."""

    def pieces(self, records: Iterable[Record]) -> Iterator[str]:
        """The output of ``render`` in pieces. ``records`` may be iterated more than once."""
