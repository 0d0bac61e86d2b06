"""The best configuration of each workload, if it differs significantly from the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgebench.core import Metric, MetricDefinition, Record
from edgebench.judging import metrics
from edgebench.judging.readings import metric
from edgebench.judging.workload import Workload, fell_back, group_by_workload, has_difference, is_clean, load_regime_of

CRITERIA = ("decode_tps", "peak_footprint_b", "load_s", "j_per_token")
"""Built-in metrics that select a best configuration, in order of importance."""


@dataclass(frozen=True)
class Best:
    """The best configuration of a workload by one metric."""

    criterion: MetricDefinition
    record: Record
    metric: Metric
    ties: tuple[Record, ...]
    """Records without a significant difference, closest first."""


@dataclass(frozen=True)
class Conclusion:
    """The best configurations of one workload."""

    workload: Workload
    compared: tuple[Record, ...]
    best: tuple[Best, ...]
    """By criterion; criteria without a significant difference are in ``undecided``."""
    undecided: tuple[MetricDefinition, ...]
    fastest_only: bool
    """Whether only the fastest settings of each device, engine and backend are compared."""
    fell_back: int
    """Number of configurations that used a different backend than requested; they are never compared."""


def criteria() -> list[MetricDefinition]:
    """The built-in criteria, and the headline metrics of plugins."""
    built_in = {entry.name for family in metrics.BUILT_IN for entry in family.METRICS}
    others = [entry for entry in metrics.headline() if entry.name not in built_in and entry.better != "none"]
    return [*map(metrics.find, CRITERIA), *others]


def conclusions(records: Sequence[Record]) -> list[Conclusion]:
    """One conclusion per workload with a measured configuration, in the workloads' order.

    ``records``: one per configuration.
    """
    results = []
    entries = criteria()
    for workload, group in group_by_workload([record for record in records if record.status == "ok"]):
        candidates = [r for r in group if not fell_back(r) and any(metric(r, entry.name) for entry in entries)]
        fastest_records = fastest(candidates)
        compared = fastest_records if len(fastest_records) > 1 else candidates
        bests = [best for entry in entries if (best := _best(compared, entry))]
        undecided = [
            best for best in bests if best.criterion.name != "decode_tps" and 1 + len(best.ties) == len(compared) > 1
        ]
        if bests:
            results.append(
                Conclusion(
                    workload,
                    tuple(compared),
                    tuple(best for best in bests if best not in undecided),
                    tuple(best.criterion for best in undecided),
                    len(compared) < len(candidates),
                    sum(map(fell_back, group)),
                )
            )
    return results


def _best(records: Sequence[Record], entry: MetricDefinition) -> Best | None:
    """The best record by one metric; None if fewer than two of several records have it."""
    candidates = [(best_value, record) for record in records if (best_value := metric(record, entry.name))]
    if not candidates or len(candidates) < min(2, len(records)):
        return None
    if entry.name == "load_s":
        # Cold and warm loads are different quantities: the more common regime is compared.
        load_regimes = [load_regime_of(record) for _, record in candidates]
        main_regime = max(load_regimes, key=load_regimes.count)
        candidates = [pair for pair in candidates if load_regime_of(pair[1]) == main_regime]
    sign = -1 if entry.better == "higher" else 1
    candidates.sort(key=lambda pair: (sign * pair[0].value, pair[1].id))
    (best_value, best_record), *others = candidates
    ties: list[Record] = []
    for _, other in others:
        # Sorted by median, so the first significant difference ends the tie.
        if has_difference(best_record, other, entry.name):
            break
        ties.append(other)
    return Best(entry, best_record, best_value, tuple(ties))


def fastest(records: Sequence[Record]) -> list[Record]:
    """The record with the highest decode rate of each device, engine and backend; fastest first.

    A record that failed or fell back is used only if there is no other.
    """
    best: dict[tuple[str, str, str], Record] = {}
    for record in sorted(records, key=lambda r: (is_clean(r), rate(r))):
        best[(record.trial.device, record.trial.engine, record.trial.backend)] = record
    return sorted(best.values(), key=rate, reverse=True)


def rate(record: Record) -> float:
    """Decode rate in tokens/s, for sorting; 0 if it was not measured."""
    value = metric(record, "decode_tps")
    return value.value if value else 0.0
