"""Ports on a device's loopback, chosen at random: no system reserves one for another program."""

from __future__ import annotations

from edgebench.errors import EngineFailed

PORTS = range(20_000, 32_000)
"""Below the ephemeral port range of Linux, Android and Windows."""
PORT_TRIES = 5


class PortInUse(EngineFailed):
    """The port is in use by another program."""
