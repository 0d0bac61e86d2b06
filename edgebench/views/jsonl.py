"""The records as JSON Lines: one record a line, as in the JSON document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

from edgebench.core import Record
from edgebench.store.records import dumps, to_json


class JsonLines:
    """One line a record; each carries its ``schema``."""

    suffix: ClassVar[str] = ".jsonl"

    def render(self, records: Sequence[Record]) -> str:
        return "".join(self.pieces(records))

    def pieces(self, records: Iterable[Record]) -> Iterator[str]:
        for record in records:
            yield dumps(to_json(record, samples=False)) + "\n"
