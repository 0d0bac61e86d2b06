"""Compares two sets of records: pairs records of the same work, and their rounds if they share a run."""

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
"""The property in which the two sides differ; all others must be equal."""


@cache
def tuning_options() -> frozenset[str]:
    """Options that may be compared. Every other option is part of the workload and must be equal."""
    return engine_options.tuning_options()


def _tuning_fields() -> frozenset[str]:
    """Fields that suit one device or engine and may differ between two of them."""
    return frozenset({"backend", *(f"option {name}" for name in tuning_options())})


_FREE_FIELDS: Mapping[Axis, frozenset[str]] = {
    "device": frozenset({"device"}),
    # An engine has its own model format and backends; their differences are reported with the pair.
    "engine": frozenset({"engine", "model sha256", "quantization", "backend"}),
    "backend": frozenset({"backend"}),
    # Two results that the user selected: the same work, with any settings.
    "record": frozenset({"device", "engine"}),
}
_OWN_SETTINGS_AXES: frozenset[Axis] = frozenset({"device", "engine"})
"""Axes for which each side's fastest settings are compared if no settings match."""
_CONTEXT_FACTS: Mapping[str, Callable[[Facts], str | None]] = {
    "engine build": lambda facts: facts.engine.build,
    "model sha256": lambda facts: facts.model.sha256,
    "quantization": lambda facts: facts.model.quantization,
    "system": lambda facts: facts.device.os,
    "kernel": lambda facts: facts.device.kernel,
    "driver": lambda facts: facts.device.driver,
}


@dataclass(frozen=True)
class Finding:
    """One metric of a pair. ``change`` is None if the two cannot be compared; ``why`` is the reason."""

    name: str
    a: float | None
    b: float | None
    change: stats.Change | None
    why: str = ""

    @property
    def worse(self) -> float:
        """By how much b is worse, as a share of a; 0 without a significant difference."""
        if self.change is None or self.change.verdict == "no difference shown":
            return 0.0
        better = metrics.find(self.name).better
        change = self.change.ratio - 1
        return max(0.0, -change if better == "higher" else change if better == "lower" else 0.0)


@dataclass(frozen=True)
class Pair:
    """The same work measured twice."""

    a: Record
    b: Record
    findings: tuple[Finding, ...]
    differs: Mapping[str, tuple[str, str]]
    """Other differences between the two sides (builds, systems …): name → (a, b)."""

    @property
    def paired(self) -> bool:
        return _same_run(self.a, self.b)


@dataclass(frozen=True)
class Comparison:
    """All pairs, and the records without a counterpart."""

    pairs: tuple[Pair, ...]
    only_a: tuple[Record, ...]
    only_b: tuple[Record, ...]


