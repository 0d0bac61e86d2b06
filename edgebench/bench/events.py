"""What happens while a plan is carried out, for whoever watches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgebench.core import Facts, Record, Round, Trial
from edgebench.errors import EdgebenchError
from edgebench.plan import Plan


@dataclass(frozen=True)
class Began:
    """A trial is known; it has not run yet."""

    index: int
    trial: Trial
    facts: Facts
    id: str
    """Of its record."""
    run: Mapping[str, object]
    """As in its record."""


@dataclass(frozen=True)
class Doing:
    """What the device is busy with now."""

    index: int
    text: str
    round: int | None = None
    failed: bool = False


@dataclass(frozen=True)
class Measured:
    """A round of a trial is over."""

    index: int
    round: Round


@dataclass(frozen=True)
class Logged:
    """An engine has ended; its whole log."""

    indexes: tuple[int, ...]
    text: str


@dataclass(frozen=True)
class Ended:
    """A trial is over."""

    index: int
    record: Record


@dataclass(frozen=True)
class DeviceBegan:
    """A device's plan is about to be executed."""

    plan: Plan


@dataclass(frozen=True)
class DeviceDone:
    """A device's plan is over; ``error`` ended it early."""

    error: EdgebenchError | None = None
    last: bool = False
    """Whether no other device goes on."""


Event = DeviceBegan | Began | Doing | Measured | Logged | Ended | DeviceDone
