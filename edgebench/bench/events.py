"""What happens while plans are executed: the events that ``on_event`` receives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgebench.core import Facts, Record, Round, Trial
from edgebench.errors import EdgebenchError
from edgebench.plan import Plan


@dataclass(frozen=True)
class TrialPlanned:
    """A trial is known, with the facts of its device, engine and model; it has not run yet."""

    index: int
    trial: Trial
    facts: Facts
    id: str
    """ID of its record."""
    run: Mapping[str, object]
    """As in its record."""


@dataclass(frozen=True)
class Activity:
    """What the device is doing now, as text."""

    index: int
    text: str
    round: int | None = None
    failed: bool = False


@dataclass(frozen=True)
class RoundFinished:
    """A round of a trial is finished."""

    index: int
    round: Round


@dataclass(frozen=True)
class EngineLog:
    """The whole log of an engine that ended, for the trials that it served."""

    indexes: tuple[int, ...]
    text: str


@dataclass(frozen=True)
class TrialFinished:
    """A trial is finished; its record."""

    index: int
    record: Record


@dataclass(frozen=True)
class DeviceStarted:
    """A device's plan is about to be executed."""

    plan: Plan


@dataclass(frozen=True)
class DeviceFinished:
    """A device's plan is finished; ``error``: what ended it early."""

    error: EdgebenchError | None = None
    last: bool = False
    """Whether no other device is still running."""


Event = DeviceStarted | TrialPlanned | Activity | RoundFinished | EngineLog | TrialFinished | DeviceFinished
