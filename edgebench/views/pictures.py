"""The figures of a report as image files, in light colours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from edgebench.core import Record
from edgebench.views.charts import Figure, figures, theme

SCALE = 2.0
"""Scale factor of PNG files."""


def pictures(records: Sequence[Record], form: Literal["svg", "png"]) -> Iterator[tuple[Figure, bytes]]:
    """All figures that these records have data for, each as an image."""
    import vl_convert

    for figure in figures(records):
        spec = theme.for_picture([panel.spec for panel in figure.panels], [panel.title for panel in figure.panels])
        if form == "svg":
            yield figure, vl_convert.vegalite_to_svg(spec).encode()
        else:
            yield figure, vl_convert.vegalite_to_png(spec, scale=SCALE)
