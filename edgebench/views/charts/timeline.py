"""The timeline of one run: tokens, power, heat, clocks and memory on one clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgebench.core import Record, Round, Sample
from edgebench.views import units
from edgebench.views.charts import Figure, Line, Panel, Row, Spec, chart
from edgebench.views.reading import labels

POINTS = 300
"""Readings a line keeps; longer ones are drawn by the mean of each stretch, and say so."""
SERIES = 6


@dataclass(frozen=True)
class Track:
    """Samples drawn on one pair of axes: those whose names end so."""

    title: str
    suffix: str
    unit: str


TRACKS = (
    Track("Memory", "_b", "B"),
    Track("Power", "_w", "W"),
    Track("Temperature", "_c", "°C"),
    Track("Clocks", "_hz", "Hz"),
    Track("Use", "_util", "1"),
    Track("Tokens", "_tps", "tokens/s"),
)


def timeline(records: Sequence[Record]) -> Figure | None:
    """The newest record with samples."""
    sampled = [(r, one) for r in records for one in r.rounds if len(one.samples) > 1]
    if not sampled:
        return None
    record, one = max(sampled, key=lambda pair: (pair[0].finished, pair[0].id, len(pair[1].samples)))
    start = min(sample.at for sample in one.samples)
    end = max(sample.at for sample in one.samples)
    panels = tuple(panel for track in TRACKS if (panel := _track(record, one, track, (start, end))) is not None)
    if not panels:
        return None
    name = f"{labels([record])[record.id]} · {record.trial.model} · {record.trial.backend} · round {one.index + 1}"
    reading = f"One round of one trial, on the device's own clock: {name}."
    longest = max(len(series) for series in _lines(one, "").values())
    notes = (f"Lines of more than {POINTS} readings show the mean of each stretch.",) if longest > POINTS else ()
    return Figure("timeline", "Timeline of one run", reading, panels, notes)


def _lines(one: Round, suffix: str) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {}
    for sample in one.samples:
        if sample.name.endswith(suffix):
            name = sample.name.removesuffix(suffix).replace("_", " ") or sample.name
            marks = " ".join(f"{key} {value}" for key, value in sorted(sample.labels.items()))
            found.setdefault(f"{name} {marks}".strip(), []).append(sample)
    return found


def thin(points: Sequence[tuple[float, float]], most: int = POINTS) -> list[tuple[float, float]]:
    """At most so many points: the mean of each stretch of equally many readings."""
    step = -(-len(points) // most)
    parts = [points[i : i + step] for i in range(0, len(points), max(step, 1))]
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts]


def _track(record: Record, one: Round, track: Track, span: tuple[float, float]) -> Panel | None:
    import altair as alt

    series = dict(list(_lines(one, track.suffix).items())[:SERIES])
    if not series:
        return None
    highest = max(abs(sample.value) for samples in series.values() for sample in samples)
    factor, name = units.scale(highest, track.unit)
    rows: list[Row] = []
    lines = []
    for key, samples in series.items():
        ordered = sorted((sample.at - span[0], sample.value) for sample in samples)
        rows += [{"x": x, "y": y / factor, "series": key, "record": record.id} for x, y in thin(ordered)]
        values = [value for _, value in ordered]
        said = [units.quantity(pick, track.unit) for pick in (values[0], min(values), max(values), values[-1])]
        lines.append(Line((key, *said, str(len(values))), record.id))
    base = chart(rows, height=110)
    x = alt.X("x:Q", title="seconds since the round began", scale=alt.Scale(domain=[0, span[1] - span[0]], nice=False))
    y = alt.Y("y:Q", title=name, scale=alt.Scale(zero=track.unit != "°C", nice=True), axis=alt.Axis(tickCount=4))
    colour = alt.Color("series:N", sort=None, legend=alt.Legend() if len(series) > 1 else None)
    tooltip = [alt.Tooltip("series:N", title="what"), alt.Tooltip("x:Q", title="second", format=".1f")]
    tooltip.append(alt.Tooltip("y:Q", title=name, format=".4"))
    form: Any = base.mark_line(interpolate="monotone").encode(x=x, y=y, color=colour, tooltip=tooltip)
    spec: Spec = form.to_dict()
    heading = track.title if len(series) > 1 else f"{track.title}: {next(iter(series))}"
    return Panel(heading, spec, tuple(lines), ("what", "first", "lowest", "highest", "last", "readings"))
