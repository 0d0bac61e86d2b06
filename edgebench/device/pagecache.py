"""In what state a model is loaded: its pages cached or not, a GPU's kernels compiled before or not."""

from __future__ import annotations

import re
from typing import Literal

from edgebench.device import provision
from edgebench.device.session import Session
from edgebench.errors import EngineFailed, TimedOut, Unreadable

Regime = Literal["first", "cold", "warm"]


def first_start(session: Session, kernels: str) -> bool:
    """Whether this device never saw these kernels started before: drivers keep what they compiled
    (Vulkan's pipeline cache, OpenCL's binaries). Remembered by a folder in the workspace."""
    files = session.system.files
    mark = files.join(session.workspace, "started", kernels)
    if provision.ask(session, files.state(mark)):
        return False
    provision.ask(session, files.make_folder(mark))
    return True


def prepare_cache(session: Session, path: str, wanted: Literal["warm", "cold"]) -> tuple[float | None, Regime]:
    """Make the model's pages cached or not, and look whether they are: (share before the start, regime).

    Where nobody can look into the page cache the regime is what was asked for only if it is
    ``warm`` (the file has just been read through); a cold start that can't be verified is refused.
    """
    cache = session.system.page_cache(path)
    if cache is None:
        if wanted == "cold":
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
    if wanted == "warm" and share is not None and share < 0.99:
        session.run(cache.fill, timeout=600)
        share = resident()
    elif wanted == "cold":
        session.run(cache.evict, timeout=60)
        share = resident()
        if share is None or share > 0.01:
            raise EngineFailed(
                f"the model's pages are still in the page cache ({share or 0:.0%}): this start would not be cold",
                "Another program may hold the file open. Omit --load cold, or end that program.",
            )
    return share, wanted


def mapped_bytes(session: Session, pid: int, path: str) -> int | None:
    """Resident bytes of a file that a process has mapped; None where the system doesn't say."""
    name = session.system.quote([path])
    command = f"[ -r /proc/{pid}/smaps ] && echo read && grep -F -A 6 -- {name} /proc/{pid}/smaps"
    try:
        return parse_mapped(session.run(command, timeout=60).stdout)
    except TimedOut:
        return None


def parse_mapped(text: str) -> int | None:
    """The sum of the resident sizes in an excerpt of /proc/PID/smaps, behind a line ``read``."""
    if not text.startswith("read"):
        return None
    return sum(int(size) * 1024 for size in re.findall(r"^Rss:\s+(\d+) kB$", text, re.MULTILINE))
