"""A record's metrics for display: in the units of their definitions, with derived ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import isfinite

from edgebench.core import Metric, Record
from edgebench.judging import metrics


def metric(record: Record, name: str) -> Metric | None:
    """A metric with a finite value, else None; ``s_per_token`` is derived from the decode rate."""
    if name == "s_per_token":
        rate = metric(record, "decode_tps")
        if rate is None or rate.value <= 0:
            return None
        low = 1 / rate.high if rate.high else None
        high = 1 / rate.low if rate.low else None
        return replace(rate, value=1 / rate.value, low=low, high=high, unit="s", rounds=(), iqr=None)
    stored = record.metrics.get(name)
    if stored is None or not isfinite(stored.value):
        return None
    stored = replace(stored, unit=metrics.unit(name, stored.unit))
    has_interval = all(limit is not None and isfinite(limit) for limit in (stored.low, stored.high))
    return stored if has_interval else replace(stored, low=None, high=None)


def metrics_of(record: Record) -> Iterator[tuple[str, Metric]]:
    """Every measured metric of a record, in the order and units of their definitions."""
    for name, value in sorted(record.metrics.items(), key=lambda item: metrics.sort_key(item[0])):
        yield name, replace(value, unit=metrics.unit(name, value.unit))


def footprint(record: Record) -> Metric | None:
    return metric(record, "peak_footprint_b") or metric(record, "peak_rss_b")
