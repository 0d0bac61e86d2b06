"""The data of a report, collected in one iteration over the records of a store, of which few are kept."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping

from edgebench.core import Record, Status
from edgebench.judging.workload import Configuration, configuration
from edgebench.views.fields import when

ROWS = 1000
"""Maximum rows of the table in a page; browsers sort and filter that many without a delay."""


class Digest:
    """The newest record of each configuration, the newest other records, and counts of all."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.total = self.doubtful = 0
        self.outcomes: Counter[Status] = Counter()
        self.devices: set[str] = set()
        self.models: set[str] = set()
        self._days: set[str] = set()
        self._newest: dict[Configuration, Record] = {}
        self._recent: list[tuple[str, int, Record]] = []
        for record in records:
            self._take(record)

    def _take(self, record: Record) -> None:
        self.total += 1
        self.outcomes[record.status] += 1
        self.doubtful += bool(record.doubts)
        self.devices.add(record.trial.device)
        self.models.add(record.trial.model)
        self._days.add(when(record)[:10])
        key = configuration(record)
        best = self._newest.get(key)
        if best is None or _goodness(record) >= _goodness(best):
            self._newest[key] = record
        heapq.heappush(self._recent, (when(record), self.total, record))
        if len(self._recent) > ROWS:
            heapq.heappop(self._recent)

    @property
    def newest(self) -> list[Record]:
        """The newest successful record of each configuration, or its newest record if none is successful."""
        return list(self._newest.values())

    @property
    def records(self) -> list[Record]:
        """``newest`` and the newest other records, oldest first."""
        recent = {record.id: record for _, _, record in sorted(self._recent, key=lambda item: item[:2])}
        return list({**recent, **{record.id: record for record in self._newest.values()}}.values())

    @property
    def days(self) -> tuple[str, str] | None:
        """First and last day of measurement, ISO 8601."""
        return (min(self._days), max(self._days)) if self._days else None

    def replace(self, full: Mapping[str, Record]) -> None:
        """Replace records without rounds by complete ones, by ID."""
        self._newest = {key: full.get(record.id, record) for key, record in self._newest.items()}
        self._recent = [(when, position, full.get(record.id, record)) for when, position, record in self._recent]


def _goodness(record: Record) -> tuple[bool, str, str]:
    return (record.status == "ok", when(record), record.id)


def latest(records: Iterable[Record]) -> list[Record]:
    """The newest successful record of each configuration, see ``Digest.newest``."""
    return Digest(records).newest
