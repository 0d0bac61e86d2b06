"""Bars: decode rate by device and backend, memory stacked by type."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from edgebench.core import Metric, Record
from edgebench.judging import metrics
from edgebench.judging.best import fastest
from edgebench.judging.readings import footprint, metric
from edgebench.judging.workload import Workload, group_by_workload
from edgebench.views import units
from edgebench.views.charts import Figure, Line, Panel, Row, Spec, axis_title, chart, to_spec
from edgebench.views.charts.theme import backends
from edgebench.views.fields import MEMORY, labels, limit_names, marks, memory_parts

if TYPE_CHECKING:
    import altair as alt

MAX_WORKLOADS = 4
"""Maximum number of workloads in a figure."""
MAX_BARS = 30
BAR_HEIGHT = 46
"""Height of a bar and the name above it, pixels."""


def omission_note(groups: list[tuple[Workload, list[Record]]], limit: int = MAX_WORKLOADS) -> tuple[str, ...]:
    """The note on workloads that a figure omits."""
    hidden = len(groups) - limit
    if hidden <= 0:
        return ()
    return (f"Not drawn: {units.count_noun(hidden, 'more workload')}. Filter the report, or see the table.",)


def comparable_groups(records: Sequence[Record]) -> list[tuple[Workload, list[Record]]]:
    """Records by workload; workloads with a single device and backend only if there are no others."""
    groups = group_by_workload(records)
    comparable = [(workload, group) for workload, group in groups if len(fastest(group)) > 1]
    return comparable or groups


def bar_label(record: Record, names: dict[str, str]) -> str:
    """The bar's name, followed by its marks."""
    mark_text = ", ".join(limit_names(marks(record)))
    return f"{names[record.id]}  ({mark_text})" if mark_text else names[record.id]


def format_with_interval(value: Metric, unit: str = "") -> str:
    """A value with its interval, as text."""
    text = units.quantity(value.value, unit or value.unit)
    between = units.interval(value)
    return f"{text} ({between})" if between else f"{text} (no interval)"


def decode(records: Sequence[Record]) -> Figure | None:
    """Decode rate by device and backend."""
    groups = comparable_groups([r for r in records if metric(r, "decode_tps")])
    notes = omission_note(groups)
    panels = []
    for workload, group in groups[:MAX_WORKLOADS]:
        best = fastest(group)
        if len(best) < len(group):
            notes += ("If several settings were measured, the fastest one is drawn.",)
        if len(best) > MAX_BARS:
            notes += (f"The {MAX_BARS} fastest of {len(best)} are drawn.",)
        panels.append(_decode(workload, best[:MAX_BARS]))
    if not panels:
        return None
    caption = (
        "Longer is faster. The line on each bar is the 95\u00a0% interval; if two overlap, no difference is shown."
    )
    return Figure("decode", "Decode rate by device and backend", caption, tuple(panels), tuple(dict.fromkeys(notes)))


def _decode(workload: Workload, records: list[Record]) -> Panel:
    import altair as alt

    names = labels(records)
    rows, lines = list[Row](), list[Line]()
    for record in records:
        rate = metric(record, "decode_tps")
        assert rate is not None
        text = f"{units.number(rate.value)} tokens/s"
        row: Row = {
            "record": record.id,
            "name": bar_label(record, names),
            "backend": record.trial.backend,
            "text": text,
        }
        row |= {"value": rate.value, "doubted": bool(marks(record))}
        rows.append(row | interval_ends(rate))
        lines.append(Line((names[record.id], format_with_interval(rate), ", ".join(marks(record))), record.id))
    title = metrics.find("decode_tps").title
    base = chart(rows, height=BAR_HEIGHT * len(records))
    bars = base.mark_bar(height=14, yOffset=8).encode(
        x=alt.X("value:Q", title=axis_title("decode_tps"), scale=alt.Scale(zero=True, nice=True)),
        color=alt.Color("backend:N", legend=None, scale=alt.Scale(domain=backends(r.trial.backend for r in records))),
        opacity=alt.condition("datum.doubted", alt.value(0.45), alt.value(1)),
        tooltip=[
            alt.Tooltip("name:N", title="configuration"),
            alt.Tooltip("text:N", title=title),
        ],
    )
    return Panel(
        workload.title,
        bar_spec(base, [bars], "value"),
        tuple(lines),
        ("configuration", title, "doubts"),
    )


def interval_ends(value: Metric, factor: float = 1.0) -> dict[str, float]:
    """The interval as fields of a row; empty without an interval."""
    if value.low is None or value.high is None:
        return {}
    return {"low": value.low / factor, "high": value.high / factor}


