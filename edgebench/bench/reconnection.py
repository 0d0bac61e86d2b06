"""A device that is lost and comes back: a step of a run is repeated until it is done or makes no progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from typing import TypeVar

from edgebench.bench.events import Activity, Event
from edgebench.bench.rpc import RpcWorkers
from edgebench.device.session import Session
from edgebench.errors import DeviceLost, DeviceRefused

Result = TypeVar("Result")

BACK_OFF = (1.0, 3.0, 8.0, 15.0)
"""Seconds before each attempt to reach a lost device again."""

LOSSES = 3
"""How often in a row a step is repeated whose device is lost at the same place."""


class Reconnection:
    """Repeats steps on an open device.

    ``release`` gives up what runs on the device; ``note`` is called with a sentence once it is back.
    """

    def __init__(
        self,
        session: Session,
        workers: RpcWorkers | None,
        release: Callable[[], Iterator[Event]],
        note: Callable[[str], None],
    ) -> None:
        self._session = session
        self._workers = workers
        self._release = release
        self._note = note

    def repeat(
        self, step: Callable[[], Generator[Event, None, Result]], phase: str, progress: Callable[[], int] = lambda: 0
    ) -> Generator[Event, None, Result]:
        """A step, repeated where the device was lost and came back. ``progress``: how far it has got.

        Raises ``DeviceLost`` where the device stays away, or is lost time after time without any
        progress: the step may be what takes it away.
        """
        losses, last_progress = 0, -1
        while True:
            try:
                return (yield from step())
            except DeviceLost as error:
                losses, last_progress = (losses + 1 if progress() <= last_progress else 1), progress()
                if losses > LOSSES:
                    raise
                yield from self._reconnect(phase, error)

    def _reconnect(self, phase: str, error: DeviceLost) -> Iterator[Event]:
        """Wait for a lost device. Raises ``DeviceLost`` where it stays away."""
        yield from self._release()
        for pause in BACK_OFF:
            yield Activity(0, f"device lost: {error}; trying again in {pause:g} s")
            time.sleep(pause)
            try:
                self._session.reopen()
                if self._workers:
                    self._workers.reopen()
            except DeviceLost as new_loss:
                error = new_loss
            except DeviceRefused as refused:
                raise DeviceLost(str(refused), refused.hint) from refused
            else:
                self._note(f"the device was lost {phase} and came back")
                return
        raise error
