"""Engines as a device's profile configures them."""

from __future__ import annotations

from edgebench import plugins
from edgebench.core import Engine, EngineFacts
from edgebench.device.session import Session


def create_engine(session: Session, name: str) -> Engine:
    """An engine whose unexpected exceptions name its plugin. Raises ``UsageError``, ``PartFailed``."""
    engine = plugins.create("engines", name, session, config=session.device.engines.get(name, {}))
    return plugins.guard("engines", name, engine)


def prepare_engine(name: str, engine: Engine) -> EngineFacts:
    """An engine's facts. Raises what ``Engine.prepare`` raises, ``PartFailed`` for another return type."""
    return check_facts(name, "prepare", engine.prepare())


def check_facts(name: str, method: str, facts: object) -> EngineFacts:
    """The facts that a plugin returned. Raises ``PartFailed`` for another type."""
    if not isinstance(facts, EngineFacts):
        raise plugins.misuse("engines", name, f"{method} returned {type(facts).__name__}, not EngineFacts")
    return facts
