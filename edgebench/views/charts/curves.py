"""Lines with points and their intervals: the axes that sweeps and turns are drawn on."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgebench.core import Metric
from edgebench.views.charts import Row, Spec, chart, form_of

if TYPE_CHECKING:
    import altair as alt

KINDS = 2
"""Kinds of work a figure of curves shows."""
SERIES = 6
"""Lines in one pair of axes; as many as there are colours."""


@dataclass(frozen=True)
class Axes:
    """What a pair of curve axes is called."""

    x: str
    y: str
    share: bool = False
    """Whether what is drawn upwards is a share: from 0 to 1."""


def curve(rows: list[Row], axes: Axes, *, band: bool = False, extra: Sequence[alt.Chart] = ()) -> Spec:
    """Lines with points and their intervals: ``x y low high series said record`` in each row."""
    import altair as alt

    base = chart(rows, height=230)
    x = alt.X("x:Q", title=axes.x, scale=alt.Scale(zero=False, nice=True), axis=alt.Axis(grid=False, tickCount=8))
    places = sorted({row["x"] for row in rows})
    if len(places) <= 20 and places[-1] <= 256:
        crowded = min((b - a for a, b in itertools.pairwise(places)), default=1) < (places[-1] - places[0]) / 16
        overlap: Any = "greedy" if crowded else False
        # Without a count of its own the theme's thins them out, whatever the room.
        ticks: dict[str, Any] = {"values": places, "tickCount": len(places), "format": "~g"}
        x = x.axis(alt.Axis(grid=False, labelOverlap=overlap, labelFlush=False, **ticks))
    scale = alt.Scale(domain=[0, 1]) if axes.share else alt.Scale(zero=True, nice=True)
    y = alt.Y("y:Q", title=axes.y, scale=scale)
    order = list(dict.fromkeys(row["series"] for row in rows))
    names, several = alt.Scale(domain=order), len(order) > 1
    colour = alt.Color("series:N", legend=alt.Legend() if several else None, scale=names)
    shape = alt.Shape("series:N", legend=alt.Legend() if several else None, scale=names)
    ends = base.transform_filter("isValid(datum.low)")
    if band:
        intervals = ends.mark_area().encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=colour)
    else:
        intervals = ends.mark_rule(style="interval", strokeWidth=2).encode(x=x, y=alt.Y("low:Q"), y2="high:Q")
    line = base.mark_line().encode(x=x, y=y, color=colour)
    tooltip = [alt.Tooltip("series:N", title="what"), alt.Tooltip("said:N", title="reading")]
    pale = alt.condition("datum.doubted", alt.value(0.4), alt.value(1))
    points = base.mark_point().encode(x=x, y=y, color=colour, shape=shape, opacity=pale, tooltip=tooltip)
    # A layer without marks would be an image without a name to a screen reader.
    known = [intervals] if any("low" in row for row in rows) else []
    under, over = (known, []) if band else ([], known)
    form: Any = alt.layer(*under, line, points, *over, *extra)
    return form_of(form, order if several else ())


def point(x: float, found: Metric, series: str, record: str, said: str) -> Row:
    """One row of a curve, with its interval where there is one."""
    row = {"x": x, "y": found.value, "series": series, "record": record, "said": said}
    return row if found.low is None or found.high is None else row | {"low": found.low, "high": found.high}
