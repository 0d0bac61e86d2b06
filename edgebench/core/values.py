"""Basic types that the data types of edgebench share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

Json = Any
"""A value that ``json`` can serialize: None, bool, int, float, str, list, dict."""

Option = bool | int | float | str
"""The value of an option of a trial."""

Progress = Callable[[int, int], None]
"""Called with (bytes transferred, bytes in total) during a transfer."""

Better = Literal["lower", "higher", "none"]
"""Which values of a metric are better."""
