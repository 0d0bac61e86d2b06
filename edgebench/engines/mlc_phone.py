"""An Android phone as a finger and an eye have it: looked at, pressed, typed on."""

from __future__ import annotations

import base64
import binascii
import time

from edgebench.core import DeviceSession
from edgebench.engines import mlc_screen
from edgebench.engines.mlc_screen import Node, Screen
from edgebench.errors import DeviceRefused, TimedOut


class Phone:
    """Of an open device; every look starts a program there and takes a second or more."""

    def __init__(self, device: DeviceSession) -> None:
        self._device = device

    def look(self) -> Screen | None:
        """The screen; None while it does not hold still, as while the app writes."""
        file = self.quote(f"{self._device.workspace}/window.xml")
        folder = self.quote(self._device.workspace)
        dump = (
            f"mkdir -p {folder}; rm -f {file}; uiautomator dump {file} >/dev/null 2>&1; cat {file} 2>/dev/null || true"
        )
        try:
            return mlc_screen.parse(self.sh(dump))
        except TimedOut:
            return None

    def tap(self, node: Node) -> None:
        x, y = node.centre
        self.run("input", "tap", str(x), str(y))

    def keep_screen(self) -> str:
        """A picture of the screen, kept on the controller; the words that say where."""
        from edgebench.modelfiles.cache import Cache

        try:
            picture = base64.b64decode(self.sh("screencap -p | base64"), validate=False)
            folder = Cache().root.parent / "screens"
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / f"{self._device.device.name}-{time.strftime('%Y%m%d-%H%M%S')}.png"
            file.write_bytes(picture)
        except (OSError, binascii.Error, DeviceRefused, TimedOut) as error:
            return f"(No picture of the screen could be kept: {error}.)"
        return f"A picture of the screen: {file}"

    def run(self, *argv: str, timeout: float = 60) -> str:
        """What a command of the phone printed, whatever its status."""
        return self._device.run(self._device.system.quote(argv), timeout=timeout).stdout

    def sh(self, command: str, *, timeout: float = 60) -> str:
        """What a line of its shell printed. Raises ``DeviceRefused`` where it fails."""
        told = self._device.run(command, timeout=timeout)
        if told.status != 0:
            raise DeviceRefused((told.stderr.strip() or told.stdout.strip())[-300:] or f"exit status {told.status}")
        return told.stdout

    def quote(self, path: str) -> str:
        return self._device.system.quote([path])
