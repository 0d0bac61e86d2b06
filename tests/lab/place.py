"""What a part of the lab tells a test: how to reach it, and where one may write."""

from __future__ import annotations

import shutil
import socket
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Place:
    """A device of the lab."""

    name: str
    system: str
    transport: Mapping[str, Any]
    """As in a profile: ``kind`` and the rest."""
    folder: str
    """Exists on the device, can be written, is empty."""
    here: Path
    """The same folder as this machine sees it."""
    port: int
    """The TCP port its server listens on: what a fault proxy goes in front of."""
    facts: dict[str, Any] = field(default_factory=dict)

    def open(self, **changes: Any) -> Any:
        """A transport to it, opened; ``changes`` to what the profile says."""
        transport = self.make(**changes)
        transport.open()
        return transport

    def make(self, **changes: Any) -> Any:
        from edgebench import plugins

        config = {**self.transport, **changes}
        kind = plugins.load("transports", config.pop("kind"))
        return kind(kind.Config(**config))

    def remove(self) -> None:
        """Its folder, in which the last to hang up (a push, the holder of a lock) may still be writing."""
        deadline = time.monotonic() + 30
        while self.here.exists():
            shutil.rmtree(self.here, ignore_errors=time.monotonic() < deadline)


def machine(folder: Path) -> list[str | Path]:
    """What goes before a server's command so that it is a machine of its own: it tells another boot."""
    boot = folder / "boot_id"
    boot.write_text(f"{uuid.uuid4()}\n")
    there = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", there, boot]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])