def comparison_key(record: Record) -> dict[str, Option | None]:
    """The fields that must be equal in two comparable records."""
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

    Of several records of the same work, uses the newest two that share a run, else the newest of each
    side, and prefers successful ones. Devices and engines without any common settings are compared at
    the fastest settings of each.
    """
    names = names or [entry.name for entry in metrics.headline()]
    free = _free_fields(axis)
    sides = (_group_by_work(_sort_by_age(a), free), _group_by_work(_sort_by_age(b), free))
    if axis in _OWN_SETTINGS_AXES and not sides[0].keys() & sides[1].keys():
        sides = (
            _group_by_work(_sort_by_rate(a), free | _tuning_fields()),
            _group_by_work(_sort_by_rate(b), free | _tuning_fields()),
        )
    pairs = [_pair(*_choose_records(sides[0][key], sides[1][key]), names) for key in sides[0] if key in sides[1]]
    only_a, only_b = (
        tuple(group[-1] for key, group in side.items() if key not in other) for side, other in (sides, sides[::-1])
    )
    return Comparison(tuple(pairs), only_a, only_b)


def find_smallest_difference(a: Sequence[Record], b: Sequence[Record], axis: Axis) -> dict[str, tuple[str, str]]:
    """The differences of the two most similar records, which prevent their comparison."""
    free = _free_fields(axis) | (_tuning_fields() if axis in _OWN_SETTINGS_AXES else frozenset())
    options = [find_differences(comparison_key(x), comparison_key(y), free) for x in a for y in b]
    return min(options, key=len, default={})


def find_differences(
    a: Mapping[str, Option | None], b: Mapping[str, Option | None], free: frozenset[str] = frozenset()
) -> dict[str, tuple[str, str]]:
    """Fields with different values, except ``free`` ones: name → (a, b)."""
    names = [name for name in {**a, **b} if name not in free and a.get(name) != b.get(name)]
    return {name: (_format_value(a.get(name)), _format_value(b.get(name))) for name in names}


def _free_fields(axis: Axis) -> frozenset[str]:
    free = _FREE_FIELDS.get(axis, frozenset())
    if axis == "backend":
        return free | {f"option {name}" for name in engine_options.gpu_options()}
    return free | _tuning_fields() if axis == "record" else free


def _sort_by_rate(records: Sequence[Record]) -> list[Record]:
    """Sorted by decode rate, ascending; failed records, and those without a rate, first."""

    def rate(record: Record) -> tuple[bool, float]:
        decode = record.metrics.get("decode_tps")
        return (record.status == "ok", decode.value if decode else 0.0)

    return sorted(records, key=rate)


def _sort_by_age(records: Sequence[Record]) -> list[Record]:
    """Sorted by ID, oldest first; failed records before all others."""
    return sorted(records, key=lambda record: (record.status == "ok", record.id))


def _group_by_work(
    records: Sequence[Record], free: frozenset[str]
) -> dict[tuple[tuple[str, Option | None], ...], list[Record]]:
    """Records grouped by everything except the ``free`` fields, in their order."""
    groups: dict[tuple[tuple[str, Option | None], ...], list[Record]] = {}
    for record in records:
        key = tuple(sorted((name, value) for name, value in comparison_key(record).items() if name not in free))
        groups.setdefault(key, []).append(record)
    return groups


def _choose_records(a: Sequence[Record], b: Sequence[Record]) -> tuple[Record, Record]:
    for record_a in reversed(a):
        for record_b in reversed(b):
            if _same_run(record_a, record_b) and record_a.status == record_b.status == "ok":
                return record_a, record_b
    return a[-1], b[-1]


def _same_run(a: Record, b: Record) -> bool:
    return a.run.get("id") == b.run.get("id")


def _pair(a: Record, b: Record, names: Sequence[str]) -> Pair:
    common_names = [name for name in names if name in a.metrics or name in b.metrics]
    context: dict[str, tuple[str, str]] = {}
    for label, fact in _CONTEXT_FACTS.items():
        values = (fact(a.facts), fact(b.facts))
        if values[0] != values[1]:
            context[label] = (_format_value(values[0]), _format_value(values[1]))
    earlier = (_earlier_turns(a), _earlier_turns(b))
    if None not in earlier and earlier[0] != earlier[1]:
        context["earlier turns"] = (_format_value(earlier[0]), _format_value(earlier[1]))
    return Pair(a, b, tuple(finding(a, b, name) for name in common_names), context)


def _earlier_turns(record: Record) -> str | None:
    """Whether earlier turns of a conversation were cached: without a prefix cache the engine evaluates them
    again, and prefill rate and time to first token are those of the whole conversation."""
    if record.trial.scenario != "chat":
        return None
    cached_tokens = [turn.cached_tokens for round_ in record.rounds for turn in round_.turns]
    if not cached_tokens:
        return None
    return "kept in the cache" if any(cached_tokens) else "evaluated again"


def finding(a: Record, b: Record, name: str) -> Finding:
    """Compare one metric of two records, paired by round if they share a run. The caller checks that they match."""
    metric_a, metric_b = a.metrics.get(name), b.metrics.get(name)
    if metric_a is None or metric_b is None:
        sides = (metric_a.value if metric_a else None, metric_b.value if metric_b else None)
        return Finding(name, *sides, None, "not measured on both sides")
    regimes = (load_regime(a.rounds), load_regime(b.rounds))
    if name.startswith("load") and regimes[0] != regimes[1]:
        # Cold and warm loads are different quantities.
        return Finding(
            name,
            metric_a.value,
            metric_b.value,
            None,
            f"{_format_value(regimes[0])} against {_format_value(regimes[1])} starts",
        )
    if _same_run(a, b):
        values_a, values_b = _by_round(a, name), _by_round(b, name)
        indexes = sorted(set(values_a) & set(values_b))
        change = stats.compare_paired([values_a[index] for index in indexes], [values_b[index] for index in indexes])
    else:
        change = stats.compare_unpaired(metric_a.rounds, metric_b.rounds)
    why = "" if change else "no two rounds that can be compared"
    return Finding(name, metric_a.value, metric_b.value, change, why)


def _by_round(record: Record, name: str) -> dict[int, float | None]:
    """A metric's values by round number; a trial may lack rounds."""
    indexes = sorted(round_.index for round_ in record.rounds)
    return dict(zip(indexes, record.metrics[name].rounds, strict=False))


def _format_value(value: Option | None) -> str:
    return "unknown" if value is None else str(value)
