"""Statistics over rounds: medians and their intervals, and comparisons of two sets of rounds.

The methods are in ``intervals``; here they are applied to rounds with gaps, and to rates, which are
compared on a logarithmic scale: a ratio is a difference of logarithms. Five rounds can say no more than
their extremes: that interval holds the true median in 94 % of cases, of four rounds in 88 %, of three in
75 %, of two in 50 %. Such an interval carries a note.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edgebench.core import Metric, Round
from edgebench.judging import intervals

LEVEL = intervals.LEVEL
FEW = 5
"""Fewer rounds than this cannot carry a 95 % interval of the median."""


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


def interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float] | None:
    """The interval of the median; the whole range below five values. None for fewer than two."""
    result = intervals.of_median(values, level)
    return (result.low, result.high) if result else None


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
    """The ratio b ÷ a over the rounds that both have: the Hodges-Lehmann estimate of its logarithm.

    None where no round has a positive reading on both sides.
    """
    ratios = [math.log(y) - math.log(x) for x, y in zip(a, b, strict=False) if x and y and x > 0 and y > 0]
    if not ratios:
        return None
    return _change(intervals.of_paired_shift(ratios), ratios[0], len(ratios), paired=True)


def unpaired(a: Sequence[float | None], b: Sequence[float | None]) -> Change | None:
    """The ratio b ÷ a of rounds that share nothing: the Hodges-Lehmann estimate of its logarithm.

    None where one side has no positive reading.
    """
    xs = [math.log(x) for x in a if x is not None and x > 0]
    ys = [math.log(y) for y in b if y is not None and y > 0]
    if not xs or not ys:
        return None
    return _change(intervals.of_shift(xs, ys), median(ys) - median(xs), min(len(xs), len(ys)), paired=False)


def _change(shift: intervals.Interval | None, alone: float, rounds: int, *, paired: bool) -> Change:
    """A shift of logarithms as a ratio; ``alone``: the shift where there are too few values for an interval."""
    if shift is None:
        return Change(_ratio(alone), None, None, rounds, paired)
    return Change(_ratio(shift.estimate), _ratio(shift.low), _ratio(shift.high), rounds, paired)


def _ratio(logarithm: float) -> float:
    """The ratio of which this is the logarithm; infinite where it is larger than any number."""
    try:
        return math.exp(logarithm)
    except OverflowError:
        return math.inf
