"""What is asked of an engine in one round."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

from edgebench.core.engine import ModelFile, Reply, Request
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


class Scenario(Protocol):
    """What is asked of an engine in one round. A plugin is a class without arguments."""

    options: ClassVar[Mapping[str, Option | tuple[str, ...]]]
    """Its own options and their defaults; ``run`` takes them as ``--name value``. A tuple of words:
    a trial for each of them, unless some of them are asked for."""

    def needs(self, options: Mapping[str, Option]) -> int:
        """The least context, in tokens, that it can run in."""

    def turns(self, setting: ScenarioContext) -> Generator[Request | Query, Reply, Mapping[str, float] | None]:
        """Yield a request, be sent its reply; one run through is one round.

        Returns further metrics of the round, where it has some of its own. A scenario that only some
        engines can run names what it needs in a class attribute ``requires``; ``helps`` says what
        its options mean, for ``run --help``.
        """
