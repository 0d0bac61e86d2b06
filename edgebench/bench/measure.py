"""Computes metrics from turns alone."""

from __future__ import annotations

from collections.abc import Sequence

from edgebench.core import RoundData, Turn
from edgebench.judging import metrics


def rates(turns: Sequence[Turn]) -> dict[str, float]:
    """The rates and speculation metrics of some turns."""
    values, _ = metrics.compute([*metrics.rates.METRICS, *metrics.speculation.METRICS], RoundData(turns))
    return values
