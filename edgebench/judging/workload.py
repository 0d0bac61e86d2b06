"""Which records did the same work, on which configuration, and which of them may be compared."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from edgebench.core import Option, Record
from edgebench.judging import comparison
from edgebench.judging.comparison import tuning_options


@dataclass(frozen=True)
class Workload:
    """What was asked of which model: only records of the same workload are compared."""

    model: str
    quantization: str
    sha256: str
    scenario: str
    work: tuple[tuple[str, Option], ...]

    @property
    def title(self) -> str:
        named = self.model if self.quantization.lower() in self.model.lower() else f"{self.model} {self.quantization}"
        options = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in self.work)
        return " · ".join(part for part in (named.strip(), self.scenario, options) if part)


@dataclass(frozen=True)
class Configuration:
    """Workload × device × engine × backend × settings: records of one are repetitions."""

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
    """What is compared, without ``costs``: that the costs of a sweep were timed too changes no figure."""
    return tuple(sorted((n, v) for n, v in record.trial.options.items() if n in tuning_options() and n != "costs"))


def configuration(record: Record) -> Configuration:
    trial = record.trial
    return Configuration(workload(record), trial.device, trial.engine, trial.backend, settings(record))


def used_backend(record: Record) -> str | None:
    """The backend that computed by the engine's own word; None where it didn't say."""
    return record.facts.engine.backend or None


def fell_back(record: Record) -> bool:
    used = used_backend(record)
    return used is not None and used.lower() != record.trial.backend.lower()


def clean(record: Record) -> bool:
    """Whether it may be compared: it ended well, on the backend that was asked for."""
    return record.status == "ok" and not fell_back(record)


def regime(record: Record) -> str:
    """How the engine was loaded: first, cold or warm; empty where that isn't known."""
    found = record.metrics.get("load_s")
    return found.note.split(";")[0] if found else ""


def differs(a: Record, b: Record, name: str) -> bool:
    """Whether the rounds show a difference: paired where both were measured in one run."""
    change = comparison.finding(a, b, name).change
    return change is not None and change.verdict != "no difference shown"


def by_workload(records: Sequence[Record]) -> list[tuple[Workload, list[Record]]]:
    """Records by kind of work: that with results of most devices, engines and backends first, then of most settings."""
    groups: dict[Workload, list[Record]] = {}
    for record in records:
        groups.setdefault(workload(record), []).append(record)
    return sorted(groups.items(), key=_order)


def _order(item: tuple[Workload, list[Record]]) -> tuple[int, int, list[tuple[int, str]]]:
    good = [record for record in item[1] if record.status == "ok"]
    measured = {(_place(record), settings(record)) for record in good}
    return (-len({place for place, _ in measured}), -len(measured), _natural(item[0].title))


def _natural(text: str) -> list[tuple[int, str]]:
    """Text in the order in which people sort it: depth 512 before depth 1024."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d{1,9})", text)]


def _place(record: Record) -> tuple[str, str, str]:
    return (record.trial.device, record.trial.engine, record.trial.backend)
