"""The best configuration of each workload, named only where a difference to the others was shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgebench.core import Metric, MetricDefinition, Record
from edgebench.judging import metrics
from edgebench.judging.readings import metric
from edgebench.judging.workload import Workload, by_workload, clean, differs, fell_back, regime

CRITERIA = ("decode_tps", "peak_footprint_b", "load_s", "j_per_token")
"""Built-in metrics by which there is a best configuration, in order of importance."""


@dataclass(frozen=True)
class Best:
    """The best configuration of a workload by one metric."""

    criterion: MetricDefinition
    record: Record
    metric: Metric
    ties: tuple[Record, ...]
    """Records not shown to be worse, the nearest first."""


@dataclass(frozen=True)
class Conclusion:
    """What the records of one workload show."""

    workload: Workload
    compared: tuple[Record, ...]
    best: tuple[Best, ...]
    """By criterion; one on which none of several was shown to differ is in ``undecided``."""
    undecided: tuple[MetricDefinition, ...]
    fastest_only: bool
    """Whether of several settings only the fastest of each device, engine and backend is compared."""
    fell_back: int
    """Configurations that used another backend than asked for: never compared."""


def criteria() -> list[MetricDefinition]:
    """The metrics by which there is a best: the built-in ones, and headline metrics that others declare."""
    built_in = {entry.name for family in metrics.BUILT_IN for entry in family.METRICS}
    others = [entry for entry in metrics.headline() if entry.name not in built_in and entry.better != "none"]
    return [*map(metrics.find, CRITERIA), *others]


def conclusions(records: Sequence[Record]) -> list[Conclusion]:
    """One for each workload that has a measured configuration, in their order.

    ``records`` holds one for each configuration.
    """
    found = []
    entries = criteria()
    for workload, group in by_workload([record for record in records if record.status == "ok"]):
        fit = [r for r in group if not fell_back(r) and any(metric(r, entry.name) for entry in entries)]
        places = fastest(fit)
        compared = places if len(places) > 1 else fit
        bests = [best for entry in entries if (best := _best(compared, entry))]
        undecided = [
            best for best in bests if best.criterion.name != "decode_tps" and 1 + len(best.ties) == len(compared) > 1
        ]
        if bests:
            found.append(
                Conclusion(
                    workload,
                    tuple(compared),
                    tuple(best for best in bests if best not in undecided),
                    tuple(best.criterion for best in undecided),
                    len(compared) < len(fit),
                    sum(map(fell_back, group)),
                )
            )
    return found


def _best(records: Sequence[Record], entry: MetricDefinition) -> Best | None:
    """None where nobody measured it, or only one of several did: the only one is no best."""
    able = [(found, record) for record in records if (found := metric(record, entry.name))]
    if not able or len(able) < min(2, len(records)):
        return None
    if entry.name == "load_s":
        # A load from a cold disk and one from memory are two quantities: the more common one is compared.
        regimes = [regime(record) for _, record in able]
        common = max(regimes, key=regimes.count)
        able = [pair for pair in able if regime(pair[1]) == common]
    sign = -1 if entry.better == "higher" else 1
    able.sort(key=lambda pair: (sign * pair[0].value, pair[1].id))
    (found, first), *others = able
    ties: list[Record] = []
    for _, other in others:
        # In the order of the medians, so that the first clear difference ends the tie.
        if differs(first, other, entry.name):
            break
        ties.append(other)
    return Best(entry, first, found, tuple(ties))


def fastest(records: Sequence[Record]) -> list[Record]:
    """For each device, engine and backend, the record with the highest decode rate; fastest first.

    One that failed or fell back stands for them only where there is no other.
    """
    best: dict[tuple[str, str, str], Record] = {}
    for record in sorted(records, key=lambda r: (clean(r), rate(r))):
        best[(record.trial.device, record.trial.engine, record.trial.backend)] = record
    return sorted(best.values(), key=rate, reverse=True)


def rate(record: Record) -> float:
    """Its decode rate, for sorting; 0 where none was measured."""
    found = metric(record, "decode_tps")
    return found.value if found else 0.0
