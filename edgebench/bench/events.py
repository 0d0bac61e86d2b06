"""What happens while a plan is carried out, for whoever watches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgebench.core import Json, Record, Round, Trial


@dataclass(frozen=True)
class Began:
    """A trial is known; it has not run yet."""

    index: int
    trial: Trial
    facts: Mapping[str, Json]


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


Event = Began | Doing | Measured | Logged | Ended
