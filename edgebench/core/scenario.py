"""Scenarios: the requests that an engine receives in one round."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from edgebench.core.engine import ModelFile, Request
from edgebench.core.queries import Capability, Query
from edgebench.core.values import Option


@dataclass(frozen=True)
class ScenarioContext:
    """The parts of a trial that its scenario may use."""

    model: ModelFile
    ctx: int
    """Context size, tokens."""
    options: Mapping[str, Option]
    seed: int
    count_tokens: Callable[[str], int]
    """Number of tokens of a text with the engine's tokenizer."""
    capabilities: tuple[Capability, ...] = ()
    """Capabilities of the engine."""


@dataclass(frozen=True)
class Batch:
    """Requests that are sent at the same time, each over its own connection."""

    requests: tuple[Request, ...]


@dataclass(frozen=True)
class Arrivals:
    """Requests that are sent at scheduled times, whether or not earlier ones have completed."""

    schedule: tuple[tuple[float, Request], ...]
    """(seconds since the start of the schedule, request), in order."""


Step = Request | Query | Batch | Arrivals
"""A value that a scenario may yield."""


class Scenario(Protocol):
    """The requests of one round. A plugin is a class whose constructor takes no arguments."""

    options: ClassVar[Mapping[str, Option | tuple[str, ...]]]
    """Its options and their defaults; ``run`` accepts them as ``--name value``. A tuple of words: a
    trial for each of them by default."""

    def needs(self, options: Mapping[str, Option]) -> int:
        """The minimum context size in tokens. Raises ``UsageError`` for invalid options."""

    def turns(self, context: ScenarioContext) -> Generator[Step, Any, Mapping[str, float] | None]:
        """The steps of one round. Yields a request or a query and receives its ``Reply``; yields a ``Batch``
        or ``Arrivals`` and receives a tuple of replies in the order of the requests.

        It may raise ``EdgebenchError``, which fails the trial; any other exception is a fault of the
        scenario and also fails the trial, with the traceback in its log. Exceptions of the engine are
        raised at the ``yield``.

        It must end whatever the replies are: an engine may count tokens wrongly, and a chat template may
        drop the history. Time that overlapping turns share counts once in rates, energy and timelines.

        Returns additional metrics of the round, if any. The class attribute ``requires`` names the
        capabilities that the scenario needs; ``helps`` has the help texts of its options.
        """
