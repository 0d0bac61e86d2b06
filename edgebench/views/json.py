"""The records as one JSON document; its schema is ``docs/schemas/records.json``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

from edgebench.core import SCHEMA, Record
from edgebench.store.records import dumps, to_json


class JsonDocument:
    """``{"schema": 1, "records": […]}``, one record a line, raw samples left out."""

    suffix: ClassVar[str] = ".json"

    def render(self, records: Sequence[Record]) -> str:
        return "".join(self.pieces(records))

    def pieces(self, records: Iterable[Record]) -> Iterator[str]:
        between = f'{{"schema": {SCHEMA}, "records": [\n'
        for record in records:
            yield between + dumps(to_json(record, samples=False))
            between = ",\n"
        yield "\n]}\n" if between == ",\n" else f"{between}]}}\n"
