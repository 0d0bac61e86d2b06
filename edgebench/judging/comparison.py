"""Two sets of records put side by side: like with like, paired by round where rounds allow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from edgebench import engine_options
from edgebench.core import Facts, Option, Record
from edgebench.judging import metrics, stats
from edgebench.judging.over_rounds import load_regime

Axis = Literal["run", "store", "record", "device", "engine", "backend", "build"]
"""What is compared. A device or an engine is then what may differ, and nothing else."""


@cache
def tuning_options() -> frozenset[str]:
    """Options that are compared. Every other option is part of the work and must be equal."""
    return engine_options.tuning_options()


def _how() -> frozenset[str]:
    """How a device or an engine does its work: each has settings that suit it."""
    return frozenset({"backend", *(f"option {name}" for name in tuning_options())})


_FREE: Mapping[Axis, frozenset[str]] = {
    "device": frozenset({"device"}),
    # An engine has its own form of the model and its own backends: what differs is said beside.
    "engine": frozenset({"engine", "model sha256", "quantization", "backend"}),
    "backend": frozenset({"backend"}),
    # Two results that somebody picked: the same work, however it was done.
    "record": frozenset({"device", "engine"}),
}
_EACH_ITS_OWN: frozenset[Axis] = frozenset({"device", "engine"})
"""Where nothing was done the same way on both sides, each side's fastest way stands for it."""
_CONTEXT: Mapping[str, Callable[[Facts], str | None]] = {
    "engine build": lambda facts: facts.engine.build,
    "model sha256": lambda facts: facts.model.sha256,
    "quantization": lambda facts: facts.model.quantization,
    "system": lambda facts: facts.device.os,
    "kernel": lambda facts: facts.device.kernel,
    "driver": lambda facts: facts.device.driver,
}


@dataclass(frozen=True)
class Finding:
    """One metric of a pair. ``change`` is None where the two cannot be compared; then ``why`` says so."""

    name: str
    a: float | None
    b: float | None
    change: stats.Change | None
    why: str = ""

    @property
    def worse(self) -> float:
        """By how much b is worse, as a share of a; 0 where no difference was shown."""
        if self.change is None or self.change.verdict == "no difference shown":
            return 0.0
        better = metrics.find(self.name).better
        moved = self.change.ratio - 1
        return max(0.0, -moved if better == "higher" else moved if better == "lower" else 0.0)


@dataclass(frozen=True)
class Pair:
    """The same work measured twice."""

    a: Record
    b: Record
    findings: tuple[Finding, ...]
    differs: Mapping[str, tuple[str, str]]
    """What else isn't the same on the two sides: builds, systems …"""

    @property
    def paired(self) -> bool:
        return _same_run(self.a, self.b)


@dataclass(frozen=True)
class Comparison:
    """All pairs, and what had no counterpart."""

    pairs: tuple[Pair, ...]
    only_a: tuple[Record, ...]
    only_b: tuple[Record, ...]


def likeness(record: Record) -> dict[str, Option | None]:
    """Everything that must be equal for two records to be the same work done the same way."""
    trial = record.trial
    return {
        "device": trial.device,
        "model": trial.model,
        "model sha256": record.facts.model.sha256,
        "quantization": record.facts.model.quantization,
        "engine": trial.engine,
        "backend": record.facts.engine.backend or trial.backend,
        "scenario": trial.scenario,
        **{f"option {name}": value for name, value in sorted(trial.options.items())},
    }


def compare(a: Sequence[Record], b: Sequence[Record], axis: Axis, names: Sequence[str] = ()) -> Comparison:
    """Match the records of two sides and compare the given metrics, or the headline metrics.

    Of several records of the same work the newest two that share a run are taken, else the newest
    of each side; those that ended well come before the others. Devices and engines that share no
    settings at all are compared at the fastest that each was measured with.
    """
    names = names or [entry.name for entry in metrics.headline()]
    free = _free(axis)
    sides = (_grouped(_newest_last(a), free), _grouped(_newest_last(b), free))
    if axis in _EACH_ITS_OWN and not sides[0].keys() & sides[1].keys():
        sides = (_grouped(_fastest_last(a), free | _how()), _grouped(_fastest_last(b), free | _how()))
    pairs = [_pair(*_chosen(sides[0][key], sides[1][key]), names) for key in sides[0] if key in sides[1]]
    only_a, only_b = (
        tuple(group[-1] for key, group in one.items() if key not in other) for one, other in (sides, sides[::-1])
    )
    return Comparison(tuple(pairs), only_a, only_b)


