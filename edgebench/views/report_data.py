"""What a report needs of a store, gathered as its records go by: never all of them are kept."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping

from edgebench.core import Record, Status
from edgebench.judging.workload import Configuration, configuration
from edgebench.views.fields import when

ROWS = 1000
"""Rows of the table a page holds; a browser sorts and filters so many without a pause."""


class Digest:
    """The newest record of each configuration, the newest of the others, and how many there were."""

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
        """The newest good record of each configuration (the newest of all where none is good)."""
        return list(self._newest.values())

    @property
    def records(self) -> list[Record]:
        """Those kept: ``newest``, and the newest of the others, oldest first."""
        recent = {record.id: record for _, _, record in sorted(self._recent, key=lambda item: item[:2])}
        return list({**recent, **{record.id: record for record in self._newest.values()}}.values())

    @property
    def days(self) -> tuple[str, str] | None:
        """The first and the last day of measuring."""
        return (min(self._days), max(self._days)) if self._days else None

    def replace(self, full: Mapping[str, Record]) -> None:
        """Put records that were read in full in the place of those without rounds."""
        self._newest = {key: full.get(record.id, record) for key, record in self._newest.items()}
        self._recent = [(when, position, full.get(record.id, record)) for when, position, record in self._recent]


def _goodness(record: Record) -> tuple[bool, str, str]:
    return (record.status == "ok", when(record), record.id)


def latest(records: Iterable[Record]) -> list[Record]:
    """The newest good record of each configuration."""
    return Digest(records).newest
