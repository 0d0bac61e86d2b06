"""Bars: decode rate by device and backend, memory stacked by kind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from edgebench.core import Metric, Record
from edgebench.judging.best import fastest
from edgebench.judging.readings import footprint, metric
from edgebench.judging.workload import Workload, group_by_workload
from edgebench.views import units
from edgebench.views.charts import Figure, Line, Panel, Row, Spec, chart, form_of
from edgebench.views.charts.theme import backends
from edgebench.views.fields import MEMORY, labels, marks, memory_parts, some

if TYPE_CHECKING:
    import altair as alt

PANELS = 4
"""Kinds of work a figure shows; the others are in the table."""
BARS = 30
STEP = 46
"""Pixels a bar takes with its name above."""


def cut(groups: list[tuple[Workload, list[Record]]], shown: int = PANELS) -> tuple[str, ...]:
    """What a figure says of the kinds of work it leaves out."""
    left = len(groups) - shown
    if left <= 0:
        return ()
    return (f"Not drawn: {units.many(left, 'more kind')} of work. Filter the report, or see the table.",)


def side_by_side(records: Sequence[Record]) -> list[tuple[Workload, list[Record]]]:
    """Records by kind of work; kinds with a single device and backend only where there are no others."""
    groups = group_by_workload(records)
    several = [(kind, group) for kind, group in groups if len(fastest(group)) > 1]
    return several or groups


def named(record: Record, names: dict[str, str]) -> str:
    """The bar's name, with its marks: they are seen, not hidden in a tooltip."""
    found = ", ".join(some(marks(record)))
    return f"{names[record.id]}  ({found})" if found else names[record.id]


def spread(found: Metric, unit: str = "") -> str:
    """A value with its interval in words."""
    text = units.quantity(found.value, unit or found.unit)
    between = units.interval(found)
    return f"{text} ({between})" if between else f"{text} (no interval)"


def decode(records: Sequence[Record]) -> Figure | None:
    """Decode rate by device and backend."""
    groups = side_by_side([r for r in records if metric(r, "decode_tps")])
    notes = cut(groups)
    panels = []
    for kind, group in groups[:PANELS]:
        best = fastest(group)
        if len(best) < len(group):
            notes += ("Where several settings were measured, the fastest one is drawn.",)
        if len(best) > BARS:
            notes += (f"The {BARS} fastest of {len(best)} are drawn.",)
        panels.append(_decode(kind, best[:BARS]))
    if not panels:
        return None
    reading = (
        "Longer is faster. The line on each bar is the 95\u00a0% interval; "
        "where two overlap, the picture shows no difference."
    )
    return Figure("decode", "Decode rate by device and backend", reading, tuple(panels), tuple(dict.fromkeys(notes)))


def _decode(kind: Workload, records: list[Record]) -> Panel:
    import altair as alt

    names = labels(records)
    rows, lines = list[Row](), list[Line]()
    for record in records:
        found = metric(record, "decode_tps")
        assert found is not None
        text = f"{units.number(found.value)} tokens/s"
        row: Row = {"record": record.id, "name": named(record, names), "backend": record.trial.backend, "text": text}
        row |= {"value": found.value, "doubted": bool(marks(record))}
        rows.append(row | ends(found))
        lines.append(Line((names[record.id], spread(found), ", ".join(marks(record))), record.id))
    base = chart(rows, height=STEP * len(records))
    bars = base.mark_bar(height=14, yOffset=8).encode(
        x=alt.X("value:Q", title="tokens per second", scale=alt.Scale(zero=True, nice=True)),
        color=alt.Color("backend:N", legend=None, scale=alt.Scale(domain=backends(r.trial.backend for r in records))),
        opacity=alt.condition("datum.doubted", alt.value(0.45), alt.value(1)),
        tooltip=[alt.Tooltip("name:N", title="what"), alt.Tooltip("text:N", title="decode")],
    )
    return Panel(kind.title, bar_form(base, [bars], "value"), tuple(lines), ("configuration", "decode rate", "doubts"))


def ends(found: Metric, factor: float = 1.0) -> dict[str, float]:
    """The interval as fields of a row; none where there is none."""
    if found.low is None or found.high is None:
        return {}
    return {"low": found.low / factor, "high": found.high / factor}


