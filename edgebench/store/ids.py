"""Ids of runs and records: short, sorted by time, never given twice."""

from __future__ import annotations

import secrets
import threading
import time

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32: no i, l, o, u."""
_EPOCH_MS = 1_704_067_200_000
"""2024-01-01; forty bits of milliseconds reach until 2058."""
_latest = 0
_turn = threading.Lock()


def new() -> str:
    """A new id: twelve characters that sort by time, milliseconds and twenty random bits."""
    global _latest  # noqa: PLW0603 - two ids of one process must differ and sort, even in one millisecond
    with _turn:
        stamp = (time.time_ns() // 1_000_000 - _EPOCH_MS) << 20 | secrets.randbits(20)
        _latest = max(stamp, _latest + 1)
        number = _latest
    return "".join(_DIGITS[number >> shift & 31] for shift in range(55, -1, -5))
