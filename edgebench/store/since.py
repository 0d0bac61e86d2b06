"""Parse the start of a period: a date, a time, or an age such as ``7d``."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

from edgebench.errors import UsageError

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def start_time(since: str | datetime, *, name: str = "since", now: datetime | None = None) -> str:
    """The time in the format of the store, UTC; a value without an offset is local time.

    ``name``: the value's name in messages. Raises ``UsageError``.
    """
    try:
        time = since if isinstance(since, datetime) else _parse(since, now or datetime.now(timezone.utc))
        return time.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(
            f"{name}: {since!r} is not a valid date or duration",
            "Examples: 2026-11-01, 2026-11-01T18:30, 90m, 12h, 7d.",
        ) from error


def _parse(text: str, now: datetime) -> datetime:
    age = re.fullmatch(r"([0-9]{1,6})\s*([mhdw])", text, re.ASCII)
    if age:
        return now - timedelta(**{_UNITS[age[2]]: int(age[1])})
    return datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text))