def bar_form(base: alt.Chart, bars: Sequence[alt.Chart], end: str, legend: Iterable[str] = ()) -> Spec:
    """Bars with the name above, the value at the end and the interval over them."""
    import altair as alt

    y = alt.Y("record:N", sort=None, axis=None)
    sure = base.transform_filter("isValid(datum.low)")
    whole = base.transform_filter("isValid(datum.name)")
    name = whole.mark_text(align="left", baseline="middle", dy=-9, style="name", limit=alt.ExprRef("width")).encode(
        x=alt.datum(0), y=y, text="name:N"
    )
    intervals: list[Any] = [
        sure.mark_rule(style=style, yOffset=8).encode(x="low:Q", x2="high:Q", y=y) for style in ("casing", "interval")
    ]
    intervals += [
        sure.mark_tick(style="interval", size=8, thickness=1.5, orient="vertical", yOffset=8).encode(x=f"{side}:Q", y=y)
        for side in ("low", "high")
    ]
    value = (
        whole.transform_calculate(end="max(datum.high || 0, datum." + end + ")")
        .mark_text(align="left", baseline="middle", dx=8, dy=8, style="value")
        .encode(x="end:Q", y=y, text="text:N")
    )
    # A layer without marks would be an image without a name to a screen reader.
    known = intervals if any("low" in row for row in base.data.values) else []
    form: Any = alt.layer(*(layer.encode(y=y) for layer in bars), *known, name, value)
    return form_of(form, legend)


def memory(records: Sequence[Record]) -> Figure | None:
    """Peak memory stacked by kind."""
    groups = side_by_side([r for r in records if (found := footprint(r)) and found.value > 0])
    notes = cut(groups)
    panels = []
    for kind, group in groups[:PANELS]:
        best = fastest(group)
        if len(best) > BARS:
            notes += (f"{BARS} of {len(best)} are drawn: those that decode fastest.",)
        panels.append(_memory(kind, best[:BARS]))
    if not panels:
        return None
    reading = (
        "Shorter is better: the most memory the engine's processes held at once, in main memory and on the GPU. "
        "The line is the 95\u00a0% interval of the whole."
    )
    return Figure("memory", "Memory footprint by kind", reading, tuple(panels), notes)


def _memory(kind: Workload, records: list[Record]) -> Panel:
    import altair as alt

    names = labels(records)
    wholes = {r.id: found for r in records if (found := footprint(r))}
    factor, unit = units.scale(max(found.value for found in wholes.values()), "bytes")
    rows, lines = list[Row](), list[Line]()
    for record in records:
        found = wholes[record.id]
        parts = memory_parts(record)
        start = 0.0
        for place, (part, value) in enumerate(parts.items()):
            row: Row = {"record": record.id, "part": part, "start": start / factor, "value": value / factor}
            row |= {"stop": (start + value) / factor, "said": f"{part}: {units.quantity(value, 'bytes')}"}
            if place == 0:
                row |= {"name": named(record, names), "text": units.quantity(found.value, "bytes")}
                row |= {"whole": found.value / factor} | ends(found, factor)
            rows.append(row)
            start += value
        said = ", ".join(f"{part} {units.quantity(value, 'bytes')}" for part, value in parts.items())
        lines.append(Line((names[record.id], spread(found), said, ", ".join(marks(record))), record.id))
    # A part has its colour whichever others there are.
    shown = [part for part in MEMORY if any(row["part"] == part for row in rows)]
    base = chart(rows, height=STEP * len(records))
    bars = base.mark_bar(height=14, yOffset=8, cornerRadius=0).encode(
        x=alt.X("start:Q", title=unit, scale=alt.Scale(zero=True, nice=True)),
        x2="stop:Q",
        color=alt.Color("part:N", scale=alt.Scale(domain=list(MEMORY)), legend=alt.Legend(values=shown)),
        tooltip=[alt.Tooltip("said:N", title="part")],
    )
    columns = ("configuration", "footprint", "parts", "doubts")
    return Panel(kind.title, bar_form(base, [bars], "whole", shown), tuple(lines), columns)
