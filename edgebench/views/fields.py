"""Fields of a record that several views show: outcome, marks, memory, labels, command."""

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
"""Types of memory in stacking order, and the metric of each."""

OUTCOMES: Mapping[Status, str] = {"running": "still running", "lost": "device lost"}
"""Descriptions of statuses that are unclear on their own."""

MAX_NAMES = 3
"""Maximum number of names in a sentence or a label."""


def outcome(record: Record) -> str:
    """The outcome in words; empty if the status is ok."""
    return "" if record.status == "ok" else OUTCOMES.get(record.status, record.status)


def when(record: Record) -> str:
    """The time it finished, or started if it did not finish; ISO 8601."""
    return record.finished or record.started


def marks(record: Record) -> tuple[str, ...]:
    """Flags shown next to its figures: outcome, fallback, doubts."""
    fallback_mark = ("fell back",) if fell_back(record) else ()
    return (*filter(None, (outcome(record),)), *fallback_mark, *dict.fromkeys(doubt.id for doubt in record.doubts))


def limit_names(names: Iterable[str]) -> list[str]:
    """The first ``MAX_NAMES`` names, and the number of the others."""
    all_names = list(names)
    return all_names if len(all_names) <= MAX_NAMES else [*all_names[:MAX_NAMES], f"{len(all_names) - MAX_NAMES} more"]


def settings_text(pairs: Iterable[tuple[str, Option]]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in pairs)


def memory_parts(record: Record) -> dict[str, float]:
    """The parts of the footprint in bytes; not split if the parts peaked at different times."""
    whole = footprint(record)
    if whole is None:
        return {}
    sizes = {name: part.value for name, key in MEMORY.items() if (part := metric(record, key)) and part.value > 0}
    remainder = whole.value - sum(sizes.values())
    if remainder < -0.01 * whole.value:
        gpu = sizes.get("GPU", 0.0)
        return {NOT_SPLIT: whole.value - gpu} | ({"GPU": gpu} if gpu else {})
    return sizes | ({NOT_SPLIT: remainder} if remainder > 0.005 * whole.value else {})


def labels(records: Sequence[Record], *, without: Sequence[str] = ()) -> dict[str, str]:
    """Record ID → short name: the device, and whatever else differs between the records."""
    parts_by_id = {record.id: _record_parts(record, without) for record in records}
    all_parts = list(parts_by_id.values())
    names = {name for parts in all_parts for name in parts}
    varies = {name for name in names if len({parts.get(name) for parts in all_parts}) > 1} | {"device"}
    return {
        id: " · ".join(text for name, text in parts.items() if name in varies and text)
        for id, parts in parts_by_id.items()
    }


def _record_parts(record: Record, without: Sequence[str]) -> dict[str, str]:
    trial = record.trial
    backend = f"{trial.backend} → {used_backend(record)}" if fell_back(record) else trial.backend
    parts = {"device": trial.device, "engine": trial.engine, "backend": backend}
    parts |= {name: f"{name.replace('_', ' ')} {value}" for name, value in settings(record)}
    return {name: text for name, text in parts.items() if name not in without}


def turn_number(turn: Turn, index: int) -> int:
    """Number of the turn in its conversation, from 1."""
    match = re.search(r"turn (\d+)", turn.label)
    return int(match[1]) if match else index + 1


def command(record: Record) -> str:
    """The command that repeats this trial.

    The target alone (K = 0) is part of every sweep; to repeat only it, use the scenario with ``run``.
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
    rounds = max((len(metric_value.rounds) for metric_value in record.metrics.values()), default=0)
    if rounds:
        words += ["--rounds", str(rounds)]
    return shlex.join(words)
