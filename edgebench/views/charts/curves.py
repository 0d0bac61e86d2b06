"""Curves: rates against context depth, turn by turn, thread sweep, speculative sweep."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import TYPE_CHECKING, Any

from edgebench.core import Json, Metric, Record
from edgebench.views import units
from edgebench.views.charts import Figure, Line, Panel, Row, Spec, chart
from edgebench.views.charts.bars import cut, spread
from edgebench.views.reading import Kind, by_kind, clean, differs, labels, marks, metric, turn_number

if TYPE_CHECKING:
    import altair as alt

KINDS = 2
SERIES = 6
"""Lines in one pair of axes; as many as there are colours."""


@dataclass(frozen=True)
class Axes:
    """What a pair of curve axes is called."""

    x: str
    y: str
    lowest: bool = False
    """Whether the smallest y is the best, not the largest."""


def _curve(rows: list[Row], axes: Axes, *, band: bool = False, extra: Sequence[alt.Chart] = ()) -> Spec:
    """Lines with points and their intervals: ``x y low high series said record`` in each row."""
    import altair as alt

    base = chart(rows, height=230)
    several = len({row["series"] for row in rows}) > 1
    x = alt.X("x:Q", title=axes.x, scale=alt.Scale(zero=False, nice=True), axis=alt.Axis(grid=False, tickCount=8))
    places = sorted({row["x"] for row in rows})
    if len(places) <= 20 and places[-1] <= 256:
        crowded = min((b - a for a, b in itertools.pairwise(places)), default=1) < (places[-1] - places[0]) / 16
        overlap: Any = "greedy" if crowded else False
        x = x.axis(alt.Axis(grid=False, format="~g", values=places, labelOverlap=overlap, labelFlush=False))
    y = alt.Y("y:Q", title=axes.y, scale=alt.Scale(zero=True, nice=True))
    names = alt.Scale(domain=list(dict.fromkeys(row["series"] for row in rows)))
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
    spec: Spec = form.to_dict()
    return spec


def _row(x: float, found: Metric, series: str, record: str, said: str) -> Row:
    row = {"x": x, "y": found.value, "series": series, "record": record, "said": said}
    return row if found.low is None or found.high is None else row | {"low": found.low, "high": found.high}


def _middle(values: Sequence[float], unit: str) -> Metric:
    """Median of the rounds, with the lowest and the highest as its ends."""
    from statistics import median

    ends = (min(values), max(values)) if len(values) > 1 else (None, None)
    return Metric(median(values), unit, tuple(values), *ends)


def _most(records: Sequence[Record]) -> tuple[list[Record], tuple[str, ...]]:
    """The few records whose curves are drawn, and what is said of the others."""
    order = sorted(records, key=lambda r: -(found.value if (found := metric(r, "decode_tps")) else 0))
    left = len(order) - SERIES
    return order[:SERIES], ((f"The {SERIES} fastest of {len(order)} configurations are drawn.",) if left > 0 else ())


def _by_turn(
    record: Record, key: str, unit: str, x: Callable[[Mapping[str, Json], int], float | None]
) -> list[tuple[float, Metric]]:
    """One reading of the turns against something of the turns, over rounds."""
    found: dict[float, list[float]] = {}
    for one in record.rounds:
        for index, turn in enumerate(one.turns):
            if "measures" in turn and key.removesuffix("_tps").removesuffix("_s") not in turn["measures"]:
                continue  # warming up, or filling the context
            at, value = x(turn, index), turn.get(key)
            if at is not None and isinstance(value, int | float) and isfinite(value):
                found.setdefault(at, []).append(float(value))
    return [(at, _middle(found[at], unit)) for at in sorted(found)]


def _turn_panels(
    groups: list[tuple[Kind, list[Record]]],
    wanted: Sequence[tuple[str, str, str]],
    x: Callable[[Mapping[str, Json], int], float | None],
    name: str,
) -> tuple[list[Panel], tuple[str, ...]]:
    """A panel for each kind of work and each reading: (key of the turn, unit, title)."""
    panels, notes = [], cut(groups, KINDS)
    for kind, group in groups[:KINDS]:
        drawn, said = _most(group)
        notes += said
        names = labels(drawn)
        for key, unit, title in wanted:
            rows, lines = list[Row](), list[Line]()
            for record in drawn:
                for at, found in _by_turn(record, key, unit, x):
                    text = f"{name} {units.number(at, 4)}: {spread(found)}"
                    rows.append(_row(at, found, names[record.id], record.id, text))
                    cells = (names[record.id], units.number(at, 5), spread(found))
                    lines.append(Line(cells, record.id))
            if len({row["x"] for row in rows}) > 1:
                spec = _curve(rows, Axes(name, f"{title}, {unit}"), band=True)
                heading = f"{title} · {kind.title}"
                panels.append(Panel(heading, spec, tuple(lines), ("configuration", name, title)))
    return panels, tuple(dict.fromkeys(notes))


def _talks(record: Record) -> bool:
    """Whether its turns build on one another."""
    return clean(record) and any(", turn 2" in str(turn.get("label")) for turn in _turns(record))


def _turns(record: Record) -> Sequence[Mapping[str, Json]]:
    return record.rounds[0].turns if record.rounds else ()


def _depth_of(turn: Mapping[str, Json], index: int) -> float | None:
    depth = turn.get("depth", turn.get("prompt_tokens"))
    return float(depth) if isinstance(depth, int | float) else None


def depth(records: Sequence[Record]) -> Figure | None:
    """Prefill and decode rate against the context that is already there."""
    wanted = (("prefill_tps", "tokens/s", "Prefill rate"), ("decode_tps", "tokens/s", "Decode rate"))
    groups = by_kind([record for record in records if _talks(record)])
    panels, notes = _turn_panels(groups, wanted, _depth_of, "context depth, tokens")
    panels += _depth_options(records, wanted)
    if not panels:
        return None
    reading = "How much slower each token gets as the context fills. Bands span the lowest and the highest round."
    return Figure("depth", "Rates against context depth", reading, tuple(panels), notes, beside=True)


def _depth_options(records: Sequence[Record], wanted: Sequence[tuple[str, str, str]]) -> list[Panel]:
    """The same from trials that were each made at one depth (an option of the scenario)."""
    found: dict[Kind, list[Record]] = {}
    for kind, group in by_kind([r for r in records if isinstance(r.trial.options.get("depth"), int)]):
        bare = replace(kind, work=tuple(pair for pair in kind.work if pair[0] != "depth"))
        found.setdefault(bare, []).extend(group)
    panels = []
    for kind, group in list(found.items())[:KINDS]:
        for key, unit, title in wanted:
            panel = _sweep_panel(group, "depth", key, f"{title} · {kind.title}", Axes("context depth, tokens", unit))
            panels += [panel] if panel else []
    return panels


def turns(records: Sequence[Record]) -> Figure | None:
    """Turn by turn in conversations."""

    def number(turn: Mapping[str, Json], index: int) -> float:
        return float(turn_number(turn, index))

    wanted = (("ttft_s", "s", "Time to first token"), ("decode_tps", "tokens/s", "Decode rate"))
    groups = by_kind([r for r in records if _talks(r)])
    panels, notes = _turn_panels(groups, wanted, number, "turn")
    if not panels:
        return None
    reading = (
        "What a person feels as a conversation goes on: the wait before each answer, and how fast it then comes. "
        "Bands span the lowest and the highest round."
    )
    return Figure("turns", "Turn by turn in conversations", reading, tuple(panels), notes, beside=True)


def _series(records: Iterable[Record], option: str) -> dict[tuple[object, ...], list[Record]]:
    """Records that differ in this option only."""
    found: dict[tuple[object, ...], list[Record]] = {}
    for record in records:
        others = tuple(sorted((n, v) for n, v in record.trial.options.items() if n != option))
        trial = record.trial
        found.setdefault((trial.device, trial.engine, trial.backend, others), []).append(record)
    order = sorted(found.items(), key=lambda item: -len(item[1]))
    return {key: group for key, group in order if len({r.trial.options[option] for r in group}) > 1}


def _able(records: Iterable[Record], option: str, key: str) -> list[Record]:
    """Records that may be compared and have both a number for the option and the metric."""
    able = [r for r in records if isinstance(r.trial.options.get(option), int | float) and metric(r, key)]
    return [record for record in able if clean(record)]


def _number(record: Record, option: str) -> float:
    return float(record.trial.options[option])


def _sweep_panel(records: Sequence[Record], option: str, key: str, title: str, axes: Axes) -> Panel | None:
    """One metric against one option, with the best value ringed."""
    series = list(_series(_able(records, option, key), option).values())[:SERIES]
    names = labels([record for group in series for record in group], without=(option,))
    rows, lines = list[Row](), list[Line]()
    for group in series:
        start = len(rows)
        for record in sorted(group, key=lambda r: _number(r, option)):
            found = metric(record, key)
            assert found is not None
            at = _number(record, option)
            doubted = ", ".join(marks(record))
            text = f"{option} {at:g}: {spread(found)}" + (f"; {doubted}" if doubted else "")
            rows.append(_row(at, found, names[record.id], record.id, text) | {"doubted": bool(doubted)})
            lines.append(Line((names[record.id], f"{at:g}", spread(found), doubted), record.id))
        best = (min if axes.lowest else max)(rows[start:], key=lambda row: float(row["y"]))
        best |= {"best": True, "mark": f"{axes.x.split(',')[0]} {best['x']:g}: {units.number(best['y'])}"}
    if not rows:
        return None
    base = chart(rows).transform_filter("datum.best")
    ring = base.mark_point(style="best", filled=False, shape="circle").encode(x="x:Q", y="y:Q")
    mark = base.mark_text(style="value", dy=-16).encode(x="x:Q", y="y:Q", text="mark:N")
    return Panel(
        title, _curve(rows, axes, extra=(ring, mark)), tuple(lines), ("configuration", option, axes.y, "doubts")
    )


def threads(records: Sequence[Record]) -> Figure | None:
    """Thread sweep with its optimum."""
    panels, notes = list[Panel](), list[str]()
    for kind, group in by_kind(_able(records, "threads", "decode_tps")):
        panel = _sweep_panel(group, "threads", "decode_tps", kind.title, Axes("threads", "decode, tokens/s"))
        if panel and len(panels) < KINDS:
            panels.append(panel)
            notes += _ties(group, "threads", "decode_tps")
    if not panels:
        return None
    reading = "The ring is the highest median. Lines through points are the 95\u00a0% intervals."
    return Figure("threads", "Thread sweep", reading, tuple(panels), tuple(notes))


def _ties(records: Sequence[Record], option: str, key: str) -> list[str]:
    """Values of the option that were not shown to be worse than the best of their curve."""
    series = list(_series(records, option).values())[:SERIES]
    names = labels([record for group in series for record in group], without=(option,))
    said = []
    for group in series:
        best = max(group, key=lambda r: found.value if (found := metric(r, key)) else 0.0)
        near = sorted(_number(r, option) for r in group if r is not best and not differs(best, r, key))
        if near:
            others = ", ".join(f"{value:g}" for value in near)
            best_is = f"{_number(best, option):g}"
            said.append(f"{names[best.id]}: no difference shown between {best_is} and {others} {option}.")
    return said


def speculative(records: Sequence[Record]) -> Figure | None:
    """Speed-up and acceptance against K, measured and predicted."""
    able = [r for r in records if clean(r) and isinstance(r.trial.options.get("k"), int) and metric(r, "speedup")]
    groups = by_kind(able)
    panels: list[Panel] = []
    for kind, group in groups[:KINDS]:
        speed = _sweep_panel(group, "k", "speedup", f"Speed-up · {kind.title}", Axes("draft tokens K", "speed-up, ×"))
        if speed is None:
            continue
        panels.append(_predicted(speed, group))
        axes = Axes("draft tokens K", "acceptance, 0…1")
        accepted = _sweep_panel(group, "k", "acceptance", f"Acceptance · {kind.title}", axes)
        panels += [accepted] if accepted else []
    if not panels:
        return None
    reading = (
        "Above 1 × the draft model pays. The dashed curve is the prediction from acceptance and the cost of verifying; "
        "lines through points are the 95\u00a0% intervals."
    )
    return Figure(
        "speculative", "Speculative decoding against K", reading, tuple(panels), cut(groups, KINDS), beside=True
    )


def _predicted(panel: Panel, records: Sequence[Record]) -> Panel:
    """The same axes with the predicted speed-up and the line at 1 × added."""
    import altair as alt

    rows = [
        {"x": _number(record, "k"), "predicted": found.value, "record": record.id}
        for record in records
        if (found := metric(record, "predicted_speedup"))
    ]
    guides = [chart([{"one": 1}]).mark_rule(style="guide").encode(y="one:Q")]
    if rows:
        base = chart(sorted(rows, key=lambda row: float(row["x"])))
        guides.append(
            base.mark_line(style="guide").encode(
                x="x:Q", y="predicted:Q", tooltip=[alt.Tooltip("predicted:Q", title="predicted ×", format=".3")]
            )
        )
    layers = [guide.to_dict() for guide in guides]
    for layer in layers:
        for known in ("$schema", "config"):
            layer.pop(known, None)
    return replace(panel, spec={**panel.spec, "layer": [*layers, *panel.spec["layer"]]})
