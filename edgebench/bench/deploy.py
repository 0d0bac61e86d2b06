"""What a run needs, put onto its device before anything is measured: generators of what happens."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor, wait

from edgebench import plugins
from edgebench.bench.events import Activity, Event
from edgebench.core import Engine, EngineFacts, ModelFile
from edgebench.device import archives, provision
from edgebench.device.session import Session
from edgebench.errors import NoEngine
from edgebench.plan import Plan

SENDING_S = 0.5
"""Between two looks at a transfer."""


def engine(session: Session, engine: Engine, plan: Plan) -> Generator[Event, None, EngineFacts]:
    """Facts of the engine; one is put onto a bare device that has none.

    Raises ``EngineMissing``, ``DeviceRefused``, ``DeviceLost``.
    """
    try:
        return prepared(plan.engine, engine)
    except NoEngine:
        if not archives.has_archives(session.device.system):
            raise
    for text in archives.install(session, plan.engine, plan.backend):
        yield Activity(0, text)
    return prepared(plan.engine, engine)


def prepared(name: str, engine: Engine) -> EngineFacts:
    """An engine's facts. Raises what ``Engine.prepare`` raises, ``PartFailed`` for another answer."""
    facts: object = engine.prepare()
    if not isinstance(facts, EngineFacts):
        raise plugins.misuse("engines", name, f"prepare returned {type(facts).__name__}, not EngineFacts")
    return facts


def model(session: Session, model: ModelFile, done: list[int]) -> Generator[Event, None, str]:
    """As ``provision.deploy_model``, and every tenth is said: a large model takes long on a thin wire.

    ``done``: tenths and bytes.
    """
    told = 0

    def progress(sent: int, size: int) -> None:
        done[:] = 10 * sent // max(size, 1), sent

    pool = ThreadPoolExecutor(1)
    try:
        placed = pool.submit(provision.deploy_model, session, model, progress)
        while not wait([placed], SENDING_S).done:
            if told < done[0] < 10:
                told = done[0]
                yield Activity(0, f"sending {model.name}, {told}0 %")
        return placed.result()
    finally:
        pool.shutdown(wait=False)  # whoever gives up closes the wire, which ends it
