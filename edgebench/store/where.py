"""Which records are meant, as a question to the store; and a line of its table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Where:
    """Which records: every given field must match, any value of a field will do."""

    ids: Sequence[str] = ()
    runs: Sequence[str] = ()
    """Ids, beginnings of ids, or names of runs."""
    devices: Sequence[str] = ()
    models: Sequence[str] = ()
    engines: Sequence[str] = ()
    backends: Sequence[str] = ()
    scenarios: Sequence[str] = ()
    since: str = ""
    """ISO 8601, UTC: trials that began then or later."""
    newest: int | None = None
    """Only so many, the newest."""


EVERY = Where()
"""All of them."""


class Row(NamedTuple):
    """One line of a table, cheap to read in tens of thousands. Units as in ``metrics``."""

    id: str
    run: str
    run_name: str
    started: str
    device: str
    model: str
    engine: str
    backend: str
    scenario: str
    options: str
    """JSON."""
    status: str | None
    """None, as the next two: the trial has not ended, or was killed."""
    doubts: str | None
    """Ids, joined by spaces."""
    failure: str | None
    peak_footprint_b: float | None
    peak_footprint_b_low: float | None
    peak_footprint_b_high: float | None
    load_s: float | None
    load_s_low: float | None
    load_s_high: float | None
    decode_tps: float | None
    decode_tps_low: float | None
    decode_tps_high: float | None


def clause(where: Where) -> tuple[str, list[str | int]]:
    """The WHERE and ORDER BY of a query over trials and runs, and its values."""
    parts: list[str] = []
    values: list[str | int] = []
    columns = (
        ("trials.id", where.ids),
        ("device", where.devices),
        ("model", where.models),
        ("engine", where.engines),
        ("backend", where.backends),
        ("scenario", where.scenarios),
    )
    for column, wanted in columns:
        if wanted:
            parts.append(f"{column} IN (SELECT value FROM json_each(?))")
            values.append(json.dumps(list(wanted)))
    if where.runs:
        parts.append(
            "EXISTS (SELECT 1 FROM json_each(?) AS one WHERE runs.name = one.value "
            "OR substr(runs.id, 1, length(one.value)) = one.value)"
        )
        values.append(json.dumps(list(where.runs)))
    if where.since:
        parts.append("trials.started >= ?")
        values.append(where.since)
    condition = f"WHERE {' AND '.join(parts)}" if parts else ""
    if where.newest is None:
        return f"{condition} ORDER BY trials.id", values
    newest = (
        f"SELECT trials.id FROM trials JOIN runs ON runs.id = trials.run {condition} ORDER BY trials.id DESC LIMIT ?"
    )
    return f"WHERE trials.id IN ({newest}) ORDER BY trials.id", [*values, where.newest]
