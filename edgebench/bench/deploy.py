"""Deploys engine and models to a device before a run; generators of events."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor, wait

from edgebench.bench.events import Activity, Event
from edgebench.core import Engine, EngineFacts, ModelFile
from edgebench.device import archives, provision
from edgebench.device.engines import prepare_engine
from edgebench.device.session import Session
from edgebench.errors import NoEngine
from edgebench.plan import Plan

PROGRESS_POLL_S = 0.5
"""Interval between two progress checks of a transfer, seconds."""


def engine(session: Session, engine: Engine, plan: Plan) -> Generator[Event, None, EngineFacts]:
    """The engine's facts; installs an engine on a device without one.

    Raises ``EngineMissing``, ``DeviceRefused``, ``DeviceLost``.
    """
    try:
        return prepare_engine(plan.engine, engine)
    except NoEngine:
        if not archives.has_archives(session.device.system):
            raise
    for text in archives.install(session, plan.engine, plan.backend):
        yield Activity(0, text)
    return prepare_engine(plan.engine, engine)


def model(session: Session, model: ModelFile, progress_counts: list[int]) -> Generator[Event, None, str]:
    """As ``provision.deploy_model``, with an event per tenth of the transfer.

    ``progress_counts`` holds the tenths and the bytes that were sent.
    """
    reported = 0

    def progress(sent_b: int, size: int) -> None:
        progress_counts[:] = 10 * sent_b // max(size, 1), sent_b

    pool = ThreadPoolExecutor(1)
    try:
        transfer = pool.submit(provision.deploy_model, session, model, progress)
        while not wait([transfer], PROGRESS_POLL_S).done:
            if reported < progress_counts[0] < 10:
                reported = progress_counts[0]
                yield Activity(0, f"sending {model.name}, {reported}0 %")
        return transfer.result()
    finally:
        pool.shutdown(wait=False)  # on an error the session is closed, which ends the transfer
