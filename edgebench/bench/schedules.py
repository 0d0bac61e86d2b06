"""Requests sent when their scenario says: one, several at once, or one after the other by the clock."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from edgebench.core import Arrivals, Batch, Reply, Request

CHECK_S = 0.2
"""Between two looks at the engine while nothing is sent."""
Schedule = Sequence[tuple[float, Request]]
"""Seconds from the start, and what is sent then."""


def of_step(step: object) -> Schedule:
    """What a scenario yielded, as a schedule. Raises ``TypeError``, ``ValueError`` for what is none."""
    if isinstance(step, Request):
        return [(0.0, step)]
    if isinstance(step, Batch):
        schedule = [(0.0, request) for request in step.requests]
    elif isinstance(step, Arrivals):
        schedule = list(step.schedule)
    else:
        raise TypeError(f"turns yielded {type(step).__name__}, not Request, Query, Batch or Arrivals")
    if not schedule:
        raise ValueError(f"{type(step).__name__} holds no request")
    for at, request in schedule:
        if not isinstance(request, Request):
            raise TypeError(f"{type(step).__name__} holds {type(request).__name__}, not Request")
        if not 0 <= at < math.inf:
            raise ValueError(f"Arrivals holds a request at {at} s; times are seconds from the start")
    if any(later < earlier for (earlier, _), (later, _) in itertools.pairwise(schedule)):
        raise ValueError("the times of Arrivals are not in order")
    return schedule


def carry_out(
    schedule: Schedule, complete: Callable[[Request], Reply], ended: Callable[[], bool] = lambda: False
) -> tuple[Reply, ...]:
    """The replies, in the order of the requests. Raises what the first of them that failed raised, after
    all that had been sent were answered; nothing more is sent once one has failed. ``ended``: whether
    the engine is gone, after which nothing is waited for."""
    if len(schedule) == 1 and not schedule[0][0]:
        return (complete(schedule[0][1]),)
    began = time.monotonic()
    pending: list[Future[Reply]] = []
    with ThreadPoolExecutor(max(1, len(schedule)), "request") as pool:
        for at, request in schedule:
            while (pause := began + at - time.monotonic()) > 0 and not ended():
                time.sleep(min(pause, CHECK_S))
            if any(one.done() and one.exception() for one in pending):
                break
            pending.append(pool.submit(complete, request))
    return tuple(one.result() for one in pending)
