"""Distribution-free intervals from order statistics: of a median, and of the shift between two samples.

- Median of one sample: order statistics, interpolated to the nominal level (Hettmansperger and
  Sheather, "Confidence intervals based on interpolated order statistics", 1986).
- Shift of paired samples: Hodges-Lehmann estimate, the median of the Walsh averages, with the interval
  of the signed-rank test (Hodges and Lehmann 1963; Tukey 1949).
- Shift of independent samples: Hodges-Lehmann estimate, the median of all differences, with the
  interval of the rank-sum test (Moses 1965).

All three count how many sorted values to leave out at each end. A count is a whole number, so its
coverage jumps; interpolating between the two counts next to the level brings it to the level. Below a
certain sample size even leaving out none covers less than the level: the interval is then the whole
range, and ``coverage`` says what it is worth.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist, median

LEVEL = 0.95

EXACT_PAIRS = 60
"""Above so many pairs the signed-rank distribution is taken as normal."""
EXACT_PRODUCT = 3600
"""Above this product of the two sample sizes the rank-sum distribution is taken as normal."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval, in the unit of the values."""

    estimate: float
    low: float
    high: float
    coverage: float
    """Probability that the interval holds the true value; below ``LEVEL`` where values are too few."""


def of_median(values: Sequence[float], level: float = LEVEL) -> Interval | None:
    """The median and its interval. None for fewer than two values."""
    n = len(values)
    if n < 2:
        return None
    low, high, coverage = _cut(sorted(values), lambda k: median_coverage(n, k), level)
    return Interval(median(values), low, high, coverage)


def of_paired_shift(differences: Sequence[float], level: float = LEVEL) -> Interval | None:
    """The centre of paired differences and its interval. None for fewer than two."""
    n = len(differences)
    if n < 2:
        return None
    walsh = sorted((a + b) / 2 for a, b in itertools.combinations_with_replacement(differences, 2))
    low, high, coverage = _cut(walsh, lambda k: _signed_rank_coverage(n, k), level)
    return Interval(median(walsh), low, high, coverage)


def of_shift(a: Sequence[float], b: Sequence[float], level: float = LEVEL) -> Interval | None:
    """By how much ``b`` lies above ``a``, samples that share nothing. None where one has fewer than two values."""
    n, m = len(a), len(b)
    if min(n, m) < 2:
        return None
    differences = sorted(y - x for x in a for y in b)
    low, high, coverage = _cut(differences, lambda k: _rank_sum_coverage(n, m, k), level)
    return Interval(median(differences), low, high, coverage)


def median_coverage(n: int, k: int) -> float:
    """P(k-th smallest ≤ true median ≤ k-th greatest) of n independent values of a continuous distribution."""
    return 1 - 2 * sum(math.comb(n, i) for i in range(k)) / float(2**n)


def _cut(ordered: Sequence[float], coverage: Callable[[int], float], level: float) -> tuple[float, float, float]:
    """The interval between the k-th smallest and the k-th greatest value, interpolated to the level.

    ``coverage`` falls with k.
    """
    most = (len(ordered) + 1) // 2
    k = _greatest(most, lambda candidate: coverage(candidate) >= level)
    if k == 0:
        return ordered[0], ordered[-1], coverage(1)
    if k == most:
        return ordered[k - 1], ordered[-k], coverage(k)
    outer, inner = coverage(k), coverage(k + 1)
    weight = _weight(len(ordered), k, (outer - level) / (outer - inner))
    low = ordered[k - 1] + weight * (ordered[k] - ordered[k - 1])
    high = ordered[-k] - weight * (ordered[-k] - ordered[-k - 1])
    return low, high, level


def _weight(n: int, k: int, share: float) -> float:
    """Weight of the (k + 1)-th value that takes ``share`` of the step in coverage (Hettmansperger, Sheather)."""
    return (n - k) * share / (k + (n - 2 * k) * share)


def _greatest(most: int, holds: Callable[[int], bool]) -> int:
    """The greatest number from 1 to ``most`` for which a falling condition holds; 0 where it never does."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def _signed_rank_coverage(n: int, k: int) -> float:
    if n > EXACT_PAIRS:
        return _normal_coverage(k, n * (n + 1) / 4, n * (n + 1) * (2 * n + 1) / 24)
    return 1 - 2 * sum(_signed_rank_counts(n)[:k]) / float(2**n)


@cache
def _signed_rank_counts(n: int) -> tuple[int, ...]:
    """Ways in which the ranks 1…n with a sign each sum to 0, 1, 2 … over the positive ones."""
    counts = [1] + [0] * (n * (n + 1) // 2)
    for rank in range(1, n + 1):
        counts = [count + (counts[at - rank] if at >= rank else 0) for at, count in enumerate(counts)]
    return tuple(counts)


def _rank_sum_coverage(n: int, m: int, k: int) -> float:
    if n * m > EXACT_PRODUCT:
        return _normal_coverage(k, n * m / 2, n * m * (n + m + 1) / 12)
    return 1 - 2 * sum(_rank_sum_counts(*sorted((n, m)))[:k]) / math.comb(n + m, n)


@cache
def _rank_sum_counts(n: int, m: int) -> tuple[int, ...]:
    """Orders of n and m values by their number of inversions: the Gaussian binomial coefficient's terms."""
    counts = [1] + [0] * (n * m)
    for i in range(1, n + 1):
        for at in range(n * m, m + i - 1, -1):  # × (1 − q^(m+i))
            counts[at] -= counts[at - m - i]
        for at in range(i, n * m + 1):  # ÷ (1 − q^i)
            counts[at] += counts[at - i]
    return tuple(counts)


def _normal_coverage(k: int, mean: float, variance: float) -> float:
    return 1 - 2 * NormalDist(mean, math.sqrt(variance)).cdf(k - 0.5)
