"""The headline metrics as every table shows them."""

from __future__ import annotations

from collections.abc import Sequence

from edgebench.core import Metric, MetricDefinition, Record
from edgebench.judging import metrics
from edgebench.judging.readings import metric
from edgebench.views import units


def measured(records: Sequence[Record]) -> list[MetricDefinition]:
    """The headline metrics that any of these records has, in their order.

    Where there is no room the last ones go first.
    """
    return [entry for entry in metrics.headline() if any(metric(record, entry.name) for record in records)]


def figure(record: Record, entry: MetricDefinition) -> tuple[str, str]:
    """A figure and its interval, ``("42.1", "41.2–43.0")``; a dash where it wasn't measured."""
    found = metric(record, entry.name)
    return ("–", "") if found is None else written(found, entry)


def written(found: Metric, entry: MetricDefinition) -> tuple[str, str]:
    """A value and its interval, without the unit where the column's heading holds it: a column of numbers
    is easier to read down."""
    factor = _factor(entry)
    if factor is None:
        return units.quantity(found.value, found.unit), units.interval(found)
    ends = [units.number(end / factor) for end in (found.low, found.high) if end is not None]
    return units.number(found.value / factor), "–".join(ends)


def _factor(entry: MetricDefinition) -> float | None:
    """What values are divided by for the unit that their heading names; None where it names none."""
    words = entry.column.split()
    if entry.unit in words:
        return 1.0
    return 1e-3 if entry.unit == "s" and "ms" in words else None


def capitalized(heading: str) -> str:
    """A heading as it begins on a page; a unit stays as it is."""
    return heading if heading.startswith("ms ") else heading[:1].upper() + heading[1:]
