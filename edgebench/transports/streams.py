"""A running command's two byte streams as one queue of lines, for any transport."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from edgebench.core import Line

MAX_LINE_B = 65_536
"""Bytes. A longer line is delivered in pieces, so that garbage cannot exhaust the memory."""


class LineQueue:
    """Reads blocking byte sources in threads and returns their lines in order of arrival."""

    def __init__(self, sources: dict[Literal["out", "err"], Callable[[], bytes]]) -> None:
        """Each source returns the next bytes, b"" at its end."""
        self._lines: queue.SimpleQueue[Line | None] = queue.SimpleQueue()
        self._open = len(sources)
        for stream, source in sources.items():
            threading.Thread(target=self._pump, args=(stream, source), daemon=True).start()

    def _pump(self, stream: Literal["out", "err"], source: Callable[[], bytes]) -> None:
        remainder = b""
        try:
            while block := source():
                arrived_at = time.monotonic()
                *complete, remainder = (remainder + block).split(b"\n")
                for line in complete:
                    self._put(stream, line.removesuffix(b"\r"), arrived_at)
                while len(remainder) > MAX_LINE_B:
                    self._put(stream, remainder[:MAX_LINE_B], arrived_at)
                    remainder = remainder[MAX_LINE_B:]
            if remainder:
                self._put(stream, remainder, time.monotonic())
        finally:
            self._lines.put(None)  # even after an exception, or readers would block forever

    def _put(self, stream: Literal["out", "err"], line: bytes, arrived_at: float) -> None:
        self._lines.put(Line(stream, line.decode("utf-8", "replace"), arrived_at))

    @property
    def is_ended(self) -> bool:
        """Whether all streams have ended and every line has been returned."""
        return self._open == 0

    def get(self, timeout: float) -> Line | None:
        """The next line; None after ``timeout`` seconds or when all streams have ended."""
        deadline = time.monotonic() + timeout
        while self._open:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return None
            if line is not None:
                return line
            self._open -= 1
        return None


@contextlib.contextmanager
def temporary_path(local: Path) -> Iterator[Path]:
    """Yield a temporary path, renamed to ``local`` on success and removed on failure."""
    part = local.with_name(local.name + ".part")
    try:
        yield part
        part.replace(local)
    finally:
        part.unlink(missing_ok=True)
