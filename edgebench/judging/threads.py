"""Evaluates a sweep over threads: the best number of threads, and a cliff."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgebench.core import Option, Record

CLIFF = 0.3
"""A cliff is a drop of the rate by more than this share from one number of threads to the next."""


@dataclass(frozen=True)
class ThreadVerdict:
    """The best number of threads of a sweep, and its cliff."""

    best: int
    rate: float
    cliff: tuple[int, float, int, float] | None
    """(threads, rate, next number of threads, its rate) at the steepest drop; None without a cliff."""


def best_threads(rates: Mapping[int, float]) -> ThreadVerdict | None:
    """The smallest number of threads within 1 % of the highest rate, and the cliff; None without rates."""
    if not rates:
        return None
    max_rate = max(rates.values())
    best = min(threads for threads, rate in rates.items() if rate >= 0.99 * max_rate)
    steps = sorted(rates.items())
    drops = [
        (next_rate / before, (threads, before, next_threads, next_rate))
        for (threads, before), (next_threads, next_rate) in itertools.pairwise(steps)
        if before > 0 and next_rate < (1 - CLIFF) * before
    ]
    return ThreadVerdict(best, rates[best], min(drops)[1] if drops else None)


def rate_by_threads(records: Sequence[Record], metric: str = "decode_tps") -> dict[int, float]:
    """A rate by number of threads."""
    rates: dict[int, float] = {}
    for record in records:
        threads: Option | None = record.trial.options.get("threads")
        if isinstance(threads, int) and metric in record.metrics:
            rates[threads] = record.metrics[metric].value
    return rates
