"""Sends requests on a scenario's schedule: one, several at once, or at given times."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from edgebench.core import Arrivals, Batch, Reply, Request

CHECK_S = 0.2
"""Interval of checks whether the engine still runs while nothing is sent, seconds."""
Schedule = Sequence[tuple[float, Request]]
"""(seconds from the start, request) pairs."""


def of_step(step: object) -> Schedule:
    """The schedule of a step that a scenario yielded. Raises ``TypeError``, ``ValueError`` for an invalid step."""
    if isinstance(step, Request):
        return [(0.0, step)]
    if isinstance(step, Batch):
        schedule = [(0.0, request) for request in step.requests]
    elif isinstance(step, Arrivals):
        schedule = list(step.schedule)
    else:
        raise TypeError(f"turns yielded {type(step).__name__}, not Request, Query, Batch or Arrivals")
    if not schedule:
        raise ValueError(f"{type(step).__name__} has no requests")
    for at, request in schedule:
        if not isinstance(request, Request):
            raise TypeError(f"{type(step).__name__} holds {type(request).__name__}, not Request")
        if not 0 <= at < math.inf:
            raise ValueError(f"Arrivals holds a request at {at} s; times are seconds from the start")
    if any(later < earlier for (earlier, _), (later, _) in itertools.pairwise(schedule)):
        raise ValueError("the times of Arrivals are not in order")
    return schedule


def send_all(
    schedule: Schedule, complete: Callable[[Request], Reply], has_ended: Callable[[], bool] = lambda: False
) -> tuple[Reply, ...]:
    """Send the requests; the replies in their order. Raises the error of the first failed request, after all
    sent requests have ended; sends nothing more once one has failed. ``has_ended``: whether the engine has
    exited, after which there is no pause."""
    if len(schedule) == 1 and not schedule[0][0]:
        return (complete(schedule[0][1]),)
    start = time.monotonic()
    pending: list[Future[Reply]] = []
    with ThreadPoolExecutor(max(1, len(schedule)), "request") as pool:
        for at, request in schedule:
            while (pause := start + at - time.monotonic()) > 0 and not has_ended():
                time.sleep(min(pause, CHECK_S))
            if any(future.done() and future.exception() for future in pending):
                break
            pending.append(pool.submit(complete, request))
    return tuple(future.result() for future in pending)
