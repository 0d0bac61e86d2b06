"""Statistics over rounds: medians and their intervals, and comparisons of two sets of rounds.

The methods are in ``intervals``; here they are applied to rounds with gaps, and to rates, which are
compared on a logarithmic scale: a ratio is a difference of logarithms. The interval of five rounds is
their range: it contains the true median in 94 % of cases, of four rounds in 88 %, of three in 75 %, of two
in 50 %. Such an interval has a note.
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
    position = share * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two middle ones."""
    return percentile(values, 0.5)


def spread(values: Sequence[float]) -> float | None:
    """Sample standard deviation ÷ |median|; None for fewer than two rounds or a median of 0."""
    center = median(values) if values else 0.0
    if len(values) < 2 or center == 0:
        return None
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)) / abs(center)


def interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float] | None:
    """The interval of the median; the whole range below five values. None for fewer than two."""
    result = intervals.median_interval(values, level)
    return (result.low, result.high) if result else None


def half_width(rounds: Sequence[Round], names: Sequence[str] = ("decode_tps", "prefill_tps")) -> float:
    """Half the interval of the first of these metrics that was measured, as a share of its median.

    Infinite without an interval.
    """
    for name in names:
        values = [round_.metrics[name] for round_ in rounds if name in round_.metrics]
        if values:
            limits = interval(values)
            center = median(values)
            return (limits[1] - limits[0]) / 2 / center if limits and center > 0 else math.inf
    return math.inf


def coverage(rounds: int) -> float:
    """Probability that the range of this number of rounds contains the true median."""
    return 1 - 0.5 ** (rounds - 1)


def summarise(rounds: Sequence[float | None], unit: str, *, note: str = "") -> Metric:
    """Median, interquartile range and interval of a metric's rounds.

    None and values that are not finite are rounds without a value: stored as None, not counted.
    Raises ``ValueError`` if no round has a value: such a metric is absent from its record.
    """
    clean_rounds = tuple(value if value is not None and math.isfinite(value) else None for value in rounds)
    values = [float(value) for value in clean_rounds if value is not None]
    if not values:
        raise ValueError("no round has a value")
    limits = interval(values)
    if limits and len(values) < FEW:
        caveat = f"the interval of {len(values)} rounds holds the true median in {coverage(len(values)):.0%} of cases"
        note = f"{note}; {caveat}" if note else caveat
    return Metric(
        value=median(values),
        unit=unit,
        rounds=clean_rounds,
        low=limits[0] if limits else None,
        high=limits[1] if limits else None,
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
    """Number of pairs of rounds; unpaired: of the smaller side."""
    paired: bool

    @property
    def few(self) -> bool:
        """Whether there are fewer rounds than a verdict needs."""
        return self.rounds < FEW

    @property
    def verdict(self) -> Verdict:
        """Whether b is higher or lower than a, or no difference was shown.

        Fewer than five rounds show no difference: by chance alone, three pairs have the same order in one
        case of four.
        """
        if self.low is None or self.high is None or self.few or self.low <= 1 <= self.high:
            return "no difference shown"
        return "lower" if self.high < 1 else "higher"


def compare_paired(a: Sequence[float | None], b: Sequence[float | None]) -> Change | None:
    """The ratio b ÷ a over the rounds that both have: the Hodges-Lehmann estimate of its logarithm.

    None where no round has a positive reading on both sides.
    """
    ratios = [math.log(y) - math.log(x) for x, y in zip(a, b, strict=False) if x and y and x > 0 and y > 0]
    if not ratios:
        return None
    return _ratio_change(intervals.paired_shift_interval(ratios), ratios[0], len(ratios), paired=True)


def compare_unpaired(a: Sequence[float | None], b: Sequence[float | None]) -> Change | None:
    """The ratio b ÷ a of independent rounds: the Hodges-Lehmann estimate of its logarithm.

    None if one side has no positive value.
    """
    xs = [math.log(x) for x in a if x is not None and x > 0]
    ys = [math.log(y) for y in b if y is not None and y > 0]
    if not xs or not ys:
        return None
    return _ratio_change(intervals.shift_interval(xs, ys), median(ys) - median(xs), min(len(xs), len(ys)), paired=False)


def _ratio_change(shift: intervals.Interval | None, default: float, rounds: int, *, paired: bool) -> Change:
    """A shift of logarithms as a ratio; ``default``: the shift if there are too few values for an interval."""
    if shift is None:
        return Change(_ratio(default), None, None, rounds, paired)
    return Change(_ratio(shift.estimate), _ratio(shift.low), _ratio(shift.high), rounds, paired)


def _ratio(logarithm: float) -> float:
    """The exponential, infinite on overflow."""
    try:
        return math.exp(logarithm)
    except OverflowError:
        return math.inf
