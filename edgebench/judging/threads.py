"""What a sweep over threads shows: the best number of threads, and whether there is a cliff."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgebench.core import Option, Record

CLIFF = 0.3
"""A drop of the rate by more than this share from one number of threads to the next."""


@dataclass(frozen=True)
class ThreadVerdict:
    """The best number of threads of a sweep, and its cliff."""

    best: int
    rate: float
    cliff: tuple[int, float, int, float] | None
    """(threads, rate, next number of threads, its rate): the steepest drop, where it is a cliff."""


def best_threads(rates: Mapping[int, float]) -> ThreadVerdict | None:
    """The smallest number of threads within 1 % of the highest rate, and the cliff; None without rates."""
    if not rates:
        return None
    top = max(rates.values())
    best = min(threads for threads, rate in rates.items() if rate >= 0.99 * top)
    steps = sorted(rates.items())
    drops = [
        (after / before, (threads, before, more, after))
        for (threads, before), (more, after) in itertools.pairwise(steps)
        if before > 0 and after < (1 - CLIFF) * before
    ]
    return ThreadVerdict(best, rates[best], min(drops)[1] if drops else None)


def rate_by_threads(records: Sequence[Record], metric: str = "decode_tps") -> dict[int, float]:
    """A rate by number of threads."""
    found: dict[int, float] = {}
    for record in records:
        threads: Option | None = record.trial.options.get("threads")
        if isinstance(threads, int) and metric in record.metrics:
            found[threads] = record.metrics[metric].value
    return found
