"""The records as one JSON document; its schema is ``docs/schemas/records.json``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from edgebench.core import Record
from edgebench.records import document, dumps


class JsonDocument:
    """``{"schema": 1, "records": […]}``, raw samples left out."""

    suffix: ClassVar[str] = ".json"

    def render(self, records: Sequence[Record]) -> str:
        return dumps(document(records), indent=2) + "\n"
