"""A filter for records of the store, and a row of its table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Filter:
    """Selects records that match one value of every field that is set."""

    ids: Sequence[str] = ()
    runs: Sequence[str] = ()
    """IDs, ID prefixes or names of runs."""
    devices: Sequence[str] = ()
    models: Sequence[str] = ()
    engines: Sequence[str] = ()
    backends: Sequence[str] = ()
    scenarios: Sequence[str] = ()
    since: str = ""
    """ISO 8601, UTC: only trials that started at this time or later."""
    newest: int | None = None
    """Maximum number of records; the newest ones are selected."""


ALL_RECORDS = Filter()
"""Matches every record."""


class TrialRow(NamedTuple):
    """One row of the table of trials, cheap to read by tens of thousands. Units as in ``metrics``."""

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
    """None, like the next two, if the trial is running or was killed."""
    doubts: str | None
    """IDs, joined by spaces."""
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


def sql_clause(record_filter: Filter) -> tuple[str, list[str | int]]:
    """The WHERE and ORDER BY clauses of a query over trials and runs, and its parameters."""
    conditions: list[str] = []
    values: list[str | int] = []
    columns = (
        ("trials.id", record_filter.ids),
        ("device", record_filter.devices),
        ("model", record_filter.models),
        ("engine", record_filter.engines),
        ("backend", record_filter.backends),
        ("scenario", record_filter.scenarios),
    )
    for column, allowed in columns:
        if allowed:
            conditions.append(f"{column} IN (SELECT value FROM json_each(?))")
            values.append(json.dumps(list(allowed)))
    if record_filter.runs:
        conditions.append(
            "EXISTS (SELECT 1 FROM json_each(?) AS one WHERE runs.name = one.value "
            "OR substr(runs.id, 1, length(one.value)) = one.value)"
        )
        values.append(json.dumps(list(record_filter.runs)))
    if record_filter.since:
        conditions.append("trials.started >= ?")
        values.append(record_filter.since)
    condition = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    if record_filter.newest is None:
        return f"{condition} ORDER BY trials.id", values
    newest = (
        f"SELECT trials.id FROM trials JOIN runs ON runs.id = trials.run {condition} ORDER BY trials.id DESC LIMIT ?"
    )
    return f"WHERE trials.id IN ({newest}) ORDER BY trials.id", [*values, record_filter.newest]
