"""Rows and details of the report's table: records as text and sort keys, without HTML."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from edgebench.core import MetricDefinition, Option, Record
from edgebench.judging import doubts, metrics
from edgebench.judging.readings import metric, metrics_of
from edgebench.judging.workload import Workload, fell_back, group_by_workload, load_regime_of, settings, used_backend
from edgebench.views import units
from edgebench.views.detail import flat, memory_rows
from edgebench.views.fields import command, outcome, settings_text, when
from edgebench.views.headline import measured_metrics, metric_cell
from edgebench.views.telemetry import telemetry_lines

LOG_LINES = 40
LOG_WIDTH = 400


@dataclass(frozen=True)
class Cell:
    """One value: its text, its interval, and its sort key (None: not measured)."""

    text: str
    interval: str
    value: float | None
    column: str


@dataclass(frozen=True)
class TableRow:
    """One record in the table."""

    id: str
    device: str
    model: str
    engine: str
    backend: str
    used_backend: str
    scenario: str
    settings: str
    distinct_settings: str
    """Settings that are not in the heading of its group."""
    outcome: str
    """Empty if the status is ok."""
    bad: bool
    """Whether it ended without success."""
    reason: str
    cells: tuple[Cell, ...]
    doubts: tuple[tuple[str, str], ...]
    """(ID, explanation)"""
    earlier: bool
    detailed: bool
    when: str

    @property
    def bare(self) -> bool:
        """Whether none of its metrics was measured."""
        return all(cell.value is None for cell in self.cells)


@dataclass(frozen=True)
class Group:
    """Rows of one workload, which are comparable."""

    workload: Workload
    rows: tuple[TableRow, ...]
    common: str
    """Settings that all rows share, if there are several."""


def table(records: Sequence[Record], newest: Sequence[Record], *, max_rows: int, details: int) -> list[Group]:
    """Rows by workload, fastest first; the ``newest`` of each configuration take precedence over earlier ones.

    At most ``max_rows`` rows; the first ``details`` of them have a section with details.
    """
    current = {record.id for record in newest}
    order = sorted(records, key=when, reverse=True)
    order.sort(key=lambda r: r.id not in current)
    visible = order[:max_rows]
    detailed = {record.id for record in order[:details]}
    columns = measured_metrics(visible)
    groups = []
    for workload, group in group_by_workload(visible):
        common = set(settings(group[0])).intersection(*map(settings, group)) if len(group) > 1 else set()
        rows = [_row(r, common, columns, earlier=r.id not in current, detailed=r.id in detailed) for r in ranked(group)]
        groups.append(Group(workload, tuple(rows), settings_text(sorted(common))))
    return groups


def ranked(records: Sequence[Record]) -> list[Record]:
    """The fastest first; those without a rate last."""
    return sorted(records, key=lambda r: -(rate.value if (rate := metric(r, "decode_tps")) else -1.0))


def _row(
    record: Record,
    common: Collection[tuple[str, Option]],
    columns: Sequence[MetricDefinition],
    *,
    earlier: bool,
    detailed: bool,
) -> TableRow:
    trial = record.trial
    return TableRow(
        id=record.id,
        device=trial.device,
        model=trial.model,
        engine=trial.engine,
        backend=trial.backend,
        used_backend=(used_backend(record) or "") if fell_back(record) else "",
        scenario=trial.scenario,
        settings=settings_text(settings(record)),
        distinct_settings=settings_text(pair for pair in settings(record) if pair not in common),
        outcome=outcome(record),
        bad=record.status not in ("ok", "running"),
        reason=record.failure.message if record.failure else "",
        cells=tuple(_cell(record, entry) for entry in columns),
        doubts=explain_doubts(record),
        earlier=earlier,
        detailed=detailed,
        when=when(record)[:16].replace("T", " "),
    )


def _cell(record: Record, entry: MetricDefinition) -> Cell:
    median = metric(record, entry.name)
    if median is None:
        return Cell("—", "", None, entry.name)
    text, between = metric_cell(record, entry)
    if entry.name == "load_s" and load_regime_of(record) in ("first", "cold"):
        between = f"{between} {load_regime_of(record)}".strip()
    return Cell(text, between, median.value, entry.name)


def explain_doubts(record: Record) -> tuple[tuple[str, str], ...]:
    """(ID, explanation) of each doubt: details, meaning and remedy."""
    details_by_id: dict[str, list[str]] = {}
    for doubt in record.doubts:
        details_by_id.setdefault(doubt.id, []).append(doubt.detail)
    explanations = []
    for id, details in details_by_id.items():
        doubt_type = doubts.DOUBT_TYPES.get(id)
        parts = ["; ".join(filter(None, details)), *((doubt_type.meaning, doubt_type.remedy) if doubt_type else ())]
        explanations.append((id, " ".join(part if part.endswith((".", "!")) else f"{part}." for part in parts if part)))
    return tuple(explanations)


@dataclass(frozen=True)
class Detail:
    """The details of a record in the page."""

    row: TableRow
    parts: tuple[str, ...]
    """Parts of its title."""
    work: str
    command: str
    run: tuple[tuple[str, str], ...]
    metrics: tuple[tuple[str, str, str, str, tuple[str, ...]], ...]
    """title, value, interval, note, rounds"""
    rounds: int
    memory: tuple[tuple[str, ...], ...]
    """Estimated and measured memory, header row first."""
    facts: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    hint: str
    log: tuple[str, ...]
    log_cut: bool
    notes: tuple[str, ...]


Logs = Callable[[str], Sequence[str]]
"""Record ID → the engine's logs, one per start."""


def details(records: Sequence[Record], groups: Sequence[Group], logs: Logs) -> Iterator[Detail]:
    """The details of the records whose rows have a section, in the table's order."""
    by_id = {record.id: record for record in records}
    for group in groups:
        for row in group.rows:
            if row.detailed:
                yield _detail(by_id[row.id], row, group.workload.title, "\n".join(logs(row.id)).splitlines())


def _detail(record: Record, row: TableRow, work: str, log: Sequence[str]) -> Detail:
    failure = record.failure
    if failure and not log:
        log = failure.log
    rows = []
    for name, median in metrics_of(record):
        factor, unit = units.scale(median.value, median.unit)
        rounds = tuple("—" if value is None else units.number(value / factor, 4) for value in median.rounds)
        value = units.with_unit(units.number(median.value / factor, 4), unit)
        rows.append((metrics.find(name).title, value, units.interval(median), median.note, rounds))
    run = {name: str(value) for name, value in record.run.items() if value not in (None, "")}
    return Detail(
        row=row,
        parts=tuple(part for part in (row.device, row.engine, row.backend, row.settings) if part),
        work=work,
        command=command(record),
        run=(("record", record.id), *([("finished", record.finished)] if record.finished else []), *run.items()),
        metrics=tuple(rows),
        rounds=max((len(rounds) for *_, rounds in rows), default=0),
        memory=tuple(memory_rows(record)),
        facts=(
            ("telemetry", tuple(telemetry_lines(record))),
            *((name, _pairs(part)) for name, part in sorted(record.facts.document().items())),
        ),
        hint=failure.hint if failure else "",
        log=tuple(line[:LOG_WIDTH] for line in log[-LOG_LINES:]),
        log_cut=len(log) > LOG_LINES,
        notes=record.notes,
    )


def _pairs(facts: object) -> tuple[tuple[str, str], ...]:
    return tuple((" ".join(path), text) for path, text in flat(facts))
