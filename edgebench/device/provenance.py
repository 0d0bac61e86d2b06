"""Which program it is that runs on a device: builds made from a source archive don't know their number."""

from __future__ import annotations

import hashlib
from pathlib import Path

from edgebench.core import DeviceSession
from edgebench.errors import TimedOut, Unreadable

HASH_S = 300.0
"""Longest wait for a device to read a program through."""


def digest(device: DeviceSession, program: str) -> str | None:
    """SHA-256 of a program on a device; None where the device doesn't tell.

    It is hashed once: the answer is kept here under the device, the path, the size and the time of
    change. Of a build in parts this is the part that was started, not its libraries.
    """
    files = device.system.files
    try:
        asked = files.state(program)
        state = asked.parse(device.run(asked.command).stdout)
        if state is None:
            return None
        wire = sorted((name, str(value)) for name, value in device.device.transport.items())
        kept = _kept(repr([wire, program, state.size_b, state.modified]))
        if state.modified is not None and kept.is_file():
            return kept.read_text()
        hashed = files.sha256(program)
        found = hashed.parse(device.run(hashed.command, timeout=HASH_S).stdout)
    except (TimedOut, Unreadable):
        return None
    part = kept.with_suffix(".part")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(found)
        part.replace(kept)
    except OSError:
        pass  # then it is asked again
    return found


def _kept(key: str) -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("edgebench") / "programs" / hashlib.sha256(key.encode()).hexdigest()
