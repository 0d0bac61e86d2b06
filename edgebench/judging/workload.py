"""Groups records by workload and configuration, and decides which of them may be compared."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from edgebench.core import Option, Record
from edgebench.judging import comparison
from edgebench.judging.comparison import tuning_options


@dataclass(frozen=True)
class Workload:
    """Model, scenario and the options that define the work: only records of the same workload are compared."""

    model: str
    quantization: str
    sha256: str
    scenario: str
    work: tuple[tuple[str, Option], ...]

    @property
    def title(self) -> str:
        model_name = (
            self.model if self.quantization.lower() in self.model.lower() else f"{self.model} {self.quantization}"
        )
        options = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in self.work)
        return " · ".join(part for part in (model_name.strip(), self.scenario, options) if part)


@dataclass(frozen=True)
class Configuration:
    """Workload × device × engine × backend × settings; records of one configuration are repetitions."""

    workload: Workload
    device: str
    engine: str
    backend: str
    settings: tuple[tuple[str, Option], ...]


def workload(record: Record) -> Workload:
    model = record.facts.model
    work = tuple(sorted((n, v) for n, v in record.trial.options.items() if n not in tuning_options()))
    return Workload(
        record.trial.model,
        model.quantization or "",
        model.sha256 or "",
        record.trial.scenario,
        work,
    )


def settings(record: Record) -> tuple[tuple[str, Option], ...]:
    """The tuning options, without ``costs``: whether a sweep's costs were timed too changes no metric."""
    return tuple(sorted((n, v) for n, v in record.trial.options.items() if n in tuning_options() and n != "costs"))


def configuration(record: Record) -> Configuration:
    trial = record.trial
    return Configuration(workload(record), trial.device, trial.engine, trial.backend, settings(record))


def used_backend(record: Record) -> str | None:
    """The backend that the engine reported; None if unknown."""
    return record.facts.engine.backend or None


def fell_back(record: Record) -> bool:
    backend = used_backend(record)
    return backend is not None and backend.lower() != record.trial.backend.lower()


def is_clean(record: Record) -> bool:
    """Whether the record may be compared: it succeeded, on the requested backend."""
    return record.status == "ok" and not fell_back(record)


def load_regime_of(record: Record) -> str:
    """Load regime: first, cold or warm; empty if unknown."""
    load = record.metrics.get("load_s")
    return load.note.split(";")[0] if load else ""


def has_difference(a: Record, b: Record, name: str) -> bool:
    """Whether the rounds show a difference, paired if both were measured in one run."""
    change = comparison.finding(a, b, name).change
    return change is not None and change.verdict != "no difference shown"


def group_by_workload(records: Sequence[Record]) -> list[tuple[Workload, list[Record]]]:
    """Records by workload: most devices, engines and backends first, then most settings."""
    groups: dict[Workload, list[Record]] = {}
    for record in records:
        groups.setdefault(workload(record), []).append(record)
    return sorted(groups.items(), key=_sort_key)


def _sort_key(item: tuple[Workload, list[Record]]) -> tuple[int, int, list[tuple[int, str]]]:
    successful = [record for record in item[1] if record.status == "ok"]
    measured = {(_target(record), settings(record)) for record in successful}
    return (-len({target for target, _ in measured}), -len(measured), _natural_key(item[0].title))


def _natural_key(text: str) -> list[tuple[int, str]]:
    """Key for natural sorting: depth 512 before depth 1024."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d{1,9})", text)]


def _target(record: Record) -> tuple[str, str, str]:
    return (record.trial.device, record.trial.engine, record.trial.backend)
