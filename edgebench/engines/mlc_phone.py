"""Controls an Android phone through its screen: reads it, taps and types."""

from __future__ import annotations

import base64
import binascii
import time

from edgebench.core import DeviceSession
from edgebench.engines import mlc_screen
from edgebench.engines.mlc_screen import Node, Screen
from edgebench.errors import DeviceRefused, TimedOut


class Phone:
    """The screen of an open device; every read starts a program there and takes a second or more."""

    def __init__(self, device: DeviceSession) -> None:
        self._device = device

    def read_screen(self) -> Screen | None:
        """The screen; None while it changes, for example while the app prints a reply."""
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

    def save_screenshot(self) -> str:
        """Save a screenshot on the controller; a sentence with its path, or with the error."""
        from edgebench.modelfiles.cache import Cache

        try:
            picture = base64.b64decode(self.sh("screencap -p | base64"), validate=False)
            folder = Cache().root.parent / "screens"
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / f"{self._device.device.name}-{time.strftime('%Y%m%d-%H%M%S')}.png"
            file.write_bytes(picture)
        except (OSError, binascii.Error, DeviceRefused, TimedOut) as error:
            return f"(Cannot save a screenshot: {error}.)"
        return f"Screenshot: {file}"

    def run(self, *argv: str, timeout: float = 60) -> str:
        """Output of a command on the phone, whatever its exit status."""
        return self._device.run(self._device.system.quote(argv), timeout=timeout).stdout

    def sh(self, command: str, *, timeout: float = 60) -> str:
        """Output of a shell command line on the phone. Raises ``DeviceRefused`` if it fails."""
        output = self._device.run(command, timeout=timeout)
        if output.status != 0:
            raise DeviceRefused(
                (output.stderr.strip() or output.stdout.strip())[-300:] or f"exit status {output.status}"
            )
        return output.stdout

    def quote(self, path: str) -> str:
        return self._device.system.quote([path])
