"""Rates against context depth, and conversations turn by turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import isfinite

from edgebench.core import Metric, Record, Turn
from edgebench.judging import metrics
from edgebench.judging.readings import metric
from edgebench.judging.workload import Workload, group_by_workload, is_clean
from edgebench.views import units
from edgebench.views.charts import Figure, Line, Panel, Row, axis_title
from edgebench.views.charts.bars import format_with_interval, omission_note
from edgebench.views.charts.curves import MAX_SERIES, MAX_WORKLOADS, Axes, curve, point
from edgebench.views.charts.sweeps import sweep_panel
from edgebench.views.fields import labels, turn_number
from edgebench.views.headline import capitalized

TURN_VALUES: Mapping[str, Callable[[Turn], float | None]] = {
    "prefill_tps": lambda turn: turn.prefill_tps,
    "decode_tps": lambda turn: turn.decode_tps,
    "ttft_s": lambda turn: turn.ttft_s,
}
"""The values of a turn that are drawn, by key."""


def _middle(values: Sequence[float], unit: str) -> Metric:
    """Median of the rounds, with minimum and maximum as its interval."""
    from statistics import median

    ends = (min(values), max(values)) if len(values) > 1 else (None, None)
    return Metric(median(values), unit, tuple(values), *ends)


def _fastest(records: Sequence[Record]) -> tuple[list[Record], tuple[str, ...]]:
    """The records whose curves are drawn, and a note if others are omitted."""
    order = sorted(records, key=lambda r: -(rate.value if (rate := metric(r, "decode_tps")) else 0))
    left = len(order) - MAX_SERIES
    return order[:MAX_SERIES], (
        (f"The {MAX_SERIES} fastest of {len(order)} configurations are drawn.",) if left > 0 else ()
    )


def _by_turn(record: Record, key: str, unit: str, x: Callable[[Turn, int], float | None]) -> list[tuple[float, Metric]]:
    """A value of the turns against ``x`` of the turns, over rounds."""
    values_at: dict[float, list[float]] = {}
    for one in record.rounds:
        for index, turn in enumerate(one.turns):
            if key.removesuffix("_tps").removesuffix("_s") not in turn.measures:
                continue  # warming up, or filling the context
            at, value = x(turn, index), TURN_VALUES[key](turn)
            if at is not None and isinstance(value, int | float) and isfinite(value):
                values_at.setdefault(at, []).append(float(value))
    return [(at, _middle(values_at[at], unit)) for at in sorted(values_at)]


def _turn_panels(
    groups: list[tuple[Workload, list[Record]]],
    names: Sequence[str],
    x: Callable[[Turn, int], float | None],
    name: str,
) -> tuple[list[Panel], tuple[str, ...]]:
    """A panel for each workload and each metric of a turn."""
    panels, notes = [], omission_note(groups, MAX_WORKLOADS)
    for workload, group in groups[:MAX_WORKLOADS]:
        records, omitted = _fastest(group)
        notes += omitted
        series = labels(records)
        for key in names:
            title, unit = capitalized(metrics.find(key).title), metrics.find(key).unit
            rows, lines = list[Row](), list[Line]()
            for record in records:
                for at, value in _by_turn(record, key, unit, x):
                    text = f"{name} {units.number(at, 4)}: {format_with_interval(value)}"
                    rows.append(point(at, value, series[record.id], record.id, text))
                    cells = (series[record.id], units.number(at, 5), format_with_interval(value))
                    lines.append(Line(cells, record.id))
            if len({row["x"] for row in rows}) > 1:
                spec = curve(rows, Axes(name, axis_title(key)), band=True)
                heading = f"{title} · {workload.title}"
                panels.append(Panel(heading, spec, tuple(lines), ("configuration", name, title)))
    return panels, tuple(dict.fromkeys(notes))


def _is_conversation(record: Record) -> bool:
    """Whether its turns form a conversation."""
    return is_clean(record) and any(", turn 2" in turn.label for turn in _turns(record))


def _turns(record: Record) -> Sequence[Turn]:
    return record.rounds[0].turns if record.rounds else ()


def _depth_of(turn: Turn, index: int) -> float | None:
    return float(turn.depth)


def depth(records: Sequence[Record]) -> Figure | None:
    """Prefill and decode rate against context depth."""
    names = ("prefill_tps", "decode_tps")
    groups = group_by_workload([record for record in records if _is_conversation(record)])
    panels, notes = _turn_panels(groups, names, _depth_of, "context depth, tokens")
    panels += _depth_options(records, names)
    if not panels:
        return None
    caption = "How much slower each token gets as the context fills. Bands span the lowest and the highest round."
    return Figure("depth", "Rates against context depth", caption, tuple(panels), notes, is_side_by_side=True)


def _depth_options(records: Sequence[Record], names: Sequence[str]) -> list[Panel]:
    """The same from trials at one depth each (an option of the scenario)."""
    groups: dict[Workload, list[Record]] = {}
    for workload, group in group_by_workload([r for r in records if isinstance(r.trial.options.get("depth"), int)]):
        bare = replace(workload, work=tuple(pair for pair in workload.work if pair[0] != "depth"))
        groups.setdefault(bare, []).extend(group)
    panels = []
    for workload, group in list(groups.items())[:MAX_WORKLOADS]:
        for key in names:
            heading = f"{capitalized(metrics.find(key).title)} · {workload.title}"
            panel = sweep_panel(group, "depth", key, heading, Axes("context depth, tokens", metrics.find(key).unit))
            panels += [panel] if panel else []
    return panels


def turns(records: Sequence[Record]) -> Figure | None:
    """Turn by turn in conversations."""

    def number(turn: Turn, index: int) -> float:
        return float(turn_number(turn, index))

    names = ("ttft_s", "decode_tps")
    groups = group_by_workload([r for r in records if _is_conversation(r)])
    panels, notes = _turn_panels(groups, names, number, "turn")
    if not panels:
        return None
    caption = (
        "The latency of each reply in a conversation: the time to the first token, and the rate after it. "
        "Bands span the lowest and the highest round."
    )
    return Figure("turns", "Turn by turn in conversations", caption, tuple(panels), notes, is_side_by_side=True)
