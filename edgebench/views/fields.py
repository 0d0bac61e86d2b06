"""What a record says, for every view that draws: its kind of work, its settings, its names."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite

from edgebench.core import Json, Metric, Option, Record, Status
from edgebench.judging import comparison, metrics
from edgebench.judging.comparison import SETTINGS

NOT_SPLIT = "resident, not split"
MEMORY = {
    "anonymous": "peak_anon_b",
    "files (weights mapped)": "peak_file_b",
    "swapped out": "peak_swap_b",
    "GPU": "peak_gpu_b",
    NOT_SPLIT: "",
}
"""Kinds of memory in the order they are stacked, and the metric of each."""

ENDED: Mapping[Status, str] = {"running": "still running", "lost": "device lost"}
"""Where a status alone doesn't say enough."""

NAMED = 3
"""Names that are spelled out in a sentence or beside a bar."""


@dataclass(frozen=True)
class Kind:
    """One kind of work: only records of the same kind are put side by side."""

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
    """Kind × device × engine × backend × settings: records of one are repetitions."""

    kind: Kind
    device: str
    engine: str
    backend: str
    settings: tuple[tuple[str, Option], ...]


def _part(record: Record, name: str) -> Mapping[str, Json]:
    found = record.facts.get(name)
    return found if isinstance(found, Mapping) else {}


def kind(record: Record) -> Kind:
    model = _part(record, "model")
    work = tuple(sorted((n, v) for n, v in record.trial.options.items() if n not in SETTINGS))
    return Kind(
        record.trial.model,
        str(model.get("quantization") or ""),
        str(model.get("sha256") or ""),
        record.trial.scenario,
        work,
    )


def settings(record: Record) -> tuple[tuple[str, Option], ...]:
    """What is compared, without ``costs``: that the costs of a sweep were timed too changes no figure."""
    return tuple(sorted((n, v) for n, v in record.trial.options.items() if n in SETTINGS and n != "costs"))


def configuration(record: Record) -> Configuration:
    trial = record.trial
    return Configuration(kind(record), trial.device, trial.engine, trial.backend, settings(record))


def used_backend(record: Record) -> str | None:
    """The backend that computed by the engine's own word; None where it didn't say."""
    found = _part(record, "engine").get("backend")
    return str(found) if found else None


def ended(record: Record) -> str:
    """How it ended, in words; empty where all went well."""
    return "" if record.status == "ok" else ENDED.get(record.status, record.status)


def when(record: Record) -> str:
    """When it ended; of what was cut short, when it began."""
    return record.finished or record.started


def fell_back(record: Record) -> bool:
    used = used_backend(record)
    return used is not None and used.lower() != record.trial.backend.lower()


def clean(record: Record) -> bool:
    """Whether it may be compared: it ended well, on the backend that was asked for."""
    return record.status == "ok" and not fell_back(record)


def marks(record: Record) -> tuple[str, ...]:
    """What a reader must know beside its numbers: how it ended, a fallback, its doubts."""
    fallen = ("fell back",) if fell_back(record) else ()
    return (*filter(None, (ended(record),)), *fallen, *dict.fromkeys(doubt.id for doubt in record.doubts))


def some(names: Iterable[str]) -> list[str]:
    """The first three; more are counted."""
    found = list(names)
    return found if len(found) <= NAMED else [*found[:NAMED], f"{len(found) - NAMED} more"]


def regime(record: Record) -> str:
    """How the engine was loaded: first, cold or warm; empty where that isn't known."""
    found = record.metrics.get("load_s")
    return found.note.split(";")[0] if found else ""


def settings_text(pairs: Iterable[tuple[str, Option]]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in pairs)


def metric(record: Record, name: str) -> Metric | None:
    """A metric that holds a number; ``s_per_token`` is derived from the decode rate."""
    if name == "s_per_token":
        rate = metric(record, "decode_tps")
        if rate is None or rate.value <= 0:
            return None
        low = 1 / rate.high if rate.high else None
        high = 1 / rate.low if rate.low else None
        return replace(rate, value=1 / rate.value, low=low, high=high, unit="s", rounds=(), iqr=None)
    found = record.metrics.get(name)
    if found is None or not isfinite(found.value):
        return None
    found = replace(found, unit=metrics.unit(name, found.unit))
    sure = all(end is not None and isfinite(end) for end in (found.low, found.high))
    return found if sure else replace(found, low=None, high=None)


