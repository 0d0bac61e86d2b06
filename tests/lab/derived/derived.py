"""Another package's transport, system and engine, each derived from one of edgebench's own.

The proof that entry points of these groups need no change in edgebench; ``lab/outside`` proves what
needs no part of edgebench at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from edgebench.core import EngineFacts
from edgebench.engines.llamacpp import LlamaCpp
from edgebench.systems.linux import Linux
from edgebench.transports.local import Local


@dataclass(frozen=True)
class Address:
    """What a profile says of this wire."""

    street: str
    number: int = 1


class Elsewhere(Local):
    """A wire that leads around the house and back in."""

    Config = Address

    def __init__(self, config: Address) -> None:
        self.config = config


class Penguin(Linux):
    """A system of its own."""

    default_workspace = ".penguin"


@dataclass(frozen=True)
class Choice:
    """What a profile says of this engine."""

    path: str
    env: Mapping[str, str] = field(default_factory=dict)


class Another(LlamaCpp):
    """An engine that is somebody else's."""

    Config = Choice

    def prepare(self) -> EngineFacts:
        facts = super().prepare()
        return replace(facts, name="another", extra={**facts.extra, "flavour": "vanilla"})
