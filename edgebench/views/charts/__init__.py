"""The figures of a report: one function each, from records to tidy rows to a Vega-Lite specification.

Specifications have no colours and no width; pages and image files add both (``theme``), so that a
figure looks the same in a page and next to a Markdown report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgebench.core import Record
from edgebench.judging import metrics
from edgebench.views.report_data import latest

if TYPE_CHECKING:
    import altair as alt

Spec = dict[str, Any]
"""A Vega-Lite specification as JSON."""

Row = dict[str, Any]
"""One observation of a chart's tidy data; ``record`` is the ID of its record."""


@dataclass(frozen=True)
class Line:
    """One line of a figure's data table: a mark as text, and the ID of its record."""

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
    """A figure with its caption, panels, data tables and notes."""

    id: str
    title: str
    caption: str
    panels: tuple[Panel, ...]
    notes: tuple[str, ...] = ()
    is_side_by_side: bool = False
    """Whether two panels are shown side by side if the width allows."""


def axis_title(name: str, unit: str = "") -> str:
    """A metric's title and unit as an axis shows them; ``unit``: one that its values were scaled to."""
    definition = metrics.find(name)
    return f"{definition.title}, {unit or {'ratio': '0…1'}.get(definition.unit, definition.unit)}"


def chart(rows: Sequence[Row], **properties: Any) -> alt.Chart:
    """A chart without marks over these rows."""
    import altair as alt

    data: Any = alt.Data
    return alt.Chart(data(values=list(rows)), **properties)


def to_spec(altair_chart: Any, legend: Iterable[str] = ()) -> Spec:
    """An Altair chart as JSON, not validated because that takes most of the time (tests validate it).

    ``legend``: the names in its legend; the longest one determines the number of columns.
    """
    spec: Spec = altair_chart.to_dict(validate=False)
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
    """All figures that these records have data for, in the order of a report.

    Only the newest record of each configuration is drawn.
    """
    from altair.utils.schemapi import debug_mode

    newest = latest(records)
    results: list[Figure] = []
    for figure_path in FIGURES:
        module, name = figure_path.split(":")
        draw: Callable[[Sequence[Record]], Figure | None] = getattr(
            import_module(f"edgebench.views.charts.{module}"), name
        )
        with debug_mode(False):  # no validation, as in form_of
            figure = draw(newest)
        if figure is not None:
            results.append(figure)
    return results
