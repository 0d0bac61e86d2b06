"""IDs of runs and records: short, unique and sorted by time."""

from __future__ import annotations

import secrets
import threading
import time

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32: no i, l, o, u."""
_EPOCH_MS = 1_704_067_200_000
"""2024-01-01; forty bits of milliseconds reach until 2058."""
_last_id = 0
_lock = threading.Lock()


def new_id() -> str:
    """A new ID: twelve characters that sort by time, milliseconds and twenty random bits."""
    global _last_id  # noqa: PLW0603 - two IDs of one process must differ and sort, even in one millisecond
    with _lock:
        stamp = (time.time_ns() // 1_000_000 - _EPOCH_MS) << 20 | secrets.randbits(20)
        _last_id = max(stamp, _last_id + 1)
        number = _last_id
    return "".join(_DIGITS[number >> shift & 31] for shift in range(55, -1, -5))
