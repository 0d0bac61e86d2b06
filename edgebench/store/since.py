"""The start of a period as people write it: a date, a time, or an age such as ``7d``."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

from edgebench.errors import UsageError

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def start_time(since: str | datetime, *, name: str = "since", now: datetime | None = None) -> str:
    """The time as the store writes it, UTC; without an offset it is local time.

    ``name``: what messages call the value. Raises ``UsageError``.
    """
    try:
        when = since if isinstance(since, datetime) else _parsed(since, now or datetime.now(timezone.utc))
        return when.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(
            f"{name}: {since!r} is not a valid date or duration",
            "Examples: 2026-11-01, 2026-11-01T18:30, 90m, 12h, 7d.",
        ) from error


def _parsed(text: str, now: datetime) -> datetime:
    age = re.fullmatch(r"([0-9]{1,6})\s*([mhdw])", text, re.ASCII)
    if age:
        return now - timedelta(**{_UNITS[age[2]]: int(age[1])})
    return datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text))
