"""Two metrics against each other: the frontier of speed × memory × energy, and the roofline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgebench.core import Metric, Record
from edgebench.views import units
from edgebench.views.charts import Figure, Line, Panel, Spec
from edgebench.views.charts.bars import PANELS, cut, doubts, spread
from edgebench.views.reading import Kind, by_kind, labels, latest, metric

POINTS = 60


def frontier(records: Sequence[Record]) -> Figure | None:
    """Speed against memory, energy as the size of the mark; what nothing beats is joined."""
    able = [r for r in latest(records) if metric(r, "decode_tps") and metric(r, "peak_footprint_b")]
    groups = [(kind, group) for kind, group in by_kind(able) if len(group) > 1]
    panels = tuple(_frontier(kind, group) for kind, group in groups[:PANELS])
    if not panels:
        return None
    reading = (
        "Up is faster, left is smaller. The stepped line joins what no other configuration beats in both. "
        "Thin lines are the 95 % intervals; a larger mark takes more energy per token, where that was measured."
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


def _frontier(kind: Kind, group: list[Record]) -> Panel:
    import altair as alt

    pairs = [(r, a, b) for r in group if (a := metric(r, "peak_footprint_b")) and (b := metric(r, "decode_tps"))]
    best = set(unbeaten([(memory.value, rate.value) for _, memory, rate in pairs]))
    ordered = [pairs[i] for i in sorted(best)] + [pair for i, pair in enumerate(pairs) if i not in best]
    shown = ordered[:POINTS]
    names = labels([record for record, _, _ in shown])
    factor, unit = units.scale(max(memory.value for _, memory, _ in shown), "bytes")
    rows, lines = [], []
    for place, (record, memory, rate) in enumerate(shown):
        energy = metric(record, "j_per_token")
        row = {"x": memory.value / factor, "y": rate.value, "name": names[record.id], "record": record.id}
        row |= {"backend": record.trial.backend, "best": place < len(best)}
        row |= _ends("x", memory, factor) | _ends("y", rate, 1.0)
        row |= {"energy": energy.value} if energy else {}
        row["said"] = f"{spread(rate)}, {spread(memory)}" + (f", {spread(energy)}" if energy else "")
        rows.append(row)
        cells = (names[record.id], spread(memory), spread(rate), spread(energy) if energy else "—", doubts(record))
        lines.append(Line(cells, record.id))
    base = alt.Chart(alt.Data(values=rows), height=300)
    x = alt.X("x:Q", title=f"memory footprint, {unit}", scale=alt.Scale(zero=True, nice=True))
    y = alt.Y("y:Q", title="decode, tokens/s", scale=alt.Scale(zero=True, nice=True))
    edge = base.transform_filter("datum.best").mark_line(style="guide", interpolate="step-after")
    energies = any("energy" in row for row in rows)
    sized = alt.Size("energy:Q", legend=None, scale=alt.Scale(zero=True, range=[30, 400]))
    size = alt.condition("isValid(datum.energy)", sized, alt.value(44)) if energies else alt.value(60)
    tooltip = [alt.Tooltip("name:N", title="what"), alt.Tooltip("said:N", title="reading")]
    points = base.mark_point().encode(
        x=x, y=y, size=size, color=alt.Color("backend:N"), shape=alt.Shape("backend:N"), tooltip=tooltip
    )
    middle = max(row["x"] for row in rows) * 0.55
    text = [
        base.transform_filter(f"datum.best && datum.x {side} {middle}").mark_text(
            style="aside", align=align, dx=shift, dy=-12
        )
        for side, align, shift in (("<", "left", 8), (">=", "right", -8))
    ]
    form: Any = alt.layer(
        base.transform_filter("isValid(datum.ylow)").mark_rule(style="interval").encode(x=x, y="ylow:Q", y2="yhigh:Q"),
        base.transform_filter("isValid(datum.xlow)").mark_rule(style="interval").encode(y=y, x="xlow:Q", x2="xhigh:Q"),
        edge.encode(x=x, y=y, order=alt.Order("x:Q")),
        points,
        *(part.encode(x=x, y=y, text="name:N") for part in text),
    )
    spec: Spec = form.to_dict()
    return Panel(kind.title, spec, tuple(lines), ("configuration", "memory", "decode rate", "energy", "doubts"))


def _ends(axis: str, found: Metric, factor: float) -> dict[str, float]:
    if found.low is None or found.high is None:
        return {}
    return {f"{axis}low": found.low / factor, f"{axis}high": found.high / factor}


def roofline(records: Sequence[Record]) -> Figure | None:
    """Decode rate against the rate that the device's memory bandwidth allows."""
    able = [r for r in latest(records) if metric(r, "decode_tps") and (u := metric(r, "mbu")) and u.value > 0]
    groups = by_kind(able)
    panels = tuple(_roofline(kind, group) for kind, group in groups[:PANELS])
    if not panels:
        return None
    reading = (
        "Each token must read the weights once, so bandwidth caps the rate: on the dashed line all of the device's "
        "measured read bandwidth would be used. Above the line means a mistake in the measurement."
    )
    return Figure("roofline", "Roofline: decode rate against its ceiling", reading, panels, cut(groups))


def _roofline(kind: Kind, group: list[Record]) -> Panel:
    import altair as alt

    rows, lines = [], []
    shown = group[:POINTS]
    names = labels(shown)
    for record in shown:
        rate, use = metric(record, "decode_tps"), metric(record, "mbu")
        assert rate is not None and use is not None
        ceiling = rate.value / use.value
        said = f"{spread(rate)} of {units.number(ceiling)} tokens/s: {units.quantity(use.value, '1')}"
        row = {"x": ceiling, "y": rate.value, "name": names[record.id], "record": record.id, "said": said}
        rows.append(row | {"backend": record.trial.backend} | _ends("y", rate, 1.0))
        cells = (names[record.id], spread(rate), f"{units.number(ceiling)} tokens/s", spread(use), doubts(record))
        lines.append(Line(cells, record.id))
    end = max(max(row["x"], row["y"]) for row in rows) * 1.1
    base = alt.Chart(alt.Data(values=rows), height=300)
    x = alt.X("x:Q", title="ceiling by memory bandwidth, tokens/s", scale=alt.Scale(zero=True, nice=True))
    y = alt.Y("y:Q", title="decode, tokens/s", scale=alt.Scale(zero=True, nice=True))
    roof = alt.Chart(alt.Data(values=[{"x": 0, "y": 0}, {"x": end, "y": end}])).mark_line(style="guide")
    ends = base.transform_filter("isValid(datum.ylow)")
    tooltip = [alt.Tooltip("name:N", title="what"), alt.Tooltip("said:N", title="reading")]
    form: Any = alt.layer(
        roof.encode(x=x, y=y),
        ends.mark_rule(style="interval").encode(x=x, y="ylow:Q", y2="yhigh:Q"),
        base.mark_point().encode(
            x=x, y=y, color=alt.Color("backend:N"), shape=alt.Shape("backend:N"), tooltip=tooltip
        ),
        base.mark_text(style="aside", align="right", dx=-10, dy=8).encode(x=x, y=y, text="name:N"),
    )
    spec: Spec = form.to_dict()
    columns = ("configuration", "decode rate", "ceiling", "bandwidth used", "doubts")
    return Panel(kind.title, spec, tuple(lines), columns)
