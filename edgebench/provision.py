"""Models and engines onto a device, by content hash."""

from __future__ import annotations

from edgebench.core import ModelFile, Progress
from edgebench.errors import DeviceRefused
from edgebench.session import Session


def place_model(session: Session, model: ModelFile, progress: Progress | None = None) -> str:
    """The model's path on the device. On this machine it is where it is."""
    if session.here:
        return str(model.path)
    raise DeviceRefused(f"models cannot be put onto {session.device.name} yet")
