"""Headline metrics as table cells."""

from __future__ import annotations

from collections.abc import Sequence

from edgebench.core import Metric, MetricDefinition, Record
from edgebench.judging import metrics
from edgebench.judging.readings import metric
from edgebench.views import units


def measured_metrics(records: Sequence[Record]) -> list[MetricDefinition]:
    """The headline metrics that any of these records has, most important first."""
    return [entry for entry in metrics.headline() if any(metric(record, entry.name) for record in records)]


def metric_cell(record: Record, entry: MetricDefinition) -> tuple[str, str]:
    """A value and its interval, ``("42.1", "41.2–43.0")``; a dash if it was not measured."""
    value = metric(record, entry.name)
    return ("–", "") if value is None else format_value(value, entry)


def format_value(value: Metric, entry: MetricDefinition) -> tuple[str, str]:
    """A value and its interval, without the unit if the column's heading contains it."""
    factor = _factor(entry)
    if factor is None:
        return units.quantity(value.value, value.unit), units.interval(value)
    ends = [units.number(end / factor) for end in (value.low, value.high) if end is not None]
    return units.number(value.value / factor), "–".join(ends)


def _factor(entry: MetricDefinition) -> float | None:
    """The divisor for the unit in the column's heading; None if it has no unit."""
    words = entry.column.split()
    if entry.unit in words:
        return 1.0
    return 1e-3 if entry.unit == "s" and "ms" in words else None


def capitalized(heading: str) -> str:
    """A heading with a capital first letter, unless it starts with a unit."""
    return heading if heading.startswith("ms ") else heading[:1].upper() + heading[1:]
