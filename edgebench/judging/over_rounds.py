"""Aggregates the metrics of a trial over its rounds."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgebench.core import Metric, Round
from edgebench.judging import metrics
from edgebench.judging.stats import summarise


def over_rounds(rounds: Sequence[Round]) -> dict[str, Metric]:
    """Every metric of a trial over its rounds; ``rounds[i]`` of each metric is the i-th round.

    ``load…`` metrics count only in rounds that started the engine, and of those only in the rounds
    of one regime (``notes.load_regime``: first, cold or warm), the most frequent one.
    """
    ordered = sorted(rounds, key=lambda round_: round_.index)
    regime = load_regime(ordered)
    names = dict.fromkeys(name for round_ in ordered for name in round_.metrics)
    result: dict[str, Metric] = {}
    for name in names:
        is_load = name.startswith("load")
        values = [
            round_.metrics.get(name) if not is_load or (round_.fresh and round_.notes.load_regime == regime) else None
            for round_ in ordered
        ]
        if any(value is not None and math.isfinite(value) for value in values):
            result[name] = summarise(values, metrics.find(name).unit, note=str(regime or "") if is_load else "")
    return result


def load_regime(rounds: Sequence[Round]) -> str | None:
    """The most frequent regime (first, cold, warm) of fresh starts; None if unknown."""
    regimes = [round_.notes.load_regime for round_ in rounds if round_.fresh]
    # The last of equally frequent ones, as a run ends warmer than it began.
    return max(reversed(regimes), key=regimes.count, default=None)
