"""A rate over minutes: its burst, and whether and where it settled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgebench.judging.stats import median, percentile


@dataclass(frozen=True)
class Steadiness:
    """A rate in its first window and once it has settled. Rates in their own unit, times in s."""

    burst: float
    """Median of the first window."""
    sustained: float | None
    """Median of the last windows when they are level; None: it never settled."""
    slope: float | None
    """Relative change per window over the last windows; None: too short to tell."""


def settled(
    times: Sequence[float], rates: Sequence[float], *, window: float = 30.0, windows: int = 3, level: float = 0.01
) -> Steadiness | None:
    """Burst and sustained rate of a series. None for an empty one.

    Settled means: a straight line through the medians of the last ``windows`` windows changes by
    less than ``level`` of their mean per window, or by no more than the scatter within the windows
    makes it change by chance. The burst window itself never counts among them.
    """
    if not times:
        return None
    start = times[0]
    bins: dict[int, list[float]] = {}
    for at, rate in zip(times, rates, strict=True):
        bins.setdefault(int((at - start) // window), []).append(rate)
    burst = median(bins[0])
    # The last window counts only when it is full: the series reaches its end.
    full = [index for index in sorted(bins) if index > 0 and times[-1] - start >= (index + 1) * window - window * 0.1]
    last = full[-windows:]
    if len(last) < windows:
        return Steadiness(burst, None, None)
    middles = [median(bins[index]) for index in last]
    mean = math.fsum(middles) / windows
    centre = math.fsum(last) / windows
    rise = math.fsum((x - centre) * (y - mean) for x, y in zip(last, middles, strict=True))
    length = math.fsum((x - centre) ** 2 for x in last)
    slope = rise / length / mean if mean else math.inf
    by_chance = math.fsum((x - centre) ** 2 * _median_error(bins[x]) ** 2 for x in last) ** 0.5 / length
    level_enough = abs(slope) < max(level, 2 * by_chance / mean if mean else 0)
    return Steadiness(burst, median([rate for i in last for rate in bins[i]]) if level_enough else None, slope)


def _median_error(values: Sequence[float]) -> float:
    """The standard error of a median, from the interquartile range as if the values were normal ones."""
    deviation = (percentile(values, 0.75) - percentile(values, 0.25)) / 1.349
    return math.sqrt(math.pi / 2 / len(values)) * deviation
