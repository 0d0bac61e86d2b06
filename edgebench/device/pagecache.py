"""The state from which a model is loaded: pages cached or not, GPU kernels compiled or not."""

from __future__ import annotations

import re
from typing import Literal

from edgebench.device import provision
from edgebench.device.session import Session
from edgebench.errors import EngineFailed, TimedOut, Unreadable

Regime = Literal["first", "cold", "warm"]


def is_first_start(session: Session, kernels: str) -> bool:
    """Whether these kernels start for the first time on this device, since drivers cache compiled kernels
    (Vulkan's pipeline cache, OpenCL's binaries). Recorded as a folder in the workspace."""
    files = session.system.files
    marker = files.join(session.workspace, "started", kernels)
    if provision.query(session, files.state(marker)):
        return False
    provision.query(session, files.make_folder(marker))
    return True


def prepare_cache(session: Session, path: str, regime: Literal["warm", "cold"]) -> tuple[float | None, Regime]:
    """Fill or evict the model's pages and verify it: (cached share before the start, regime).

    If the page cache cannot be inspected, ``warm`` is returned without verification (the file has just
    been read) and ``cold`` is refused. Raises ``EngineFailed``.
    """
    cache = session.system.page_cache(path)
    if cache is None:
        if regime == "cold":
            raise EngineFailed(
                f"cannot inspect the page cache of {session.device.name}, so a cold start cannot be verified",
                "Omit --load cold.",
            )
        return None, "warm"

    def resident() -> float | None:
        try:
            return cache.resident.parse(session.run(cache.resident.command).stdout)
        except (Unreadable, TimedOut):
            return None

    share = resident()
    if regime == "warm" and share is not None and share < 0.99:
        session.run(cache.fill, timeout=600)
        share = resident()
    elif regime == "cold":
        session.run(cache.evict, timeout=60)
        share = resident()
        if share is None or share > 0.01:
            raise EngineFailed(
                f"the model's pages are still in the page cache ({share or 0:.0%}): this start would not be cold",
                "Another program may hold the file open. Omit --load cold, or close that program.",
            )
    return share, regime


def mapped_bytes(session: Session, pid: int, path: str) -> int | None:
    """Resident bytes of a file that a process has mapped; None if the system does not report it."""
    name = session.system.quote([path])
    command = f"[ -r /proc/{pid}/smaps ] && echo read && grep -F -A 6 -- {name} /proc/{pid}/smaps"
    try:
        return parse_mapped(session.run(command, timeout=60).stdout)
    except TimedOut:
        return None


def parse_mapped(text: str) -> int | None:
    """The sum of the resident sizes in an excerpt of /proc/PID/smaps, after a line ``read``; else None."""
    if not text.startswith("read"):
        return None
    return sum(int(size) * 1024 for size in re.findall(r"^Rss:\s+(\d+) kB$", text, re.MULTILINE))
