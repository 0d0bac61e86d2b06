"""Distribution-free intervals from order statistics: of a median, and of the shift between two samples.

- Median of one sample: order statistics, interpolated to the nominal level (Hettmansperger and
  Sheather, "Confidence intervals based on interpolated order statistics", 1986).
- Shift of paired samples: Hodges-Lehmann estimate, the median of the Walsh averages, with the interval
  of the signed-rank test (Hodges and Lehmann 1963; Tukey 1949).
- Shift of independent samples: Hodges-Lehmann estimate, the median of all differences, with the
  interval of the rank-sum test (Moses 1965).

All three count how many sorted values to leave out at each end. A count is a whole number, so its
coverage jumps; interpolating between the two counts next to the level yields the level. Below a certain
sample size even the whole range covers less than the level: it is then the interval, and ``coverage`` is
its actual coverage.
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
"""Above this number of pairs the signed-rank distribution is approximated by a normal one."""
EXACT_PRODUCT = 3600
"""Above this product of the two sample sizes the rank-sum distribution is approximated by a normal one."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval, in the unit of the values."""

    estimate: float
    low: float
    high: float
    coverage: float
    """Probability that the interval contains the true value; below ``LEVEL`` for too few values."""


def median_interval(values: Sequence[float], level: float = LEVEL) -> Interval | None:
    """The median and its interval. None for fewer than two values."""
    n = len(values)
    if n < 2:
        return None
    low, high, coverage = _interpolate_interval(sorted(values), lambda k: median_coverage(n, k), level)
    return Interval(median(values), low, high, coverage)


def paired_shift_interval(differences: Sequence[float], level: float = LEVEL) -> Interval | None:
    """The centre of paired differences and its interval. None for fewer than two."""
    n = len(differences)
    if n < 2:
        return None
    walsh = sorted((a + b) / 2 for a, b in itertools.combinations_with_replacement(differences, 2))
    low, high, coverage = _interpolate_interval(walsh, lambda k: _signed_rank_coverage(n, k), level)
    return Interval(median(walsh), low, high, coverage)


def shift_interval(a: Sequence[float], b: Sequence[float], level: float = LEVEL) -> Interval | None:
    """The shift from ``a`` to ``b``, independent samples. None if one has fewer than two values."""
    n, m = len(a), len(b)
    if min(n, m) < 2:
        return None
    differences = sorted(y - x for x in a for y in b)
    low, high, coverage = _interpolate_interval(differences, lambda k: _rank_sum_coverage(n, m, k), level)
    return Interval(median(differences), low, high, coverage)


def median_coverage(n: int, k: int) -> float:
    """P(k-th smallest ≤ true median ≤ k-th greatest) of n independent values of a continuous distribution."""
    return 1 - 2 * sum(math.comb(n, i) for i in range(k)) / float(2**n)


def _interpolate_interval(
    ordered: Sequence[float], coverage: Callable[[int], float], level: float
) -> tuple[float, float, float]:
    """The interval between the k-th smallest and the k-th greatest value, interpolated to the level.

    ``coverage`` falls with k.
    """
    max_k = (len(ordered) + 1) // 2
    k = _find_greatest(max_k, lambda candidate: coverage(candidate) >= level)
    if k == 0:
        return ordered[0], ordered[-1], coverage(1)
    if k == max_k:
        return ordered[k - 1], ordered[-k], coverage(k)
    outer, inner = coverage(k), coverage(k + 1)
    weight = _weight(len(ordered), k, (outer - level) / (outer - inner))
    low = ordered[k - 1] + weight * (ordered[k] - ordered[k - 1])
    high = ordered[-k] - weight * (ordered[-k] - ordered[-k - 1])
    return low, high, level


def _weight(n: int, k: int, share: float) -> float:
    """Weight of the (k + 1)-th value that takes ``share`` of the step in coverage (Hettmansperger, Sheather)."""
    return (n - k) * share / (k + (n - 2 * k) * share)


def _find_greatest(limit: int, condition: Callable[[int], bool]) -> int:
    """The greatest number from 1 to ``limit`` for which a monotonically falling condition holds; 0 if none."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if condition(middle) else (low, middle - 1)
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
        counts = [count + (counts[total - rank] if total >= rank else 0) for total, count in enumerate(counts)]
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
        for index in range(n * m, m + i - 1, -1):  # × (1 − q^(m+i))
            counts[index] -= counts[index - m - i]
        for index in range(i, n * m + 1):  # ÷ (1 − q^i)
            counts[index] += counts[index - i]
    return tuple(counts)


def _normal_coverage(k: int, mean: float, variance: float) -> float:
    return 1 - 2 * NormalDist(mean, math.sqrt(variance)).cdf(k - 0.5)
