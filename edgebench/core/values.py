"""Words that all nouns are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

Json = Any
"""A value that ``json`` can write: None, bool, int, float, str, list, dict."""

Option = bool | int | float | str
"""The value of one setting of a trial."""

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all) while something large moves."""

Better = Literal["lower", "higher", "none"]
"""Which values of a metric are better."""
