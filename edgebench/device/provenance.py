"""Identify a program on a device by checksum: builds from a source archive have no build number."""

from __future__ import annotations

import hashlib
from pathlib import Path

from edgebench.core import DeviceSession
from edgebench.errors import TimedOut, Unreadable

HASH_TIMEOUT_S = 300.0
"""Timeout for hashing a program on a device."""


def program_sha256(device: DeviceSession, program: str) -> str | None:
    """SHA-256 of a program on a device; None if it is unavailable.

    It is cached on this machine by transport, path, size and modification time. For a build with shared
    libraries it covers only the executable.
    """
    files = device.system.files
    try:
        state_fact = files.state(program)
        state = state_fact.parse(device.run(state_fact.command).stdout)
        if state is None:
            return None
        transport = sorted((name, str(value)) for name, value in device.device.transport.items())
        cache_file = _cache_path(repr([transport, program, state.size_b, state.modified]))
        if state.modified is not None and cache_file.is_file():
            return cache_file.read_text()
        sha256_fact = files.sha256(program)
        sha256 = sha256_fact.parse(device.run(sha256_fact.command, timeout=HASH_TIMEOUT_S).stdout)
    except (TimedOut, Unreadable):
        return None
    part = cache_file.with_suffix(".part")
    try:
        cache_file.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(sha256)
        part.replace(cache_file)
    except OSError:
        pass  # hashed again next time
    return sha256


def _cache_path(key: str) -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("edgebench") / "programs" / hashlib.sha256(key.encode()).hexdigest()
