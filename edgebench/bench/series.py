"""Samples of a device, and the metrics of any time span.

Samples have times on the device's clock; a span is two ``time.monotonic()`` of the controller.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median

from edgebench.core import DeviceSession, Quantity, Sample

TICK_S = 0.01
"""Resolution of the device's clock, and of processor time, in /proc."""
_Row = tuple[float, float, Mapping[str, str]]
_CLOCK = re.compile(r"^(?:/proc/self/stat:)?\d+ \(.*\) \S (.+)$")
_UPTIME = re.compile(r"^/proc/uptime:(\d+\.\d+) ")


@dataclass(frozen=True)
class Clock:
    """The device's clock seen from the controller: ``monotonic = device + offset``, seconds."""

    offset: float
    uncertainty: float
    """Half the width of the interval the offset is known to lie in."""

    @staticmethod
    def measure(session: DeviceSession, tries: int = 5) -> Clock | None:
        """Read the device's clock several times; each reading narrows the offset.

        The device reads its clock between request and response, rounded down to 10 ms: the offset is in
        [sent − shown − 10 ms, received − shown]. None if the system has no such clock.
        """
        low, high = float("-inf"), float("inf")
        for _ in range(tries):
            sent_at = time.monotonic()
            output = session.run("grep -H . /proc/self/stat", timeout=20)
            received_at = time.monotonic()
            device_s = device_time(output.stdout.strip())
            if device_s is None:
                return None
            low, high = max(low, sent_at - device_s - TICK_S), min(high, received_at - device_s)
        return Clock((low + high) / 2, abs(high - low) / 2)


def device_time(line: str) -> float | None:
    """Seconds since the device's start: of /proc/uptime, or the start of a process in its /proc/PID/stat."""
    if uptime := _UPTIME.match(line):
        return float(uptime[1])
    match = _CLOCK.match(line)
    fields = match[1].split(" ") if match else []
    return int(fields[18]) * TICK_S if len(fields) > 18 and fields[18].isdigit() else None


class SampleSeries:
    """Samples in the order of arrival, and their metrics over a time span."""

    def __init__(self, quantities: Mapping[str, Quantity]) -> None:
        self.quantities = quantities
        self.samples: list[Sample] = []
        """On the device's clock."""
        self.clock: Clock | None = None
        """At the start."""
        self.clock_at_end: Clock | None = None
        self._clock_times: list[float] = []
        """Times on the device's clock that the loop reported."""
        self._last_reads: list[float] = []
        """For each sample, the time of the previous read of its source."""

    @property
    def metered(self) -> bool:
        """Whether there is a power meter."""
        return any(sample.name == "power_w" for sample in self.samples[:2000])

    def local(self, at: float) -> float:
        """A time of the device as ``time.monotonic()`` of the controller."""
        if self.clock is None:
            return at
        if self.clock_at_end is None or len(self._clock_times) < 2 or self._clock_times[-1] <= self._clock_times[0]:
            return at + self.clock.offset
        part = (at - self._clock_times[0]) / (self._clock_times[-1] - self._clock_times[0])
        return at + self.clock.offset + min(1.0, max(0.0, part)) * (self.clock_at_end.offset - self.clock.offset)

    def between(self, start: float, end: float) -> dict[str, float]:
        """Metrics of a span (``time.monotonic()``); a metric without samples is absent."""
        rows = self._rows(start, end)
        return {
            key: value
            for name, quantity in self.quantities.items()
            for key, metric in quantity.metrics.items()
            if (value := _combine_labels(metric.statistic, quantity.across, rows.get(name, []))) is not None
        }

    def by_label(self, name: str, label: str, start: float, end: float) -> dict[str, float]:
        """The mean of one quantity for each value of one label, such as the cores'."""
        parts = self.integral(name, label, start, end)
        return {key: total / covered for key, (total, covered) in parts.items()}

    def integral(self, name: str, label: str, start: float, end: float) -> dict[str, tuple[float, float]]:
        """For each value of a label: the sum of value × seconds, and the seconds that were covered.

        Of a power in watts that is the energy in joules.
        """
        parts: dict[str, tuple[float, float]] = {}
        for value, weight, labels in self._rows(start, end).get(name, []):
            if label in labels:
                total, covered = parts.get(labels[label], (0.0, 0.0))
                parts[labels[label]] = total + value * weight, covered + weight
        return parts

    def _rows(self, start: float, end: float) -> dict[str, list[_Row]]:
        """Name → (value, seconds of the span that it covers, labels).

        A sample covers the time since the previous read of its source, like a counter.
        """
        rows: dict[str, list[_Row]] = {}
        for sample, since in self._overlapping(start, end):
            weight = min(self.local(sample.at), end) - max(self.local(since), start)
            if weight > 0:
                rows.setdefault(sample.name, []).append((sample.value, weight, sample.labels))
        return rows

    def _overlapping(self, start: float, end: float) -> Iterator[tuple[Sample, float]]:
        """Samples that may be in a span, each with the time of the previous read of its source.

        A sampler can run for hours: distant samples are excluded before anything is computed.
        """
        offsets = [clock.offset for clock in (self.clock, self.clock_at_end) if clock] or [0.0]
        first, last = start - max(offsets), end - min(offsets)
        for sample, since in zip(list(self.samples), self._last_reads, strict=False):
            if sample.at >= first and since <= last:
                yield sample, since

    def within(self, start: float, end: float) -> tuple[Sample, ...]:
        """The samples of a span (``time.monotonic()``), with times on the controller's clock."""
        samples = (replace(sample, at=self.local(sample.at)) for sample, _ in self._overlapping(start, end))
        return tuple(sample for sample in samples if start <= sample.at <= end)


def _combine_labels(statistic: str, combination: str, rows: Sequence[_Row]) -> float | None:
    """One value of a span: aggregated over time for each label, then across the labels."""
    groups: dict[frozenset[tuple[str, str]], list[_Row]] = {}
    for row in rows:
        groups.setdefault(frozenset(row[2].items()), []).append(row)
    values = [_aggregate(statistic, group) for group in groups.values()]
    if not values:
        return None
    return {"mean": fmean(values), "sum": sum(values), "max": max(values)}[combination]


def _aggregate(statistic: str, rows: Sequence[_Row]) -> float:
    values = sorted(value for value, _, _ in rows)
    if statistic == "mean":
        return sum(value * weight for value, weight, _ in rows) / sum(weight for _, weight, _ in rows)
    if statistic == "median":
        return median(values)
    if statistic == "p95":
        return values[min(len(values) - 1, int(0.95 * len(values)))]
    return {"max": max(values), "min": min(values), "sum": sum(values), "last": rows[-1][0]}[statistic]
