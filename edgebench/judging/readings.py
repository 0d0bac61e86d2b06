"""A record's metrics as they are read: each in its entry's unit, and what follows from others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import isfinite

from edgebench.core import Metric, Record
from edgebench.judging import metrics


def metric(record: Record, name: str) -> Metric | None:
    """A metric that holds a number; ``s_per_token`` is derived from the decode rate."""
    if name == "s_per_token":
        rate = metric(record, "decode_tps")
        if rate is None or rate.value <= 0:
            return None
        low = 1 / rate.high if rate.high else None
        high = 1 / rate.low if rate.low else None
        return replace(rate, value=1 / rate.value, low=low, high=high, unit="s", rounds=(), iqr=None)
    found = record.metrics.get(name)
    if found is None or not isfinite(found.value):
        return None
    found = replace(found, unit=metrics.unit(name, found.unit))
    sure = all(end is not None and isfinite(end) for end in (found.low, found.high))
    return found if sure else replace(found, low=None, high=None)


def metrics_of(record: Record) -> Iterator[tuple[str, Metric]]:
    """Every metric of a record as it was measured, in the order of their entries, each in its entry's unit."""
    for name, found in sorted(record.metrics.items(), key=lambda item: metrics.place(item[0])):
        yield name, replace(found, unit=metrics.unit(name, found.unit))


def footprint(record: Record) -> Metric | None:
    return metric(record, "peak_footprint_b") or metric(record, "peak_rss_b")
