"""Ports on a device's loopback: drawn, since no system hands out one for somebody else's program."""

from __future__ import annotations

from edgebench.errors import EngineFailed

PORTS = range(20_000, 32_000)
"""Below the range that Linux, Android and Windows hand out by themselves."""
PORT_TRIES = 5


class PortTaken(EngineFailed):
    """Somebody else listens there."""
