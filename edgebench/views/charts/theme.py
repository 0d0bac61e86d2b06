"""The theme of figures: colour-blind-safe colours, light and dark, and unobtrusive axes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from edgebench.views.charts import Spec

LIGHT = {
    "paper": "#ffffff",
    "ink": "#1d2329",
    "muted": "#59636e",
    "line": "#dfe3e8",
    "edge": "#858f9a",
    "wash": "#f3f5f7",
    "warn": "#8a5200",
    "bad": "#b3261e",
    "c1": "#4e7bca",
    "c2": "#d47b3a",
    "c3": "#0a4e32",
    "c4": "#a1447f",
    "c5": "#6d6510",
    "c6": "#8d9093",
}
DARK = {
    "paper": "#14181d",
    "ink": "#e8ebee",
    "muted": "#a3adb8",
    "line": "#323a43",
    "edge": "#6f7a85",
    "wash": "#1e242b",
    "warn": "#e8b04b",
    "bad": "#ff8f86",
    "c1": "#97bded",
    "c2": "#b3500e",
    "c3": "#66a47b",
    "c4": "#af6ec9",
    "c5": "#dfbd48",
    "c6": "#626d78",
}
"""Colours by name: blue, orange, green, purple, ochre, grey, with a contrast of at least 3:1 on ``paper``. They also
differ in lightness, so that they are distinguishable with any colour vision deficiency (tested)."""

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif"
LETTER, LETTERS, SYMBOL = 7, 42, 40
"""Of a legend: width of a letter in pixels, maximum letters of a name, width of a symbol with its padding."""

PICTURE_FONT = "Liberation Sans, Arial, sans-serif"

BACKENDS = ("cpu", "cuda", "metal", "vulkan", "opencl")
"""Backends with the same colour in every figure; others get the remaining colours."""

Colour = Callable[[str], str]
"""Maps the name of a colour to its CSS value."""


def backends(present: Iterable[str]) -> list[str]:
    """The domain of a scale of backends: ``BACKENDS`` in order, then the others."""
    return [*BACKENDS, *sorted(set(present) - set(BACKENDS))]


def config(*, page: bool) -> dict[str, Any]:
    """Vega-Lite's ``config``: CSS variables inside a page, the light colours in a picture."""

    def colour(name: str) -> str:
        return f"var(--{name})" if page else LIGHT[name]

    return {
        "font": FONT if page else PICTURE_FONT,
        "background": None if page else LIGHT["paper"],
        "view": {"stroke": None},
        "axis": _axis(colour),
        "legend": _legend(colour),
        "title": {"color": colour("ink"), "anchor": "start", "fontSize": 13, "fontWeight": "bold", "offset": 10},
        "range": {"category": [colour(f"c{n}") for n in range(1, 7)]},
        "mark": {"color": colour("c1")},
        "bar": {"cornerRadiusEnd": 2},
        "line": {"strokeWidth": 2},
        "area": {"opacity": 0.18, "line": False},
        "point": {"size": 44, "filled": True, "opacity": 1},
        "style": _styles(colour),
    }


def _axis(colour: Colour) -> dict[str, Any]:
    """Labels and a faint grid, without axis lines."""
    return {
        "tickCount": 6,
        "labelColor": colour("muted"),
        "titleColor": colour("muted"),
        "gridColor": colour("line"),
        "domainColor": colour("line"),
        "tickColor": colour("line"),
        "titleFontWeight": "normal",
        "titlePadding": 8,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "labelPadding": 6,
        "ticks": False,
        "domain": False,
    }


def _legend(colour: Colour) -> dict[str, Any]:
    return {
        "labelColor": colour("ink"),
        "titleColor": colour("muted"),
        "titleFontWeight": "normal",
        "orient": "top",
        "title": None,
        "labelFontSize": 12,
        "symbolSize": 90,
        "labelLimit": LETTER * LETTERS,
        "offset": 8,
    }


def _styles(colour: Colour) -> dict[str, Any]:
    """Styles of the named marks."""
    return {
        "interval": {"color": colour("ink"), "strokeWidth": 1.5, "opacity": 0.85},
        "band-prompt": {"color": colour("c2"), "opacity": 0.16},
        "band-tokens": {"color": colour("c1"), "opacity": 0.08},
        "casing": {"color": colour("paper"), "strokeWidth": 5, "opacity": 0.75},
        "name": {"color": colour("ink"), "fontSize": 13},
        "value": {"color": colour("ink"), "fontSize": 12, "fontWeight": "bold"},
        "aside": {"color": colour("muted"), "fontSize": 12},
        "guide": {"color": colour("muted"), "strokeDash": [4, 4], "strokeWidth": 1.2},
        "roof": {"filled": False, "color": colour("muted"), "strokeDash": [3, 3], "strokeWidth": 1},
        "best": {"color": colour("ink"), "strokeWidth": 1.5, "filled": False, "size": 230},
    }


def columns(specs: Iterable[Spec], width: int) -> int:
    """The number of columns in legends of this width; ``page.js`` has the same formula."""
    longest = max((spec.get("usermeta", {}).get("longest", 0) for spec in specs), default=0)
    return max(1, int(width // (LETTER * min(longest, LETTERS) + SYMBOL)))


def for_page(spec: Spec) -> Spec:
    """The specification with the width of its container; ``config`` is added by the page."""
    bare = {name: value for name, value in spec.items() if name != "config"}
    return {**bare, "width": "container", "autosize": {"type": "fit-x", "contains": "padding"}}


def for_picture(specs: list[Spec], titles: list[str], width: int = 680) -> Spec:
    """All panels of a figure below each other, in light colours."""
    look, panels = config(page=False), []
    for spec, title in zip(specs, titles, strict=True):
        panel = {name: value for name, value in spec.items() if name not in ("$schema", "usermeta")}
        panels.append({**panel, "width": width, **({"title": title} if title else {})})
    return {
        "$schema": specs[0]["$schema"],
        "vconcat": panels,
        "spacing": 28,
        "padding": 16,
        "resolve": {"scale": {"color": "independent", "shape": "independent"}},
        "config": {**look, "legend": {**look["legend"], "columns": columns(specs, width)}},
    }
