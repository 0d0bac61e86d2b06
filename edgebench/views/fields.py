"""What a record says, for every view that draws: its kind of work, its settings, its names."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence

from edgebench.core import Option, Record, Status, Turn
from edgebench.judging.readings import footprint, metric
from edgebench.judging.workload import fell_back, settings, used_backend

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


def ended(record: Record) -> str:
    """How it ended, in words; empty where all went well."""
    return "" if record.status == "ok" else ENDED.get(record.status, record.status)


def when(record: Record) -> str:
    """When it ended; of what was cut short, when it began."""
    return record.finished or record.started


def marks(record: Record) -> tuple[str, ...]:
    """What a reader must know beside its numbers: how it ended, a fallback, its doubts."""
    fallen = ("fell back",) if fell_back(record) else ()
    return (*filter(None, (ended(record),)), *fallen, *dict.fromkeys(doubt.id for doubt in record.doubts))


def some(names: Iterable[str]) -> list[str]:
    """The first three; more are counted."""
    found = list(names)
    return found if len(found) <= NAMED else [*found[:NAMED], f"{len(found) - NAMED} more"]


def settings_text(pairs: Iterable[tuple[str, Option]]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in pairs)


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


def turn_number(turn: Turn, index: int) -> int:
    """Which turn of its conversation this is, from 1."""
    found = re.search(r"turn (\d+)", turn.label)
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
