"""What is asked of an engine in one round."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from edgebench.core.engine import ModelFile, Request
from edgebench.core.queries import Capability, Query
from edgebench.core.values import Option


@dataclass(frozen=True)
class ScenarioContext:
    """What a scenario may know of the trial it runs in."""

    model: ModelFile
    ctx: int
    """Tokens."""
    options: Mapping[str, Option]
    seed: int
    count_tokens: Callable[[str], int]
    """Tokens of a text by the engine's own tokenizer."""
    capabilities: tuple[Capability, ...] = ()
    """What the engine can do."""


@dataclass(frozen=True)
class Batch:
    """Requests that are sent at the same moment, each over a connection of its own."""

    requests: tuple[Request, ...]


@dataclass(frozen=True)
class Arrivals:
    """Requests that are sent at given times, whether or not earlier ones have been answered."""

    schedule: tuple[tuple[float, Request], ...]
    """Seconds from when the schedule begins, and what is sent then; in order."""


Step = Request | Query | Batch | Arrivals
"""What a scenario may yield."""


class Scenario(Protocol):
    """What is asked of an engine in one round. A plugin is a class without arguments."""

    options: ClassVar[Mapping[str, Option | tuple[str, ...]]]
    """Its own options and their defaults; ``run`` takes them as ``--name value``. A tuple of words:
    a trial for each of them, unless some of them are asked for."""

    def needs(self, options: Mapping[str, Option]) -> int:
        """The least context, in tokens, that it can run in. Raises ``UsageError`` for options that make no sense."""

    def turns(self, setting: ScenarioContext) -> Generator[Step, Any, Mapping[str, float] | None]:
        """Yield a request or a query, be sent its ``Reply``; yield a ``Batch`` or ``Arrivals``, be sent a
        tuple of replies in the order of the requests. One run through is one round.

        It may raise ``EdgebenchError`` with a reason, which fails the trial; anything else is a fault of the
        scenario and fails the trial too, with the traceback in its log. What the engine raises passes
        through it.

        It must end whatever the replies are: an engine may count wrongly, and a chat template may keep
        no history. Of turns that overlap, time counts once in rates, energy and timelines.

        Returns further metrics of the round, where it has some of its own. A scenario that only some
        engines can run names what it needs in a class attribute ``requires``; ``helps`` says what
        its options mean, for ``run --help``.
        """
