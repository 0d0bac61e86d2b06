"""The figures of a report: one function each, from records to tidy rows to a Vega-Lite form.

The forms carry no colours and no width of their own: a page and a picture give them their theme
(``theme``), so that what is seen in the page and what lies beside a Markdown file is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgebench.core import Record
from edgebench.views.report_data import latest

if TYPE_CHECKING:
    import altair as alt

Spec = dict[str, Any]
"""A Vega-Lite specification as JSON."""

Row = dict[str, Any]
"""One observation of a chart's tidy data; ``record`` is the id of the record it comes from."""


@dataclass(frozen=True)
class Line:
    """One line of a figure's table: what a mark says in words, and the record it comes from."""

    cells: tuple[str, ...]
    record: str


@dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    title: str
    spec: Spec
    lines: tuple[Line, ...]
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Figure:
    """What is drawn, how to read it, and the same in a table."""

    id: str
    title: str
    reading: str
    panels: tuple[Panel, ...]
    notes: tuple[str, ...] = ()
    beside: bool = False
    """Whether two panels go side by side where there is room."""


def chart(rows: Sequence[Row], **properties: Any) -> alt.Chart:
    """Marks to be, over these rows."""
    import altair as alt

    data: Any = alt.Data
    return alt.Chart(data(values=list(rows)), **properties)


def form_of(made: Any, legend: Iterable[str] = ()) -> Spec:
    """A chart of Altair as JSON. Not validated: that takes most of the time; the tests do it.

    ``legend`` are the names in its legend: the longest one tells how many go side by side.
    """
    spec: Spec = made.to_dict(validate=False)
    longest = max(map(len, legend), default=0)
    return {**spec, "usermeta": {"longest": longest}} if longest else spec


FIGURES = (
    "bars:decode",
    "bars:memory",
    "turns:depth",
    "turns:turns",
    "sweeps:threads",
    "sweeps:speculative",
    "planes:frontier",
    "planes:roofline",
    "timeline:timeline",
)


def figures(records: Sequence[Record]) -> list[Figure]:
    """Every figure these records have data for, in the order of a report.

    Of each configuration the newest record is drawn.
    """
    from altair.utils.schemapi import debug_mode

    newest = latest(records)
    drawn: list[Figure] = []
    for place in FIGURES:
        module, name = place.split(":")
        draw: Callable[[Sequence[Record]], Figure | None] = getattr(
            import_module(f"edgebench.views.charts.{module}"), name
        )
        with debug_mode(False):  # no validation, as in form_of
            figure = draw(newest)
        if figure is not None:
            drawn.append(figure)
    return drawn
