"""Streamed responses: timed lines from an engine, as server-sent events or as one JSON document per line.

An engine calls ``client.lines(path, body)`` and passes the result to the function for its dialect.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from edgebench.core.values import Json
from edgebench.errors import Unreadable

TimedLine = tuple[float, bytes]
"""``time.monotonic()`` on the controller when the line was complete, and the line without its end."""


def split_lines(blocks: Iterable[tuple[float, bytes]]) -> Iterator[TimedLine]:
    """The lines of timed blocks of bytes, each with the time of the block that completed it.

    Lines end with LF or CR LF; a last line without a terminator counts as a line.
    """
    pending, at = b"", 0.0
    for at, block in blocks:
        *lines, pending = (pending + block).split(b"\n")
        for line in lines:
            yield at, line.removesuffix(b"\r")
    if pending:
        yield at, pending.removesuffix(b"\r")


def server_sent_events(lines: Iterable[TimedLine]) -> Iterator[tuple[float, Json]]:
    """The JSON data of server-sent events (WHATWG HTML, 9.2), each with the time of its last line.

    Ends at ``[DONE]``. Raises ``Unreadable`` for data that is not JSON and for a stream without any event.
    """
    first: bytes | None = None
    has_events, at, data = False, 0.0, list[bytes]()
    for now, line in lines:
        first = first if first is not None or not line.strip() else line
        if line.startswith(b"data:"):
            has_events, at = True, now
            data.append(line[5:].removeprefix(b" "))
        elif not line.strip() and data:
            text = b"\n".join(data)
            if text.strip() == b"[DONE]":
                return
            yield at, _json(text)
            data = []
    if data and (text := b"\n".join(data)).strip() != b"[DONE]":
        yield at, _json(text)
    if not has_events:
        raise Unreadable(f"the engine sent no server-sent events; {_first(first)}")


def json_lines(lines: Iterable[TimedLine]) -> Iterator[tuple[float, Json]]:
    """One JSON document per line (NDJSON), each with the time of its line; empty lines are skipped.

    Raises ``Unreadable`` for a line that is not JSON and for a stream without any line.
    """
    empty = True
    for at, line in lines:
        if line.strip():
            empty = False
            yield at, _json(line)
    if empty:
        raise Unreadable(f"the engine sent no JSON lines; {_first(None)}")


def _json(text: bytes) -> Json:
    try:
        return json.loads(text)
    except ValueError as error:
        raise Unreadable(f"the engine's response is not JSON: {text[:200]!r}") from error


def _first(line: bytes | None) -> str:
    return "the response is empty" if line is None else f"first line: {line[:200]!r}"
