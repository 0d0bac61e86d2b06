"""Burst and sustained rate of a series over minutes, and whether the rate settled.

Whether a rate is level is a question of equivalence: the interval of its slope has to lie within the
margin. That no slope was shown proves nothing, for noise hides one. Neighbouring readings are alike
(heat, clocks and other programs change slowly), so the standard error counts only as many readings as
are worth independent ones: n (1 − r) ÷ (1 + r), r the lag-1 autocorrelation of the residuals (Santer et
al., "Statistical significance of trends", J. Geophys. Res. 105, 2000), r corrected for its bias in short
series (Kendall 1954).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean
from typing import Literal

from edgebench.judging.stats import median

WINDOW_S = 30.0
WINDOWS = 3
"""Windows at the end whose slope decides."""
LEVEL_MARGIN = 0.01
"""Relative change per window within which a rate counts as level."""
CONFIDENCE = 0.90
"""Of the slope's interval: two one-sided tests at 5 % each (Schuirmann 1987)."""
MAX_CORRELATION = 0.95
MIN_INDEPENDENT = 4.0
"""A smooth curve leaves residuals that are all alike, however small they are: two degrees of freedom remain."""

State = Literal["settled", "changing", "uncertain"]


@dataclass(frozen=True)
class Slope:
    """Relative change per window, with half the width of its interval."""

    value: float
    half_width: float

    @property
    def state(self) -> State:
        """``settled``: within ± ``LEVEL_MARGIN``; ``changing``: outside it; ``uncertain``: the interval holds both."""
        low, high = self.value - self.half_width, self.value + self.half_width
        if low > -LEVEL_MARGIN and high < LEVEL_MARGIN:
            return "settled"
        return "changing" if low > LEVEL_MARGIN or high < -LEVEL_MARGIN else "uncertain"


@dataclass(frozen=True)
class Steadiness:
    """A rate in its first window and at its end. Rates in their own unit."""

    burst: float
    """Median of the first window."""
    sustained: float | None
    """Median of the last windows if the rate settled, else None."""
    slope: Slope | None
    """Over the last windows; None if the series is too short."""


def assess(times: Sequence[float], rates: Sequence[float]) -> Steadiness | None:
    """Burst and sustained rate of a series; ``times`` in seconds. None for an empty one.

    The burst window never counts among the last ones: a series needs ``WINDOWS`` full windows after it.
    """
    if not times:
        return None
    start, end = times[0], times[-1]
    burst = median([rate for at, rate in zip(times, rates, strict=True) if at - start < WINDOW_S])
    begin = end - WINDOWS * WINDOW_S
    if begin < start + 0.9 * WINDOW_S:  # a reading a second leaves the last window a second short
        return Steadiness(burst, None, None)
    last = [(at, rate) for at, rate in zip(times, rates, strict=True) if at >= begin]
    slope = slope_of([at for at, _ in last], [rate for _, rate in last])
    level = median([rate for _, rate in last]) if slope is not None and slope.state == "settled" else None
    return Steadiness(burst, level, slope)


def slope_of(times: Sequence[float], rates: Sequence[float]) -> Slope | None:
    """The least-squares slope per window relative to the mean. None for fewer than three values or a mean of 0."""
    n = len(times)
    mean = fmean(rates) if rates else 0.0
    if n < 3 or mean <= 0:
        return None
    centre = fmean(times)
    length = math.fsum((at - centre) ** 2 for at in times)
    rise = math.fsum((at - centre) * (rate - mean) for at, rate in zip(times, rates, strict=True)) / length
    residuals = [rate - mean - rise * (at - centre) for at, rate in zip(times, rates, strict=True)]
    squares = math.fsum(residual**2 for residual in residuals)
    independent = max(MIN_INDEPENDENT, _independent(residuals, squares))
    scale = WINDOW_S / mean
    error = math.sqrt(squares / (independent - 2) / length)
    return Slope(rise * scale, _t_quantile((1 + CONFIDENCE) / 2, independent - 2) * error * scale)


def _independent(residuals: Sequence[float], squares: float) -> float:
    """Effective number of independent values in the residuals."""
    n = len(residuals)
    if squares <= 0:
        return n
    lag_correlation = math.fsum(a * b for a, b in itertools.pairwise(residuals)) / squares
    correlation = max(0.0, lag_correlation)
    correlation = min(MAX_CORRELATION, correlation + (1 + 4 * correlation) / n)
    return n * (1 - correlation) / (1 + correlation)


def _t_quantile(p: float, freedom: float) -> float:
    """Student's quantile by its Cornish-Fisher expansion (Abramowitz and Stegun 26.7.5)."""
    z = NormalDist().inv_cdf(p)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))
