"""From turns to figures, for whoever needs the rates of a few turns alone."""

from __future__ import annotations

from collections.abc import Sequence

from edgebench.core import RoundData, Turn
from edgebench.judging import metrics


def rates(turns: Sequence[Turn]) -> dict[str, float]:
    """Those metrics of some turns that follow from turns alone."""
    found, _ = metrics.compute([*metrics.rates.METRICS, *metrics.speculation.METRICS], RoundData(turns))
    return found
