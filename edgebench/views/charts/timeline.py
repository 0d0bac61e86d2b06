"""The timeline of one run: tokens, power, temperature, clocks and memory on one clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from edgebench.core import Record, Round, Sample, Turn
from edgebench.core.spans import Phase, concurrent, phase_spans
from edgebench.views import units
from edgebench.views.charts import Figure, Line, Panel, Row, Spec, chart, to_spec
from edgebench.views.fields import labels

if TYPE_CHECKING:
    import altair as alt

POINTS = 300
"""Maximum points of a line; longer series are averaged, with a note."""
SERIES = 6
BINS = 120
"""Number of intervals in which tokens are counted."""
PHASE_NAMES: Final[tuple[tuple[Phase, str], ...]] = (("prefill", "prompt"), ("decode", "tokens"))
PHASES = 400
"""Maximum number of requests whose phases are shaded."""


@dataclass(frozen=True)
class Track:
    """Samples on one pair of axes: those whose names end with ``suffix``."""

    title: str
    suffix: str
    unit: str


TRACKS = (
    Track("Memory", "_b", "B"),
    Track("Power", "_w", "W"),
    Track("Temperature", "_c", "°C"),
    Track("Clocks", "_hz", "Hz"),
    Track("Use", "_util", "1"),
)

REDUNDANT_PREFIXES = ("peak_", "available")
"""Prefixes of samples that other series already show."""


@dataclass(frozen=True)
class RoundView:
    """The round that is drawn: its start and end on its clock, and its phases, in seconds."""

    record: Record
    start: float
    end: float
    phases: tuple[Row, ...]


def timeline(records: Sequence[Record]) -> Figure | None:
    """The newest record with samples."""
    rounds = [(r, one) for r in records for one in r.rounds if len(one.samples) > 1]
    if not rounds:
        return None
    record, one = max(rounds, key=lambda pair: (pair[0].finished, pair[0].id, len(pair[1].samples)))
    times = [sample.at for sample in one.samples] + [at for turn in one.turns for at in _moments(turn)]
    start, end = min(times), max(times)
    view = RoundView(record, start, end, tuple(_request_bands(one.turns[:PHASES], start)))
    candidates = [_tokens(view, one), *(_track(view, one, track) for track in TRACKS)]
    panels = tuple(panel for panel in candidates if panel is not None)
    if not panels:
        return None
    trial = record.trial
    name = f"{labels([record])[record.id]}, {trial.model}, {trial.backend}, {trial.scenario}, round {one.index + 1}"
    caption = f"All on one clock: {name}. Bands shade the requests: first the prompt, then the generated tokens."
    longest = max((len(series) for series in _series(one, "").values()), default=0)
    notes = (f"Lines of more than {POINTS} samples show averages.",) if longest > POINTS else ()
    return Figure("timeline", "Timeline of one run", caption, panels, notes)


def _moments(turn: Turn) -> list[float]:
    return [turn.sent_at, turn.ended_at] if turn.sent_at else []


def _request_bands(turns: Sequence[Turn], start: float) -> Iterator[Row]:
    """The phases of each request; overlapping requests are merged, so that no time is shaded twice."""
    for group in concurrent(turns):
        if len(group) == 1:
            yield from _phases(group[0], start)
            continue
        for phase, name in PHASE_NAMES:
            for begin, end in phase_spans(group, phase):
                label = f"{len(group)} overlapping requests"
                yield {"from": begin - start, "to": end - start, "phase": name, "label": label}


def _phases(turn: Turn, start: float) -> list[Row]:
    """Spans of prefill and decode, in seconds since the start."""
    if not turn.sent_at or turn.ttft_s is None:
        return []
    sent_s = turn.sent_at - start
    first, last, label = sent_s + turn.ttft_s, sent_s + (turn.total_s or turn.ttft_s), turn.label
    phases: list[Row] = [{"from": sent_s, "to": first, "phase": "prompt", "label": label}]
    return phases if last <= first else [*phases, {"from": first, "to": last, "phase": "tokens", "label": label}]


def _tokens(view: RoundView, one: Round) -> Panel | None:
    """Tokens per second, counted in intervals of equal length."""
    times = [
        turn.sent_at + turn.ttft_s + at - view.start
        for turn in one.turns
        if turn.sent_at and turn.ttft_s is not None
        for at in turn.token_times
    ]
    if len(times) < 2:
        return None
    width = max((view.end - view.start) / BINS, 0.1)
    counts = [0] * (int((view.end - view.start) / width) + 1)
    for at in times:
        counts[min(max(int(at / width), 0), len(counts) - 1)] += 1
    points = [(index * width, count / width) for index, count in enumerate(counts)]
    rows = [{"x": x, "y": y, "series": "tokens", "record": view.record.id} for x, y in points]
    text = f"{units.number(width)} s"
    line = Line(
        ("tokens", str(len(times)), units.quantity(max(y for _, y in points), "tokens/s"), text), view.record.id
    )
    spec = _axes(view, rows, "tokens/s", shape="step-after")
    return Panel("Tokens", spec, (line,), ("series", "total", "maximum", "counted per"))


def _series(one: Round, suffix: str) -> dict[str, list[Sample]]:
    """The samples of a track by series; per-core ones only if they are few."""
    series: dict[str, list[Sample]] = {}
    for sample in one.samples:
        if sample.name.endswith(suffix) and not sample.name.startswith(REDUNDANT_PREFIXES):
            name = sample.name.removesuffix(suffix).replace("_", " ") or sample.name
            marks = " ".join(str(value) for _, value in sorted(sample.labels.items()))
            series.setdefault(f"{name} {marks}".strip(), []).append(sample)
    if len(series) > SERIES:
        whole = {name: samples for name, samples in series.items() if not samples[0].labels}
        series = whole or series
    moving = {name: samples for name, samples in series.items() if any(sample.value for sample in samples)}
    return dict(list((moving or series).items())[:SERIES])


def thin(points: Sequence[tuple[float, float]], max_points: int = POINTS) -> list[tuple[float, float]]:
    """At most ``max_points`` points: means of equally many consecutive ones."""
    step = max(-(-len(points) // max_points), 1)
    parts = [points[i : i + step] for i in range(0, len(points), step)]
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts]


def _track(view: RoundView, one: Round, track: Track) -> Panel | None:
    series = _series(one, track.suffix)
    if not series:
        return None
    highest = max(abs(sample.value) for samples in series.values() for sample in samples)
    factor, name = units.scale(highest, track.unit)
    rows, lines = list[Row](), list[Line]()
    for key, samples in series.items():
        ordered = sorted((sample.at - view.start, sample.value) for sample in samples)
        rows += [{"x": x, "y": y / factor, "series": key, "record": view.record.id} for x, y in thin(ordered)]
        values = [value for _, value in ordered]
        summary = [units.quantity(pick, track.unit) for pick in (values[0], min(values), max(values), values[-1])]
        lines.append(Line((key, *summary, str(len(values))), view.record.id))
    heading = track.title if len(series) > 1 else f"{track.title}: {next(iter(series))}"
    spec = _axes(view, rows, name, shape="linear", zero=track.unit != "°C")
    return Panel(heading, spec, tuple(lines), ("series", "first", "lowest", "highest", "last", "samples"))


def _axes(
    view: RoundView, rows: Sequence[Row], unit: str, *, shape: Literal["step-after", "linear"], zero: bool = True
) -> Spec:
    """Lines over the shaded phases."""
    import altair as alt

    names = list(dict.fromkeys(row["series"] for row in rows))
    scale = alt.Scale(domain=[0, max(view.end - view.start, 0.001)], nice=False)
    x = alt.X("x:Q", title="seconds since the round began", scale=scale)
    y = alt.Y("y:Q", title=unit, scale=alt.Scale(zero=zero, nice=True), axis=alt.Axis(tickCount=4))
    colour = alt.Color("series:N", scale=alt.Scale(domain=names), legend=alt.Legend() if len(names) > 1 else None)
    tooltip = [alt.Tooltip("series:N", title="series"), alt.Tooltip("x:Q", title="second", format=".1f")]
    tooltip.append(alt.Tooltip("y:Q", title=unit, format=".4"))
    line: Any = chart(rows, height=110).mark_line(interpolate=shape)
    layers = [*_bands(view), line.encode(x=x, y=y, color=colour, tooltip=tooltip)]
    form: Any = alt.layer(*layers).properties(height=110)
    return to_spec(form, names if len(names) > 1 else ())


def _bands(view: RoundView) -> list[alt.Chart]:
    """Shaded phases of each request, behind the lines."""
    import altair as alt

    bands = []
    for phase in ("prompt", "tokens"):
        rows = [row for row in view.phases if row["phase"] == phase]
        if rows:
            tooltip = [alt.Tooltip("label:N", title="request"), alt.Tooltip("phase:N", title="phase")]
            band = chart(rows).mark_rect(style=f"band-{phase}")
            bands.append(band.encode(x=alt.X("from:Q"), x2="to:Q", tooltip=tooltip))
    return bands
