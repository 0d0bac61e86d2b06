"""Android, through ``adb shell`` or through Termux: mksh or another POSIX shell, and toybox."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgebench.core import Command, Fact, PageCache, Reading
from edgebench.systems import loops, posix, posix_files


class Android:
    """What ``adb shell`` reaches."""

    default_workspace = "edgebench"

    files = posix_files.Files()

    @property
    def facts(self) -> Mapping[str, Fact]:
        return {}

    def quote(self, argv: Sequence[str]) -> str:
        return posix.quote(argv)

    def supervise(self, command: Command, tag: str) -> str:
        return posix.supervise(command, tag)

    def loop(self, readings: Mapping[str, Reading], pid: int) -> str:
        return loops.posix(readings, pid)

    def page_cache(self, path: str) -> PageCache | None:
        """toybox can evict nothing and look at nothing."""
        return None


class Termux(Android):
    """Termux over SSH: an app's sandbox with fewer readings, everything under its own home."""