def difference(a: Sequence[Record], b: Sequence[Record], axis: Axis) -> dict[str, tuple[str, str]]:
    """What keeps the two most similar records of two sides from being compared."""
    free = _free(axis) | (_how() if axis in _EACH_ITS_OWN else frozenset())
    options = [differing(likeness(x), likeness(y), free) for x in a for y in b]
    return min(options, key=len, default={})


def differing(
    a: Mapping[str, Option | None], b: Mapping[str, Option | None], free: frozenset[str] = frozenset()
) -> dict[str, tuple[str, str]]:
    """The names whose values differ, apart from the free ones, with both values."""
    names = [name for name in {**a, **b} if name not in free and a.get(name) != b.get(name)]
    return {name: (_shown(a.get(name)), _shown(b.get(name))) for name in names}


def _free(axis: Axis) -> frozenset[str]:
    free = _FREE.get(axis, frozenset())
    if axis == "backend":
        return free | {f"option {name}" for name in engine_options.gpu_options()}
    return free | _how() if axis == "record" else free


def _fastest_last(records: Sequence[Record]) -> list[Record]:
    """By decode rate; those that didn't end well, or have none, first."""

    def rate(record: Record) -> tuple[bool, float]:
        found = record.metrics.get("decode_tps")
        return (record.status == "ok", found.value if found else 0.0)

    return sorted(records, key=rate)


def _newest_last(records: Sequence[Record]) -> list[Record]:
    """Those that didn't end well first."""
    return sorted(records, key=lambda one: (one.status == "ok", one.id))


def _grouped(
    records: Sequence[Record], free: frozenset[str]
) -> dict[tuple[tuple[str, Option | None], ...], list[Record]]:
    """Records of the same work, apart from what is free, in their order."""
    groups: dict[tuple[tuple[str, Option | None], ...], list[Record]] = {}
    for record in records:
        key = tuple(sorted((name, value) for name, value in likeness(record).items() if name not in free))
        groups.setdefault(key, []).append(record)
    return groups


def _chosen(a: Sequence[Record], b: Sequence[Record]) -> tuple[Record, Record]:
    for one in reversed(a):
        for other in reversed(b):
            if _same_run(one, other) and one.status == other.status == "ok":
                return one, other
    return a[-1], b[-1]


def _same_run(a: Record, b: Record) -> bool:
    return a.run.get("id") == b.run.get("id")


def _pair(a: Record, b: Record, names: Sequence[str]) -> Pair:
    shown = [name for name in names if name in a.metrics or name in b.metrics]
    context: dict[str, tuple[str, str]] = {}
    for label, fact in _CONTEXT.items():
        values = (fact(a.facts), fact(b.facts))
        if values[0] != values[1]:
            context[label] = (_shown(values[0]), _shown(values[1]))
    earlier = (_earlier(a), _earlier(b))
    if None not in earlier and earlier[0] != earlier[1]:
        context["earlier turns"] = (_shown(earlier[0]), _shown(earlier[1]))
    return Pair(a, b, tuple(finding(a, b, name) for name in shown), context)


def _earlier(record: Record) -> str | None:
    """What became of a conversation's earlier turns: an engine without its prefix cache reads them
    again, and its prefill rate and time to first token are then those of the whole conversation."""
    if record.trial.scenario != "chat":
        return None
    cached = [turn.cached_tokens for one in record.rounds for turn in one.turns]
    if not cached:
        return None
    return "kept in the cache" if any(cached) else "evaluated again"


def finding(a: Record, b: Record, name: str) -> Finding:
    """One metric of two records: paired where they share a run. Whether they are alike is the caller's to know."""
    one, other = a.metrics.get(name), b.metrics.get(name)
    if one is None or other is None:
        sides = (one.value if one else None, other.value if other else None)
        return Finding(name, *sides, None, "not measured on both sides")
    regimes = (load_regime(a.rounds), load_regime(b.rounds))
    if name.startswith("load") and regimes[0] != regimes[1]:
        # A load from a cold disk and one from memory are two quantities.
        return Finding(name, one.value, other.value, None, f"{_shown(regimes[0])} against {_shown(regimes[1])} starts")
    if _same_run(a, b):
        mine, theirs = _by_round(a, name), _by_round(b, name)
        both = sorted(set(mine) & set(theirs))
        change = stats.paired([mine[index] for index in both], [theirs[index] for index in both])
    else:
        change = stats.unpaired(one.rounds, other.rounds)
    why = "" if change else "no two rounds that can be compared"
    return Finding(name, one.value, other.value, change, why)


def _by_round(record: Record, name: str) -> dict[int, float | None]:
    """A metric's readings by the number of their round, which some trial may have missed."""
    indexes = sorted(one.index for one in record.rounds)
    return dict(zip(indexes, record.metrics[name].rounds, strict=False))


def _shown(value: Option | None) -> str:
    return "unknown" if value is None else str(value)
