"""Every metric there is, each by its one entry (``MetricDefinition``), from wherever it is declared.

The program's own are in this folder, a file for each family; scenarios, engines and probes declare
theirs beside what measures them; a package may give more by the entry points ``edgebench.metrics``.
``docs/glossary.md`` is generated from all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Literal

from edgebench import plugins
from edgebench.core import MetricDefinition, Quantity, RoundData, Statistic
from edgebench.errors import UsageError
from edgebench.judging.metrics import bandwidth, energy, load, memory, rates, speculation

BUILT_IN = (memory, load, rates, energy, bandwidth, speculation)

_STATISTICS: Mapping[Statistic, str] = {
    "mean": "mean",
    "median": "median",
    "p95": "95th percentile",
    "max": "maximum",
    "min": "minimum",
    "sum": "sum",
    "last": "last",
}


@cache
def known() -> Mapping[str, MetricDefinition]:
    """Every metric by its name: headline metrics and the program's own first.

    Raises ``UsageError`` for a metric without a unit, and for a name that is taken: with the part
    that declares it and the package this came from.
    """
    found = {metric.name: metric for family in BUILT_IN for metric in family.METRICS}
    for group, part, metric in _declared():
        package = plugins.package(group, part)
        who = f"the package {package}" if group == "metrics" else f"the {group[:-1]} {part} of the package {package}"
        if not metric.unit:
            raise UsageError(f"the metric {metric.name} of {who} has no unit", _remedy(package))
        if found.setdefault(metric.name, metric) != metric:
            raise UsageError(f"the metric {metric.name} of {who} has a name that is taken", _remedy(package))
    return found


Group = Literal["scenarios", "engines", "probes", "metrics"]
_GROUPS: tuple[Group, ...] = ("scenarios", "engines", "probes", "metrics")


@cache
def _declared() -> Sequence[tuple[Group, str, MetricDefinition]]:
    """What plugins declare: the group and the name of each, and the metric.

    A part that can't be loaded declares nothing: whoever asks for it is told why.
    """
    found: list[tuple[Group, str, MetricDefinition]] = []
    for group in _GROUPS:
        for name in plugins.names(group):
            missing = () if group == "metrics" else (UsageError,)
            with suppress(*missing), plugins.boundary(group, name):
                own = _of_probe(plugins.load(group, name).quantities) if group == "probes" else _own(group, name)
                found += [(group, name, metric) for metric in own]
    return found


def _own(group: Literal["scenarios", "engines", "metrics"], name: str) -> Sequence[MetricDefinition]:
    if group == "metrics":
        given = plugins.load(group, name)
        return (given,) if isinstance(given, MetricDefinition) else given
    part = plugins.load(group, name)
    own: Sequence[MetricDefinition] = getattr(part, "metrics", ())
    return own


def _of_probe(quantities: Mapping[str, Quantity]) -> Sequence[MetricDefinition]:
    return [
        MetricDefinition(
            name,
            quantity.unit,
            metric.title,
            f"{quantity.text} Aggregated over a round: {_STATISTICS[metric.statistic]}",
            metric.better,
            headline=metric.headline,
            compute=_sampled(name, whole=quantity.unit == "bytes"),
        )
        for quantity in quantities.values()
        for name, metric in quantity.metrics.items()
    ]


@cache
def _sampled(name: str, *, whole: bool) -> Callable[[RoundData], float | None]:
    """Memory over the whole round, everything else from the first decoding to the last."""

    def of_round(data: RoundData) -> float | None:
        return (data.round_sample_metrics if whole else data.decode_sample_metrics).get(name)

    return of_round


def _remedy(package: str) -> str:
    return f"Fix it, or remove it: pip uninstall {package}"


def of_trial(scenario: str, engine: str) -> list[MetricDefinition]:
    """The metrics that a round of this scenario on this engine may have."""
    general = {metric.name for family in BUILT_IN for metric in family.METRICS}
    wanted = {"scenarios": scenario, "engines": engine}
    own = {metric.name for group, part, metric in _declared() if wanted.get(group, part) == part}
    return [metric for name, metric in known().items() if name in general | own]


def compute(entries: Sequence[MetricDefinition], data: RoundData) -> tuple[dict[str, float], list[str]]:
    """The metrics of a round by name, and for each whose function failed what went wrong.

    What a scenario returned counts where its entry has no function of its own.
    """
    found: dict[str, float] = {}
    faults: list[str] = []
    for entry in entries:
        try:
            value = entry.compute(data) if entry.compute else data.scenario_values.get(entry.name)
            if value is not None:
                found[entry.name] = float(value)
        except Exception as error:  # noqa: BLE001 - a metric that cannot be computed is absent, and named
            faults.append(f"{entry.name} was not computed: {type(error).__name__}: {error}")
    return found, faults


def headline() -> Sequence[MetricDefinition]:
    """The one list of headline metrics, in their order: what tables and comparisons show without being asked."""
    return [metric for metric in known().values() if metric.headline]


def find(name: str) -> MetricDefinition:
    """The definition of a metric; of one that nobody here knows, its name alone."""
    return known().get(name) or MetricDefinition(name, "", name, "")


def place(name: str) -> tuple[int, str]:
    """What metrics are sorted by: the order of their entries, then those that nobody here knows."""
    order = list(known())
    return (order.index(name) if name in order else len(order), name)


def unit(name: str, stored: str) -> str:
    """The unit of a metric by its definition; as it was stored where nobody here knows the metric.

    Records of earlier versions call some multiples and shares ``1``.
    """
    return find(name).unit or stored


def glossary() -> str:
    """The text of ``docs/glossary.md``."""
    lines = [
        "# Glossary of metrics",
        "",
        "Generated by `python docs/generate.py` from the metrics' own entries.",
        "Units are those of records: base units. A `ratio` is a share of a whole, shown in per cent (1 is 100 %);",
        "`×` is a multiple, shown as 1.31×. A headline metric (●) is shown in every table and comparison.",
        "In a record, a metric's value is the median of its rounds, `low` and `high` are its 95 %",
        "interval (see [statistics](statistics.md)).",
        "",
        "| name | unit | better | definition |",
        "|---|---|---|---|",
    ]
    for row in known().values():
        mark = " ●" if row.headline else ""
        source = f" Source: {row.source}." if row.source else ""
        meaning = f"{row.definition.rstrip('.')}.{source}"
        lines.append(f"| `{row.name}`{mark} | {row.unit} | {row.better} | **{row.title}**: {meaning} |")
    return "\n".join(lines) + "\n"
