"""The figures that every table shows first, and how each is written there."""

from __future__ import annotations

from edgebench.core import Record
from edgebench.views import units
from edgebench.views.fields import metric

TITLES = {
    "peak_footprint_b": "memory footprint",
    "load_s": "load time",
    "decode_tps": "tokens/s",
    "s_per_token": "ms per token",
    "ttft_s": "first token",
    "prefill_tps": "prefill tokens/s",
}
"""In the order they are shown; where there is no room the last ones go first."""

_FACTORS = {"decode_tps": 1.0, "s_per_token": 1e-3, "prefill_tps": 1.0}
"""Where the heading holds the unit: a column of numbers is easier to read down."""


def figure(record: Record, name: str) -> tuple[str, str]:
    """A figure and its interval, ``("42.1", "41.2–43.0")``; a dash where it wasn't measured."""
    found = metric(record, name)
    if found is None:
        return "–", ""
    if name not in _FACTORS:
        return units.quantity(found.value, found.unit), units.interval(found)
    ends = [units.number(end / _FACTORS[name]) for end in (found.low, found.high) if end is not None]
    return units.number(found.value / _FACTORS[name]), "–".join(ends)
