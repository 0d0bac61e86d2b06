"""Two metrics against each other: the frontier of speed × memory × energy, and the roofline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from edgebench.core import Record
from edgebench.judging import metrics
from edgebench.judging.best import fastest
from edgebench.judging.readings import metric
from edgebench.judging.workload import Workload, group_by_workload, is_clean
from edgebench.views import units
from edgebench.views.charts import Figure, Line, Panel, Row, Spec, axis_title, chart, to_spec
from edgebench.views.charts.bars import (
    BAR_HEIGHT,
    MAX_BARS,
    MAX_WORKLOADS,
    bar_label,
    bar_spec,
    comparable_groups,
    format_with_interval,
    interval_ends,
    omission_note,
)
from edgebench.views.charts.theme import backends
from edgebench.views.fields import labels, marks

MAX_POINTS = 60
HEIGHT = 300
NONE = 1e-9
"""A bandwidth utilization below this counts as not measured."""


def frontier(records: Sequence[Record]) -> Figure | None:
    """Speed against memory, energy as the size of the mark, with the Pareto front."""
    able = [r for r in records if is_clean(r) and metric(r, "decode_tps") and metric(r, "peak_footprint_b")]
    groups = comparable_groups([r for _, group in group_by_workload(able) if len(group) > 1 for r in group])
    panels = tuple(_frontier(workload, group) for workload, group in groups[:MAX_WORKLOADS])
    if not panels:
        return None
    caption = (
        "Up is faster, left is smaller. The stepped line is the Pareto front. "
        "Thin lines are the 95\u00a0% intervals; a larger mark takes more energy per token, if it was measured."
    )
    return Figure("frontier", "Speed, memory and energy", caption, panels, omission_note(groups))


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the Pareto-optimal points (cost, gain), by rising cost."""
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    front: list[int] = []
    for index in order:
        if not front or points[index][1] > points[front[-1]][1]:
            front.append(index)
    return front


def _frontier(workload: Workload, group: list[Record]) -> Panel:
    pairs = [(r, a, b) for r in group if (a := metric(r, "peak_footprint_b")) and (b := metric(r, "decode_tps"))]
    best = set(pareto_front([(memory.value, rate.value) for _, memory, rate in pairs]))
    ordered = [pairs[i] for i in sorted(best)] + [pair for i, pair in enumerate(pairs) if i not in best]
    visible = ordered[:MAX_POINTS]
    names = labels([record for record, _, _ in visible])
    factor, unit = units.scale(max(memory.value for _, memory, _ in visible), "bytes")
    max_energy = max(
        (energy_metric.value for record, _, _ in visible if (energy_metric := metric(record, "j_per_token"))),
        default=1.0,
    )
    rows, lines = list[Row](), list[Line]()
    for index, (record, memory, rate) in enumerate(visible):
        energy = metric(record, "j_per_token")
        row: Row = {"x": memory.value / factor, "y": rate.value, "name": names[record.id], "record": record.id}
        row |= {"backend": record.trial.backend, "best": index < len(best)}
        row |= {f"x{side}": value for side, value in interval_ends(memory, factor).items()}
        row |= {f"y{side}": value for side, value in interval_ends(rate).items()}
        row["size"] = 30 + 400 * energy.value / max_energy if energy else 60
        row["value_text"] = f"{format_with_interval(rate)}, {format_with_interval(memory)}" + (
            f", {format_with_interval(energy)}" if energy else ""
        )
        rows.append(row)
        cells = (
            names[record.id],
            format_with_interval(memory),
            format_with_interval(rate),
            format_with_interval(energy) if energy else "—",
        )
        lines.append(Line((*cells, ", ".join(marks(record))), record.id))
    metric_names = ("peak_footprint_b", "decode_tps", "j_per_token")
    columns = ("configuration", *(metrics.find(name).title for name in metric_names), "doubts")
    return Panel(workload.title, _plane(rows, unit), tuple(lines), columns)