def bar_spec(base: alt.Chart, bars: Sequence[alt.Chart], end: str, legend: Iterable[str] = ()) -> Spec:
    """Bars with the name above, the value at the end and the interval over them."""
    import altair as alt

    y = alt.Y("record:N", sort=None, axis=None)
    with_interval = base.transform_filter("isValid(datum.low)")
    whole = base.transform_filter("isValid(datum.name)")
    name = whole.mark_text(align="left", baseline="middle", dy=-9, style="name", limit=alt.ExprRef("width")).encode(
        x=alt.datum(0), y=y, text="name:N"
    )
    intervals: list[Any] = [
        with_interval.mark_rule(style=style, yOffset=8).encode(x="low:Q", x2="high:Q", y=y)
        for style in ("casing", "interval")
    ]
    intervals += [
        with_interval.mark_tick(style="interval", size=8, thickness=1.5, orient="vertical", yOffset=8).encode(
            x=f"{side}:Q", y=y
        )
        for side in ("low", "high")
    ]
    value = (
        whole.transform_calculate(end="max(datum.high || 0, datum." + end + ")")
        .mark_text(align="left", baseline="middle", dx=8, dy=8, style="value")
        .encode(x="end:Q", y=y, text="text:N")
    )
    # A layer without marks would be an image without a name to a screen reader.
    interval_layers = intervals if any("low" in row for row in base.data.values) else []
    form: Any = alt.layer(*(layer.encode(y=y) for layer in bars), *interval_layers, name, value)
    return to_spec(form, legend)


def memory(records: Sequence[Record]) -> Figure | None:
    """Peak memory stacked by type."""
    groups = comparable_groups([r for r in records if (total := footprint(r)) and total.value > 0])
    notes = omission_note(groups)
    panels = []
    for workload, group in groups[:MAX_WORKLOADS]:
        best = fastest(group)
        if len(best) > MAX_BARS:
            notes += (f"The {MAX_BARS} of {len(best)} that decode fastest are drawn.",)
        panels.append(_memory(workload, best[:MAX_BARS]))
    if not panels:
        return None
    caption = (
        "Shorter is better. Peak memory of the engine's processes, in main memory and on the GPU. "
        "The line is the 95\u00a0% interval of the total."
    )
    return Figure("memory", "Memory footprint by type", caption, tuple(panels), notes)


def _memory(workload: Workload, records: list[Record]) -> Panel:
    import altair as alt

    names = labels(records)
    wholes = {r.id: whole_metric for r in records if (whole_metric := footprint(r))}
    factor, unit = units.scale(max(whole_metric.value for whole_metric in wholes.values()), "bytes")
    rows, lines = list[Row](), list[Line]()
    for record in records:
        whole_metric = wholes[record.id]
        parts = memory_parts(record)
        start = 0.0
        for index, (part, value) in enumerate(parts.items()):
            row: Row = {"record": record.id, "part": part, "start": start / factor, "value": value / factor}
            row |= {"stop": (start + value) / factor, "value_text": f"{part}: {units.quantity(value, 'bytes')}"}
            if index == 0:
                row |= {"name": bar_label(record, names), "text": units.quantity(whole_metric.value, "bytes")}
                row |= {"whole": whole_metric.value / factor} | interval_ends(whole_metric, factor)
            rows.append(row)
            start += value
        parts_text = ", ".join(f"{part} {units.quantity(value, 'bytes')}" for part, value in parts.items())
        lines.append(
            Line(
                (names[record.id], format_with_interval(whole_metric), parts_text, ", ".join(marks(record))), record.id
            )
        )
    # A part has the same colour in every figure.
    visible_parts = [part for part in MEMORY if any(row["part"] == part for row in rows)]
    base = chart(rows, height=BAR_HEIGHT * len(records))
    bars = base.mark_bar(height=14, yOffset=8, cornerRadius=0).encode(
        x=alt.X("start:Q", title=unit, scale=alt.Scale(zero=True, nice=True)),
        x2="stop:Q",
        color=alt.Color("part:N", scale=alt.Scale(domain=list(MEMORY)), legend=alt.Legend(values=visible_parts)),
        tooltip=[alt.Tooltip("value_text:N", title="part")],
    )
    columns = ("configuration", "footprint", "parts", "doubts")
    return Panel(workload.title, bar_spec(base, [bars], "whole", visible_parts), tuple(lines), columns)
