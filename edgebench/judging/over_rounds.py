"""The metrics of a trial over its rounds."""

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
    ordered = sorted(rounds, key=lambda one: one.index)
    regime = load_regime(ordered)
    names = dict.fromkeys(name for one in ordered for name in one.metrics)
    found: dict[str, Metric] = {}
    for name in names:
        load = name.startswith("load")
        values = [
            one.metrics.get(name) if not load or (one.fresh and one.notes.load_regime == regime) else None
            for one in ordered
        ]
        if any(value is not None and math.isfinite(value) for value in values):
            found[name] = summarise(values, metrics.find(name).unit, note=str(regime or "") if load else "")
    return found


def load_regime(rounds: Sequence[Round]) -> str | None:
    """The regime (first, cold, warm) of the starts that count; None where nothing is known."""
    regimes = [one.notes.load_regime for one in rounds if one.fresh]
    # Of equally frequent ones the last: a run ends warmer than it began.
    return max(reversed(regimes), key=regimes.count, default=None)