def _plane(rows: list[Row], unit: str) -> Spec:
    """Points with their intervals, and the line of the Pareto front."""
    import altair as alt

    base = chart(rows, height=HEIGHT)
    x = alt.X("x:Q", title=axis_title("peak_footprint_b", unit), scale=alt.Scale(zero=True, nice=True))
    y = alt.Y("y:Q", title=axis_title("decode_tps"), scale=alt.Scale(zero=True, nice=True))
    edge = base.transform_filter("datum.best").mark_line(style="guide", interpolate="step-after")
    size = alt.Size("size:Q", legend=None, scale=None)
    tooltip = [alt.Tooltip("name:N", title="configuration"), alt.Tooltip("value_text:N", title="value")]
    present = sorted({row["backend"] for row in rows})
    backend: dict[str, Any] = {"scale": alt.Scale(domain=backends(present)), "legend": alt.Legend(values=present)}
    points = base.mark_point().encode(
        x=x, y=y, size=size, color=alt.Color("backend:N", **backend), shape=alt.Shape("backend:N", **backend),
        tooltip=tooltip,
    )  # fmt: skip
    sides: tuple[Literal["left", "right"], ...] = ("left", "right")
    named_points = names([row for row in rows if row["best"]], max(row["x"] for row in rows) * 0.55)
    text = [
        chart(part).mark_text(style="aside", align=side, dx=8 if side == "left" else -8)
        for side in sides
        if (part := [row for row in named_points if row["side"] == side])
    ]
    across = base.transform_filter("isValid(datum.ylow)").mark_rule(style="interval")
    along = base.transform_filter("isValid(datum.xlow)").mark_rule(style="interval")
    # A layer without marks would be an image without a name to a screen reader.
    intervals = [across.encode(x=x, y="ylow:Q", y2="yhigh:Q")] if any("ylow" in row for row in rows) else []
    intervals += [along.encode(y=y, x="xlow:Q", x2="xhigh:Q")] if any("xlow" in row for row in rows) else []
    form: Any = alt.layer(
        *intervals,
        edge.encode(x=x, y=y, order=alt.Order("x:Q")),
        points,
        *(part.encode(x=x, y="place:Q", text="name:N") for part in text),
    )
    return to_spec(form, present)


def names(best: Sequence[Row], middle: float) -> list[Row]:
    """The names of the best points, each above its point, or below another name that it would overlap."""
    line = 17 / HEIGHT * max(row["y"] for row in best)  # height of a line of text on the axis
    label_rows: list[Row] = []
    for row in sorted(best, key=lambda row: -row["y"]):
        side = "left" if row["x"] < middle else "right"
        lowest = min((label["place"] for label in label_rows if label["side"] == side), default=math.inf)
        position = min(row["y"] + 0.8 * line, lowest - line)
        if position > 0:
            label_rows.append({**row, "side": side, "place": position})
    return label_rows


def roofline(records: Sequence[Record]) -> Figure | None:
    """Decode rate against the rate that the device's memory bandwidth allows."""
    able = [r for r in records if metric(r, "decode_tps") and (u := metric(r, "mbu")) and u.value > NONE]
    groups = group_by_workload(able)
    panels = tuple(_roofline(workload, group) for workload, group in groups[:MAX_WORKLOADS])
    if not panels:
        return None
    caption = (
        "Each token reads the weights once, so the device's measured read bandwidth limits the rate: the outline is "
        "that ceiling, the bar the measured rate. A bar beyond its outline indicates a measurement error."
    )
    return Figure("roofline", "Roofline: decode rate under its ceiling", caption, panels, omission_note(groups))


def _roofline(workload: Workload, group: list[Record]) -> Panel:
    import altair as alt

    rows, lines = list[Row](), list[Line]()
    visible = fastest(group)[:MAX_BARS]
    names = labels(visible)
    for record in visible:
        rate, use = metric(record, "decode_tps"), metric(record, "mbu")
        assert rate is not None and use is not None
        ceiling = rate.value / use.value
        text = f"{units.quantity(use.value, use.unit)} of {units.number(ceiling)} tokens/s"
        row: Row = {"record": record.id, "name": bar_label(record, names), "text": text, "ceiling": ceiling}
        row |= {"value": rate.value, "backend": record.trial.backend, "far": max(ceiling, rate.value)}
        rows.append(row | interval_ends(rate))
        cells = (
            names[record.id],
            format_with_interval(rate),
            f"{units.number(ceiling)} tokens/s",
            format_with_interval(use),
            ", ".join(marks(record)),
        )
        lines.append(Line(cells, record.id))
    base = chart(rows, height=BAR_HEIGHT * len(rows))
    tooltip = [alt.Tooltip("name:N", title="configuration"), alt.Tooltip("text:N", title=metrics.find("mbu").title)]
    bars = base.mark_bar(height=14, yOffset=8).encode(
        x=alt.X("value:Q", title=axis_title("decode_tps"), scale=alt.Scale(zero=True, nice=True)),
        color=alt.Color("backend:N", legend=None, scale=alt.Scale(domain=backends(r.trial.backend for r in visible))),
        tooltip=tooltip,
    )
    roof = base.mark_bar(height=14, yOffset=8, style="roof").encode(x="ceiling:Q", tooltip=tooltip)
    spec = bar_spec(base, [roof, bars], "far")
    columns = ("configuration", metrics.find("decode_tps").title, "ceiling", metrics.find("mbu").title, "doubts")
    return Panel(workload.title, spec, tuple(lines), columns)
