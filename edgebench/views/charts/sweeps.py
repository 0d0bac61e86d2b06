"""One metric against one option: the thread sweep and the speculative sweep."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from edgebench.core import Record
from edgebench.judging.readings import metric
from edgebench.judging.workload import group_by_workload, has_difference, is_clean
from edgebench.views import units
from edgebench.views.charts import Figure, Line, Panel, Row, axis_title, chart, to_spec
from edgebench.views.charts.bars import format_with_interval, omission_note
from edgebench.views.charts.curves import MAX_SERIES, MAX_WORKLOADS, Axes, curve, point
from edgebench.views.fields import labels, marks

if TYPE_CHECKING:
    import altair as alt


def _series(records: Iterable[Record], option: str) -> dict[tuple[object, ...], list[Record]]:
    """Records that differ in this option only."""
    groups: dict[tuple[object, ...], list[Record]] = {}
    for record in records:
        other_options = tuple(sorted((n, v) for n, v in record.trial.options.items() if n != option))
        trial = record.trial
        groups.setdefault((trial.device, trial.engine, trial.backend, other_options), []).append(record)
    order = sorted(groups.items(), key=lambda item: -len(item[1]))
    return {key: group for key, group in order if len({r.trial.options[option] for r in group}) > 1}


def _able(records: Iterable[Record], option: str, key: str) -> list[Record]:
    """Comparable records with a numeric value of the option and a value of the metric."""
    able = [r for r in records if isinstance(r.trial.options.get(option), int | float) and metric(r, key)]
    return [record for record in able if is_clean(record)]


def _number(record: Record, option: str) -> float:
    return float(record.trial.options[option])


def sweep_panel(
    records: Sequence[Record], option: str, key: str, title: str, axes: Axes, *, ring: str = ""
) -> Panel | None:
    """One metric against one option; ``ring``: label of the best value, for example ``threads {x}: {y}``."""
    series = list(_series(_able(records, option, key), option).values())[:MAX_SERIES]
    names = labels([record for group in series for record in group], without=(option,))
    rows, lines = list[Row](), list[Line]()
    for group in series:
        start = len(rows)
        for record in sorted(group, key=lambda r: _number(r, option)):
            value = metric(record, key)
            assert value is not None
            x = _number(record, option)
            doubt_text = ", ".join(marks(record))
            text = f"{option} {x:g}: {format_with_interval(value)}" + (f"; {doubt_text}" if doubt_text else "")
            rows.append(point(x, value, names[record.id], record.id, text) | {"doubted": bool(doubt_text)})
            lines.append(Line((names[record.id], f"{x:g}", format_with_interval(value), doubt_text), record.id))
        best = max(rows[start:], key=lambda row: float(row["y"]))
        best |= {"best": True, "mark": ring.format(x=f"{best['x']:g}", y=units.number(best["y"]))}
    if not rows:
        return None
    extra = _rings(rows) if ring else []
    return Panel(title, curve(rows, axes, extra=extra), tuple(lines), ("configuration", option, axes.y, "doubts"))


def _rings(rows: Sequence[Row]) -> list[alt.Chart]:
    """A ring around the best point of each curve, and its value."""
    first, last = min(row["x"] for row in rows), max(row["x"] for row in rows)
    rings = []
    for best in [row for row in rows if row.get("best")]:
        align: Literal["left", "right", "center"]
        align, shift = ("left", 14) if best["x"] == first else ("right", -14) if best["x"] == last else ("center", 0)
        base = chart([best])
        ring = base.mark_point(style="best", filled=False, shape="circle")
        text = base.mark_text(style="value", align=align, dx=shift, dy=-16)
        rings += [ring.encode(x="x:Q", y="y:Q"), text.encode(x="x:Q", y="y:Q", text="mark:N")]
    return rings


def threads(records: Sequence[Record]) -> Figure | None:
    """Thread sweep with its optimum."""
    panels, notes = list[Panel](), list[str]()
    for workload, group in group_by_workload(_able(records, "threads", "decode_tps")):
        axes = Axes("threads", axis_title("decode_tps"))
        panel = sweep_panel(group, "threads", "decode_tps", workload.title, axes, ring="threads {x}: {y} tokens/s")
        if panel and len(panels) < MAX_WORKLOADS:
            panels.append(panel)
            notes += _ties(group, "threads", "decode_tps")
    if not panels:
        return None
    caption = "The ring is the highest median. Lines through points are the 95\u00a0% intervals."
    return Figure("threads", "Thread sweep", caption, tuple(panels), tuple(notes))


def _ties(records: Sequence[Record], option: str, key: str) -> list[str]:
    """Values of the option that were not shown to be worse than the best of their curve."""
    series = list(_series(records, option).values())[:MAX_SERIES]
    names = labels([record for group in series for record in group], without=(option,))
    sentences = []
    for group in series:
        best = max(group, key=lambda r: rate.value if (rate := metric(r, key)) else 0.0)
        near = sorted(_number(r, option) for r in group if r is not best and not has_difference(best, r, key))
        if near:
            near_text = ", ".join(f"{value:g}" for value in near)
            sentences.append(
                f"{names[best.id]}: {option} {_number(best, option):g}, with no difference shown to {near_text}."
            )
    return sentences


def speculative(records: Sequence[Record]) -> Figure | None:
    """Speed-up and acceptance against K, measured and predicted."""
    able = [r for r in records if is_clean(r) and isinstance(r.trial.options.get("k"), int) and metric(r, "speedup")]
    groups = group_by_workload(able)
    panels: list[Panel] = []
    for workload, group in groups[:MAX_WORKLOADS]:
        axes = Axes("draft tokens K", axis_title("speedup"))
        speed = sweep_panel(group, "k", "speedup", f"Speed-up · {workload.title}", axes, ring="K = {x}: {y} ×")
        if speed is None:
            continue
        panels.append(_predicted(speed, group))
        axes = Axes("draft tokens K", axis_title("acceptance"), share=True)
        accepted = sweep_panel(group, "k", "acceptance", f"Acceptance · {workload.title}", axes)
        panels += [accepted] if accepted else []
    if not panels:
        return None
    caption = (
        "Above 1 × the draft model is a gain. The dashed curve is predicted from acceptance and verification costs; "
        "lines through points are the 95\u00a0% intervals."
    )
    return Figure(
        "speculative",
        "Speculative decoding against K",
        caption,
        tuple(panels),
        omission_note(groups, MAX_WORKLOADS),
        is_side_by_side=True,
    )


def _predicted(panel: Panel, records: Sequence[Record]) -> Panel:
    """The same axes with the predicted speed-up and the line at 1 × added."""
    import altair as alt

    rows = [
        {"x": _number(record, "k"), "predicted": prediction.value, "record": record.id}
        for record in records
        if (prediction := metric(record, "predicted_speedup"))
    ]
    guides = [chart([{"one": 1}]).mark_rule(style="guide").encode(y="one:Q")]
    if rows:
        base = chart(sorted(rows, key=lambda row: float(row["x"])))
        guides.append(
            base.mark_line(style="guide").encode(
                x="x:Q", y="predicted:Q", tooltip=[alt.Tooltip("predicted:Q", title="predicted ×", format=".3")]
            )
        )
    layers = [to_spec(guide) for guide in guides]
    for layer in layers:
        for key in ("$schema", "config"):
            layer.pop(key, None)
    return replace(panel, spec={**panel.spec, "layer": [*layers, *panel.spec["layer"]]})
