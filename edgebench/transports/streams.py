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

LONGEST_LINE = 65_536
"""Bytes. A longer line is delivered in pieces, so that garbage can't eat the memory."""


class LineQueue:
    """Reads blocking byte sources in threads and hands out their lines in order of arrival."""

    def __init__(self, sources: dict[Literal["out", "err"], Callable[[], bytes]]) -> None:
        """Each source returns the next bytes, b"" at its end."""
        self._lines: queue.SimpleQueue[Line | None] = queue.SimpleQueue()
        self._open = len(sources)
        for stream, source in sources.items():
            threading.Thread(target=self._pump, args=(stream, source), daemon=True).start()

    def _pump(self, stream: Literal["out", "err"], source: Callable[[], bytes]) -> None:
        rest = b""
        try:
            while block := source():
                at = time.monotonic()
                *whole, rest = (rest + block).split(b"\n")
                for line in whole:
                    self._put(stream, line.removesuffix(b"\r"), at)
                while len(rest) > LONGEST_LINE:
                    self._put(stream, rest[:LONGEST_LINE], at)
                    rest = rest[LONGEST_LINE:]
            if rest:
                self._put(stream, rest, time.monotonic())
        finally:
            self._lines.put(None)  # whatever ended it: nobody may wait for ever

    def _put(self, stream: Literal["out", "err"], line: bytes, at: float) -> None:
        self._lines.put(Line(stream, line.decode("utf-8", "replace"), at))

    @property
    def ended(self) -> bool:
        """Both streams are at their end and every line has been handed out."""
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
def temporary(local: Path) -> Iterator[Path]:
    """A name to write to; it becomes ``local`` when nothing went wrong, else nothing is left."""
    part = local.with_name(local.name + ".part")
    try:
        yield part
        part.replace(local)
    finally:
        part.unlink(missing_ok=True)
