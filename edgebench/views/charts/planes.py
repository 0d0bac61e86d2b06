"""Two metrics against each other: the frontier of speed × memory × energy, and the roofline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from edgebench.core import Record
from edgebench.judging.best import fastest
from edgebench.judging.readings import metric
from edgebench.judging.workload import Workload, group_by_workload, is_clean
from edgebench.views import units
from edgebench.views.charts import Figure, Line, Panel, Row, Spec, chart, form_of
from edgebench.views.charts.bars import BARS, PANELS, STEP, bar_form, cut, ends, named, side_by_side, spread
from edgebench.views.charts.theme import backends
from edgebench.views.fields import labels, marks

POINTS = 60
HEIGHT = 300
NONE = 1e-9
"""A share of the bandwidth below this is no reading."""


def frontier(records: Sequence[Record]) -> Figure | None:
    """Speed against memory, energy as the size of the mark; what nothing beats is joined."""
    able = [r for r in records if is_clean(r) and metric(r, "decode_tps") and metric(r, "peak_footprint_b")]
    groups = side_by_side([r for _, group in group_by_workload(able) if len(group) > 1 for r in group])
    panels = tuple(_frontier(kind, group) for kind, group in groups[:PANELS])
    if not panels:
        return None
    reading = (
        "Up is faster, left is smaller. The stepped line is the Pareto front. "
        "Thin lines are the 95\u00a0% intervals; a larger mark takes more energy per token, if it was measured."
    )
    return Figure("frontier", "Speed, memory and energy", reading, panels, cut(groups))


def unbeaten(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points (cost, gain) that no other beats, by rising cost."""
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    kept: list[int] = []
    for index in order:
        if not kept or points[index][1] > points[kept[-1]][1]:
            kept.append(index)
    return kept


def _frontier(kind: Workload, group: list[Record]) -> Panel:
    pairs = [(r, a, b) for r in group if (a := metric(r, "peak_footprint_b")) and (b := metric(r, "decode_tps"))]
    best = set(unbeaten([(memory.value, rate.value) for _, memory, rate in pairs]))
    ordered = [pairs[i] for i in sorted(best)] + [pair for i, pair in enumerate(pairs) if i not in best]
    shown = ordered[:POINTS]
    names = labels([record for record, _, _ in shown])
    factor, unit = units.scale(max(memory.value for _, memory, _ in shown), "bytes")
    most = max((found.value for record, _, _ in shown if (found := metric(record, "j_per_token"))), default=1.0)
    rows, lines = list[Row](), list[Line]()
    for place, (record, memory, rate) in enumerate(shown):
        energy = metric(record, "j_per_token")
        row: Row = {"x": memory.value / factor, "y": rate.value, "name": names[record.id], "record": record.id}
        row |= {"backend": record.trial.backend, "best": place < len(best)}
        row |= {f"x{side}": value for side, value in ends(memory, factor).items()}
        row |= {f"y{side}": value for side, value in ends(rate).items()}
        row["size"] = 30 + 400 * energy.value / most if energy else 60
        row["said"] = f"{spread(rate)}, {spread(memory)}" + (f", {spread(energy)}" if energy else "")
        rows.append(row)
        cells = (names[record.id], spread(memory), spread(rate), spread(energy) if energy else "—")
        lines.append(Line((*cells, ", ".join(marks(record))), record.id))
    columns = ("configuration", "memory", "decode rate", "energy", "doubts")
    return Panel(kind.title, _plane(rows, unit), tuple(lines), columns)


def _plane(rows: list[Row], unit: str) -> Spec:
    """Points with their intervals, and the edge that joins the best."""
    import altair as alt

    base = chart(rows, height=HEIGHT)
    x = alt.X("x:Q", title=f"memory footprint, {unit}", scale=alt.Scale(zero=True, nice=True))
    y = alt.Y("y:Q", title="decode, tokens/s", scale=alt.Scale(zero=True, nice=True))
    edge = base.transform_filter("datum.best").mark_line(style="guide", interpolate="step-after")
    size = alt.Size("size:Q", legend=None, scale=None)
    tooltip = [alt.Tooltip("name:N", title="what"), alt.Tooltip("said:N", title="reading")]
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
    return form_of(form, present)


def names(best: Sequence[Row], middle: float) -> list[Row]:
    """The names of the best points, each above its point or, where another name is, below that."""
    line = 17 / HEIGHT * max(row["y"] for row in best)  # what a line of text takes on the axis
    named: list[Row] = []
    for row in sorted(best, key=lambda row: -row["y"]):
        side = "left" if row["x"] < middle else "right"
        lowest = min((other["place"] for other in named if other["side"] == side), default=math.inf)
        place = min(row["y"] + 0.8 * line, lowest - line)
        if place > 0:
            named.append({**row, "side": side, "place": place})
    return named


def roofline(records: Sequence[Record]) -> Figure | None:
    """Decode rate against the rate that the device's memory bandwidth allows."""
    able = [r for r in records if metric(r, "decode_tps") and (u := metric(r, "mbu")) and u.value > NONE]
    groups = group_by_workload(able)
    panels = tuple(_roofline(kind, group) for kind, group in groups[:PANELS])
    if not panels:
        return None
    reading = (
        "Each token must read the weights once, so the device's measured read bandwidth caps the rate: the outline is "
        "that ceiling, the bar what was reached. A bar beyond its outline means a mistake in the measurement."
    )
    return Figure("roofline", "Roofline: decode rate under its ceiling", reading, panels, cut(groups))


def _roofline(kind: Workload, group: list[Record]) -> Panel:
    import altair as alt

    rows, lines = list[Row](), list[Line]()
    shown = fastest(group)[:BARS]
    names = labels(shown)
    for record in shown:
        rate, use = metric(record, "decode_tps"), metric(record, "mbu")
        assert rate is not None and use is not None
        ceiling = rate.value / use.value
        text = f"{units.quantity(use.value, use.unit)} of {units.number(ceiling)} tokens/s"
        row: Row = {"record": record.id, "name": named(record, names), "text": text, "ceiling": ceiling}
        row |= {"value": rate.value, "backend": record.trial.backend, "far": max(ceiling, rate.value)}
        rows.append(row | ends(rate))
        cells = (
            names[record.id],
            spread(rate),
            f"{units.number(ceiling)} tokens/s",
            spread(use),
            ", ".join(marks(record)),
        )
        lines.append(Line(cells, record.id))
    base = chart(rows, height=STEP * len(rows))
    tooltip = [alt.Tooltip("name:N", title="what"), alt.Tooltip("text:N", title="bandwidth used")]
    bars = base.mark_bar(height=14, yOffset=8).encode(
        x=alt.X("value:Q", title="decode, tokens/s", scale=alt.Scale(zero=True, nice=True)),
        color=alt.Color("backend:N", legend=None, scale=alt.Scale(domain=backends(r.trial.backend for r in shown))),
        tooltip=tooltip,
    )
    roof = base.mark_bar(height=14, yOffset=8, style="roof").encode(x="ceiling:Q", tooltip=tooltip)
    spec = bar_form(base, [roof, bars], "far")
    columns = ("configuration", "decode rate", "ceiling", "bandwidth used", "doubts")
    return Panel(kind.title, spec, tuple(lines), columns)
