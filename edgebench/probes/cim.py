"""Parse objects that PowerShell prints with ``ConvertTo-Json -Compress``.

In JSON, numbers do not depend on the machine's language, and the CIM classes' names are English
everywhere, unlike the names of performance counters.
"""

from __future__ import annotations

import json

from edgebench.errors import Unreadable


def objects(text: str) -> list[dict[str, object]]:
    """All objects, one line or array each; empty output is an empty list.

    Raises ``Unreadable`` for text that is not JSON, such as an error message.
    """
    rows: list[dict[str, object]] = []
    for line in text.strip().lstrip("\ufeff").splitlines():
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError:
            raise Unreadable(line.strip()[:200]) from None
        rows += [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, dict)]
    return rows


def number(row: dict[str, object], name: str) -> float | None:
    """A field that is a number, else None (missing, null, text)."""
    value = row.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
