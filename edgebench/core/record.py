"""How a trial ended, and the forms its results take."""

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
"""Version of the record's form, written into every record and every JSON document."""

Status = Literal["ok", "failed", "interrupted", "lost", "skipped", "running"]
"""How a trial ended: ``lost`` is a device that went away, ``skipped`` was never started.
``running`` has not ended yet; it is only seen while reading a store that is being written."""


@dataclass(frozen=True)
class Metric:
    """One metric of a record: its rounds, their median and its 95 % interval."""

    value: float
    unit: str
    rounds: tuple[float | None, ...] = ()
    """In the order of the rounds; None where that round has no reading."""
    low: float | None = None
    high: float | None = None
    iqr: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Doubt:
    """A named reason not to believe a number, from the closed list in ``doubts``."""

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
    """One pass over a trial."""

    index: int
    started: str
    """ISO 8601, UTC."""
    metrics: Mapping[str, float]
    turns: tuple[Turn, ...] = ()
    """One per request, in the order they were sent."""
    samples: tuple[Sample, ...] = ()
    fresh: bool = False
    """Whether the engine was started for this round (its ``load_s`` counts)."""
    notes: RoundNotes = RoundNotes()


@dataclass(frozen=True)
class Record:
    """How one trial ended: immutable, versioned, everything a view is drawn from."""

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
"""Yields the number of the trial whose engine is to answer, and what; is sent the reply, or thrown
the ``EdgebenchError`` that came instead. Returns notes and doubts by the number of the trial."""


@runtime_checkable
class View(Protocol):
    """A form of the results. A plugin is a class without arguments; it formats, nothing else.

    It may raise ``UsageError``; anything else is a fault of the view, which is then named (exit code 2).
    """

    suffix: ClassVar[str]

    def render(self, records: Sequence[Record]) -> str: ...


@runtime_checkable
class Streamed(View, Protocol):
    """A view that is written record by record: no store is too large for it."""

    def pieces(self, records: Iterable[Record]) -> Iterator[str]:
        """Together what ``render`` gives. ``records`` may be gone through more than once."""