def metrics_of(record: Record) -> Iterator[tuple[str, Metric]]:
    """Every metric of a record as it was measured, in the order of their entries, each in its entry's unit."""
    for name, found in sorted(record.metrics.items(), key=lambda item: metrics.place(item[0])):
        yield name, replace(found, unit=metrics.unit(name, found.unit))


def footprint(record: Record) -> Metric | None:
    return metric(record, "peak_footprint_b") or metric(record, "peak_rss_b")


def memory_parts(record: Record) -> dict[str, float]:
    """The parts of the footprint, bytes; one part where the peaks of parts fell at different moments."""
    whole = footprint(record)
    if whole is None:
        return {}
    found = {name: part.value for name, key in MEMORY.items() if (part := metric(record, key)) and part.value > 0}
    rest = whole.value - sum(found.values())
    if rest < -0.01 * whole.value:
        gpu = found.get("GPU", 0.0)
        return {NOT_SPLIT: whole.value - gpu} | ({"GPU": gpu} if gpu else {})
    return found | ({NOT_SPLIT: rest} if rest > 0.005 * whole.value else {})


def differs(a: Record, b: Record, name: str) -> bool:
    """Whether the rounds show a difference: paired where both were measured in one run."""
    change = comparison.finding(a, b, name).change
    return change is not None and change.verdict != "no difference shown"


def by_kind(records: Sequence[Record]) -> list[tuple[Kind, list[Record]]]:
    """Records by kind of work: that with results of most devices, engines and backends first, then of most settings."""
    groups: dict[Kind, list[Record]] = {}
    for record in records:
        groups.setdefault(kind(record), []).append(record)
    return sorted(groups.items(), key=_order)


def _order(item: tuple[Kind, list[Record]]) -> tuple[int, int, list[tuple[int, str]]]:
    good = [record for record in item[1] if record.status == "ok"]
    measured = {(_place(record), settings(record)) for record in good}
    return (-len({place for place, _ in measured}), -len(measured), _natural(item[0].title))


def _natural(text: str) -> list[tuple[int, str]]:
    """Text in the order in which people sort it: depth 512 before depth 1024."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d{1,9})", text)]


def _place(record: Record) -> tuple[str, str, str]:
    return (record.trial.device, record.trial.engine, record.trial.backend)


def labels(records: Sequence[Record], *, without: Sequence[str] = ()) -> dict[str, str]:
    """A short name for each record (by id): the device, and whatever else differs among them."""
    described = {record.id: _described(record, without) for record in records}
    every = list(described.values())
    names = {name for parts in every for name in parts}
    varies = {name for name in names if len({parts.get(name) for parts in every}) > 1} | {"device"}
    return {
        id: " · ".join(text for name, text in parts.items() if name in varies and text)
        for id, parts in described.items()
    }


def _described(record: Record, without: Sequence[str]) -> dict[str, str]:
    trial = record.trial
    backend = f"{trial.backend} → {used_backend(record)}" if fell_back(record) else trial.backend
    parts = {"device": trial.device, "engine": trial.engine, "backend": backend}
    parts |= {name: f"{name.replace('_', ' ')} {value}" for name, value in settings(record)}
    return {name: text for name, text in parts.items() if name not in without}


def turn_number(turn: Mapping[str, Json], index: int) -> int:
    """Which turn of its conversation this is, from 1."""
    if isinstance(turn.get("turn"), int):
        return int(turn["turn"])
    found = re.search(r"turn (\d+)", str(turn.get("label", "")))
    return int(found[1]) if found else index + 1


def command(record: Record) -> str:
    """The command that repeats this one trial.

    The target alone (K = 0) is measured with every sweep; by itself it is one scenario of ``run``.
    """
    trial = record.trial
    options = dict(trial.options)
    if not options.get("k"):
        for name in ("k", "draft", "draft_gpu_layers", "p_min"):
            options.pop(name, None)
    if trial.scenario == "speculative" and "k" in options:
        words = ["edgebench", "speculative", "--device", trial.device, "--target", trial.model]
    else:
        words = ["edgebench", "run", "--device", trial.device, "--model", trial.model, "--scenario", trial.scenario]
    words += ["--engine", trial.engine, "--backend", trial.backend]
    for name, value in sorted(options.items()):
        flag = "--" + name.replace("_", "-")
        words += (
            [flag] if value is True else [f"--no-{name.replace('_', '-')}"] if value is False else [flag, str(value)]
        )
    rounds = max((len(found.rounds) for found in record.metrics.values()), default=0)
    if rounds:
        words += ["--rounds", str(rounds)]
    return shlex.join(words)
