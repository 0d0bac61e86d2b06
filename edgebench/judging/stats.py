"""Statistics over rounds: medians, bootstrap intervals, paired comparisons.

The interval of a median is the percentile bootstrap interval, its tails expanded for few rounds
(Hesterberg, "What teachers should know about the bootstrap", 2015): without that, seven rounds hold
the true median in 88 % of cases, with it in 98 %. The distribution of the median over all resamples
of n rounds is a sum over order statistics (Efron 1979; Maritz and Jarrett 1978), so it is computed
exactly: no random numbers, the same rounds always give the same interval.

Five rounds can say no more than their extremes: the interval is then from the least to the greatest
round, and it holds the true median in 94 % of cases. Of four rounds it is 88 %, of three 75 %, of
two 50 %; such an interval carries a note. BCa intervals would promise more than so few rounds hold.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

from edgebench.core import Metric, Round
from edgebench.judging import metrics

LEVEL = 0.95
FEW = 5
"""Fewer rounds than this cannot carry a 95 % interval of the median."""

_RESAMPLES = 10_000


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` (0…1) of the values lie, interpolated (Hyndman-Fan 7)."""
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    below = math.floor(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (at - below) * (ordered[above] - ordered[below])


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two middle ones."""
    return percentile(values, 0.5)


def spread(values: Sequence[float]) -> float | None:
    """Sample standard deviation ÷ |median|; None for fewer than two rounds or a median of 0."""
    middle = median(values) if values else 0.0
    if len(values) < 2 or middle == 0:
        return None
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)) / abs(middle)


def _medians(values: Sequence[float]) -> list[tuple[float, float]]:
    """(median of a resample, its probability) for all resamples of ``values``, ascending."""
    ordered = sorted(values)
    n = len(ordered)
    half = (n + 1) // 2
    # P(at least ``half`` of n draws are among the i least): the middle draw is at most the i-th.
    upto = [_at_least(half, n, i / n) for i in range(n + 1)]
    single = [upto[i + 1] - upto[i] for i in range(n)]
    if n % 2:
        return list(zip(ordered, single, strict=True))
    atoms: list[tuple[float, float]] = []
    ways = math.lgamma(n + 1) - 2 * math.lgamma(half + 1)
    # [i]: log of the share of half the draws that lie at most at the i-th with the i-th among them.
    lower = [_log(((i + 1) / n) ** half - (i / n) ** half) for i in range(n)]
    for i in range(n):
        left = single[i]
        for j in range(i + 1, n):
            # Half of the draws end at the i-th, the other half begin at the j-th (the mirror of lower).
            weight = math.exp(ways + lower[i] + lower[n - 1 - j])
            left -= weight
            atoms.append(((ordered[i] + ordered[j]) / 2, weight))
        atoms.append((ordered[i], max(left, 0.0)))
    return sorted(atoms)


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def _at_least(k: int, n: int, p: float) -> float:
    """P(Binomial(n, p) ≥ k)."""
    if p in (0, 1):
        return p
    log = [math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) for i in range(k, n + 1)]
    return math.fsum(
        math.exp(ways + i * math.log(p) + (n - i) * math.log(1 - p)) for i, ways in enumerate(log, start=k)
    )


def interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float] | None:
    """The percentile bootstrap interval of the median; None for fewer than two values."""
    if len(values) < 2:
        return None
    atoms = _medians(values)
    tail = _tail(len(values), level)
    return _quantile(atoms, tail), _quantile([*reversed(atoms)], tail)


def _tail(n: int, level: float) -> float:
    """The share cut off at each end: Φ(−√(n/(n−1)) t), t Student's quantile (Cornish-Fisher)."""
    normal = NormalDist()
    z, free = normal.inv_cdf((1 + level) / 2), n - 1
    t = z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
    return normal.cdf(-math.sqrt(n / free) * t)


def _quantile(atoms: Iterable[tuple[float, float]], share: float) -> float:
    total, end = 0.0, math.nan
    for value, weight in atoms:
        end = value
        total += weight
        if total > share:
            break
    return end


def half_width(rounds: Sequence[Round], names: Sequence[str] = ("decode_tps", "prefill_tps")) -> float:
    """Half the interval of the first of these metrics that there is, as a share of its median.

    Infinite where there is no interval yet.
    """
    for name in names:
        values = [one.metrics[name] for one in rounds if name in one.metrics]
        if values:
            found = interval(values)
            middle = median(values)
            return (found[1] - found[0]) / 2 / middle if found and middle > 0 else math.inf
    return math.inf


def coverage(rounds: int) -> float:
    """The share of cases in which [least, greatest] of so many rounds holds the true median."""
    return 1 - 0.5 ** (rounds - 1)


def summarise(rounds: Sequence[float | None], unit: str, *, note: str = "") -> Metric:
    """Median, interquartile range and interval of a metric's rounds.

    None and values that are not finite are rounds without a reading: kept as None, not counted.
    Raises ``ValueError`` when no round has a reading: such a metric is absent from its record.
    """
    kept = tuple(value if value is not None and math.isfinite(value) else None for value in rounds)
    values = [float(value) for value in kept if value is not None]
    if not values:
        raise ValueError("no round has a reading")
    ends = interval(values)
    if ends and len(values) < FEW:
        few = f"the interval of {len(values)} rounds holds the true median in {coverage(len(values)):.0%} of cases"
        note = f"{note}; {few}" if note else few
    return Metric(
        value=median(values),
        unit=unit,
        rounds=kept,
        low=ends[0] if ends else None,
        high=ends[1] if ends else None,
        iqr=percentile(values, 0.75) - percentile(values, 0.25) if len(values) > 1 else None,
        note=note,
    )


def over_rounds(rounds: Sequence[Round]) -> dict[str, Metric]:
    """Every metric of a trial over its rounds; ``rounds[i]`` of each metric is the i-th round.

    ``load…`` metrics count only in rounds that started the engine, and of those only in the rounds
    of one regime (``notes["load_regime"]``: first, cold or warm), the most frequent one.
    """
    ordered = sorted(rounds, key=lambda one: one.index)
    regime = load_regime(ordered)
    names = dict.fromkeys(name for one in ordered for name in one.metrics)
    found: dict[str, Metric] = {}
    for name in names:
        load = name.startswith("load")
        values = [
            one.metrics.get(name) if not load or (one.fresh and one.notes.get("load_regime") == regime) else None
            for one in ordered
        ]
        if any(value is not None and math.isfinite(value) for value in values):
            found[name] = summarise(values, metrics.find(name).unit, note=str(regime or "") if load else "")
    return found


def load_regime(rounds: Sequence[Round]) -> str | None:
    """The regime (first, cold, warm) of the starts that count; None where nothing is known."""
    regimes = [one.notes.get("load_regime") for one in rounds if one.fresh]
    # Of equally frequent ones the last: a run ends warmer than it began.
    return max(reversed(regimes), key=regimes.count, default=None)


# --- comparison ------------------------------------------------------------------------------

Verdict = Literal["lower", "higher", "no difference shown"]


@dataclass(frozen=True)
class Change:
    """From a to b: ``ratio`` − 1 is the relative change; the interval is of the ratio."""

    ratio: float
    low: float | None
    high: float | None
    rounds: int
    """Pairs of rounds, or the fewer of the two sides where they are not paired."""
    paired: bool

    @property
    def few(self) -> bool:
        """Whether there are fewer rounds than a verdict needs."""
        return self.rounds < FEW

    @property
    def verdict(self) -> Verdict:
        """Whether b lies above or below a, or that no difference was shown.

        Fewer than five rounds show no difference: chance alone orders three pairs alike in one
        case of four.
        """
        if self.low is None or self.high is None or self.few or self.low <= 1 <= self.high:
            return "no difference shown"
        return "lower" if self.high < 1 else "higher"


def paired(a: Sequence[float | None], b: Sequence[float | None]) -> Change | None:
    """The median of b ÷ a over the rounds that both have. None where there is none."""
    ratios = [y / x for x, y in zip(a, b, strict=False) if x and y is not None and x > 0]
    if not ratios:
        return None
    low, high = interval(ratios) or (None, None)
    return Change(median(ratios), low, high, len(ratios), paired=True)


def unpaired(a: Sequence[float | None], b: Sequence[float | None]) -> Change | None:
    """Median of b ÷ median of a, for rounds that have nothing to do with one another."""
    xs = [x for x in a if x is not None and x > 0]
    ys = [y for y in b if y is not None]
    if not xs or not ys:
        return None
    ratio = median(ys) / median(xs)
    rounds = min(len(xs), len(ys))
    if rounds < 2:
        return Change(ratio, None, None, rounds, paired=False)
    chance = random.Random(0)  # noqa: S311 - a resample, not a secret; fixed, so that equal rounds give equal intervals
    drawn = [
        chance.choices([value for value, _ in atoms], [weight for _, weight in atoms], k=_RESAMPLES)
        for atoms in (_medians(xs), _medians(ys))
    ]
    ratios = [y / x for x, y in zip(*drawn, strict=True)]
    tail = _tail(rounds, LEVEL)
    return Change(ratio, percentile(ratios, tail), percentile(ratios, 1 - tail), rounds, paired=False)
