"""The registry of metrics: every ``MetricDefinition``, built-in or from a plugin.

Built-in metrics are in this folder, one file per family; scenarios, engines and probes declare their
own; packages add more by the entry points ``edgebench.metrics``. ``docs/glossary.md`` is generated from
all of them.
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
def definitions() -> Mapping[str, MetricDefinition]:
    """Every metric by name, built-in ones first.

    Raises ``UsageError`` for a metric without a unit or with a duplicate name, with the plugin that
    declares it and the plugin's package.
    """
    result = {metric.name: metric for family in BUILT_IN for metric in family.METRICS}
    for group, name, metric in _plugin_metrics():
        package = plugins.package(group, name)
        owner = f"the package {package}" if group == "metrics" else f"the {group[:-1]} {name} of the package {package}"
        if not metric.unit:
            raise UsageError(f"the metric {metric.name} of {owner} has no unit", _remedy(package))
        if result.setdefault(metric.name, metric) != metric:
            raise UsageError(f"the metric {metric.name} of {owner} has a name already in use", _remedy(package))
    return result


Group = Literal["scenarios", "engines", "probes", "metrics"]
_GROUPS: tuple[Group, ...] = ("scenarios", "engines", "probes", "metrics")


@cache
def _plugin_metrics() -> Sequence[tuple[Group, str, MetricDefinition]]:
    """(group, plugin, metric) for every metric that a plugin declares.

    A plugin that cannot be loaded declares nothing; using it raises the error.
    """
    result: list[tuple[Group, str, MetricDefinition]] = []
    for group in _GROUPS:
        for name in plugins.names(group):
            ignored_errors = () if group == "metrics" else (UsageError,)
            with suppress(*ignored_errors), plugins.boundary(group, name):
                own_metrics = (
                    _probe_metrics(plugins.load(group, name).quantities)
                    if group == "probes"
                    else _load_metrics(group, name)
                )
                result += [(group, name, metric) for metric in own_metrics]
    return result


def _load_metrics(group: Literal["scenarios", "engines", "metrics"], name: str) -> Sequence[MetricDefinition]:
    if group == "metrics":
        loaded = plugins.load(group, name)
        return (loaded,) if isinstance(loaded, MetricDefinition) else loaded
    part = plugins.load(group, name)
    part_metrics: Sequence[MetricDefinition] = getattr(part, "metrics", ())
    return part_metrics


def _probe_metrics(quantities: Mapping[str, Quantity]) -> Sequence[MetricDefinition]:
    return [
        MetricDefinition(
            name,
            quantity.unit,
            metric.title,
            f"{quantity.text} Aggregated over a round: {_STATISTICS[metric.statistic]}",
            metric.better,
            headline=metric.headline,
            compute=_sampled(name, over_round=quantity.unit == "bytes"),
        )
        for quantity in quantities.values()
        for name, metric in quantity.metrics.items()
    ]


@cache
def _sampled(name: str, *, over_round: bool) -> Callable[[RoundData], float | None]:
    """Memory is sampled over the whole round, everything else from the first decode to the last."""

    def of_round(data: RoundData) -> float | None:
        return (data.round_sample_metrics if over_round else data.decode_sample_metrics).get(name)

    return of_round


def _remedy(package: str) -> str:
    return f"Fix it, or remove it: pip uninstall {package}"


def for_trial(scenario: str, engine: str) -> list[MetricDefinition]:
    """The metrics that a round of this scenario on this engine may have."""
    built_in = {metric.name for family in BUILT_IN for metric in family.METRICS}
    plugin_names = {"scenarios": scenario, "engines": engine}
    plugin_metrics = {
        metric.name for group, plugin, metric in _plugin_metrics() if plugin_names.get(group, plugin) == plugin
    }
    return [metric for name, metric in definitions().items() if name in built_in | plugin_metrics]


def compute(entries: Sequence[MetricDefinition], data: RoundData) -> tuple[dict[str, float], list[str]]:
    """The metrics of a round by name, and an error message for each metric whose function failed.

    Metrics without a function take the value that the scenario returned.
    """
    values: dict[str, float] = {}
    faults: list[str] = []
    for entry in entries:
        try:
            value = entry.compute(data) if entry.compute else data.scenario_values.get(entry.name)
            if value is not None:
                values[entry.name] = float(value)
        except Exception as error:  # noqa: BLE001 - a metric that cannot be computed is absent, and named
            faults.append(f"{entry.name} was not computed: {type(error).__name__}: {error}")
    return values, faults


def headline() -> Sequence[MetricDefinition]:
    """The headline metrics in their order: the ones that tables and comparisons show by default."""
    return [metric for metric in definitions().values() if metric.headline]


def find(name: str) -> MetricDefinition:
    """The definition of a metric; for an unknown metric, one with only a name."""
    return definitions().get(name) or MetricDefinition(name, "", name, "")


def sort_key(name: str) -> tuple[int, str]:
    """Sorts metrics in the order of their definitions, unknown ones last."""
    order = list(definitions())
    return (order.index(name) if name in order else len(order), name)


def unit(name: str, stored: str) -> str:
    """The unit of a metric by its definition; the stored one for an unknown metric.

    Records of earlier versions have the unit ``1`` for some multiples and shares.
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
    for row in definitions().values():
        mark = " ●" if row.headline else ""
        source = f" Source: {row.source}." if row.source else ""
        meaning = f"{row.definition.rstrip('.')}.{source}"
        lines.append(f"| `{row.name}`{mark} | {row.unit} | {row.better} | **{row.title}**: {meaning} |")
    return "\n".join(lines) + "\n"
