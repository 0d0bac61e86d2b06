"""Conversion from base units to units for display; nothing else converts bytes to GiB or ratios to %."""

from __future__ import annotations

from math import floor, isfinite, log10

from edgebench.core import Metric

_BYTES = ("B", "KiB", "MiB", "GiB", "TiB")
RATIO, MULTIPLE = "ratio", "×"
"""A fraction of a whole, shown in per cent; a multiple, shown with its sign and no space."""


def number(value: float, digits: int = 3) -> str:
    """A number with ``digits`` significant digits, without an exponent below 10^15."""
    if value == 0 or not isfinite(value):
        return f"{value:g}"
    places = max(0, digits - 1 - floor(log10(abs(value))))
    text = f"{value:,.{places}f}"
    return text.replace(",", "\u202f")  # narrow no-break space


def scale(value: float, unit: str) -> tuple[float, str]:
    """Factor and unit that suit a value of this size, for example (1048576, ``MiB``)."""
    if unit in ("bytes", "b", "B"):
        step = 0
        while abs(value) >= 1000 * 1024**step and step < len(_BYTES) - 1:
            step += 1
        return float(1024**step), _BYTES[step]
    if unit == "s" and 0 < abs(value) < 1:
        return 1e-3, "ms"
    if unit in ("Hz", "hertz"):
        return (1e9, "GHz") if abs(value) >= 1e9 else (1e6, "MHz")
    if unit == RATIO:
        return 0.01, "%"
    return 1.0, {"J": "J", "j": "J", "w": "W", "c": "°C", "1": ""}.get(unit, unit)


def quantity(value: float, unit: str) -> str:
    """``1.72 GiB``, ``310 ms``, ``42.1 tokens/s``, ``75 %``, ``1.31×``."""
    factor, name = scale(value, unit)
    return with_unit(number(value / factor), name)


def with_unit(text: str, unit: str) -> str:
    """``42.1 tokens/s``, ``1.31×``."""
    return f"{text}{unit}" if unit == MULTIPLE else f"{text} {unit}".strip()


def count_noun(count: int, noun: str) -> str:
    """``1 record``, ``2 records``."""
    return f"{count} {noun}{'s' if count != 1 else ''}"


def interval(metric: Metric) -> str:
    """``41.2–43.0`` in the unit that suits the value; empty without an interval."""
    if metric.low is None or metric.high is None:
        return ""
    factor, _ = scale(metric.value, metric.unit)
    return f"{number(metric.low / factor)}–{number(metric.high / factor)}"
