"""Lines with points and their intervals: the axes that sweeps and turns are drawn on."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgebench.core import Metric
from edgebench.views.charts import Row, Spec, chart, to_spec

if TYPE_CHECKING:
    import altair as alt

MAX_WORKLOADS = 2
"""Maximum number of workloads in a figure of curves."""
MAX_SERIES = 6
"""Maximum number of lines in one pair of axes: the number of colours."""


@dataclass(frozen=True)
class Axes:
    """Titles of a pair of axes."""

    x: str
    y: str
    share: bool = False
    """Whether y is a fraction from 0 to 1."""


def curve(rows: list[Row], axes: Axes, *, band: bool = False, extra: Sequence[alt.Chart] = ()) -> Spec:
    """Lines with points and their intervals: ``x y low high series value_text record`` in each row."""
    import altair as alt

    base = chart(rows, height=230)
    x = alt.X("x:Q", title=axes.x, scale=alt.Scale(zero=False, nice=True), axis=alt.Axis(grid=False, tickCount=8))
    ticks_at = sorted({row["x"] for row in rows})
    if len(ticks_at) <= 20 and ticks_at[-1] <= 256:
        crowded = min((b - a for a, b in itertools.pairwise(ticks_at)), default=1) < (ticks_at[-1] - ticks_at[0]) / 16
        overlap: Any = "greedy" if crowded else False
        # Without an explicit count, that of the theme drops ticks.
        ticks: dict[str, Any] = {"values": ticks_at, "tickCount": len(ticks_at), "format": "~g"}
        x = x.axis(alt.Axis(grid=False, labelOverlap=overlap, labelFlush=False, **ticks))
    scale = alt.Scale(domain=[0, 1]) if axes.share else alt.Scale(zero=True, nice=True)
    y = alt.Y("y:Q", title=axes.y, scale=scale)
    order = list(dict.fromkeys(row["series"] for row in rows))
    names, has_legend = alt.Scale(domain=order), len(order) > 1
    colour = alt.Color("series:N", legend=alt.Legend() if has_legend else None, scale=names)
    shape = alt.Shape("series:N", legend=alt.Legend() if has_legend else None, scale=names)
    ends = base.transform_filter("isValid(datum.low)")
    if band:
        intervals = ends.mark_area().encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=colour)
    else:
        intervals = ends.mark_rule(style="interval", strokeWidth=2).encode(x=x, y=alt.Y("low:Q"), y2="high:Q")
    line = base.mark_line().encode(x=x, y=y, color=colour)
    tooltip = [alt.Tooltip("series:N", title="series"), alt.Tooltip("value_text:N", title="value")]
    pale = alt.condition("datum.doubted", alt.value(0.4), alt.value(1))
    points = base.mark_point().encode(x=x, y=y, color=colour, shape=shape, opacity=pale, tooltip=tooltip)
    # A layer without marks would be an image without a name to a screen reader.
    interval_layers = [intervals] if any("low" in row for row in rows) else []
    below, above = (interval_layers, []) if band else ([], interval_layers)
    form: Any = alt.layer(*below, line, points, *above, *extra)
    return to_spec(form, order if has_legend else ())


def point(x: float, value: Metric, series: str, record: str, text: str) -> Row:
    """One row of a curve, with its interval if there is one."""
    row = {"x": x, "y": value.value, "series": series, "record": record, "value_text": text}
    return row if value.low is None or value.high is None else row | {"low": value.low, "high": value.high}
