"""edgebench measures how large language models run on the devices people own.

The public surface is ``__all__``; it is imported where it is used, so that ``import edgebench`` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgebench.version import __version__

__all__ = [
    "Activity",
    "Change",
    "Comparison",
    "Device",
    "DeviceFinished",
    "DeviceLost",
    "DeviceRefused",
    "DeviceStarted",
    "Doubt",
    "EdgebenchError",
    "EngineLog",
    "Event",
    "Facts",
    "Failure",
    "Finding",
    "Metric",
    "Model",
    "ModelError",
    "ModelFile",
    "Pair",
    "ProfileError",
    "Record",
    "Results",
    "Round",
    "RoundFinished",
    "RunInterrupted",
    "Sample",
    "StoreError",
    "Trial",
    "TrialFinished",
    "TrialPlanned",
    "Turn",
    "UsageError",
    "__version__",
    "compare",
    "devices",
    "load",
    "models",
    "run",
    "speculative",
]

_HOMES = {
    "edgebench.bench.events": (
        "Activity",
        "DeviceFinished",
        "DeviceStarted",
        "EngineLog",
        "Event",
        "RoundFinished",
        "TrialFinished",
        "TrialPlanned",
    ),
    "edgebench.core": (
        "Device",
        "Doubt",
        "Facts",
        "Failure",
        "Metric",
        "ModelFile",
        "Record",
        "Round",
        "Sample",
        "Trial",
        "Turn",
    ),
    "edgebench.errors": (
        "DeviceLost",
        "DeviceRefused",
        "EdgebenchError",
        "ModelError",
        "ProfileError",
        "StoreError",
        "UsageError",
    ),
    "edgebench.judging.comparison": ("Comparison", "Finding", "Pair"),
    "edgebench.judging.stats": ("Change",),
    "edgebench.modelfiles.catalogue": ("Model",),
}
"""Module → its public names; all others are in ``edgebench.api``."""

if TYPE_CHECKING:
    from edgebench.api import Results, RunInterrupted, compare, devices, load, models, run, speculative
    from edgebench.bench.events import (
        Activity,
        DeviceFinished,
        DeviceStarted,
        EngineLog,
        Event,
        RoundFinished,
        TrialFinished,
        TrialPlanned,
    )
    from edgebench.core import Device, Doubt, Facts, Failure, Metric, ModelFile, Record, Round, Sample, Trial, Turn
    from edgebench.errors import (
        DeviceLost,
        DeviceRefused,
        EdgebenchError,
        ModelError,
        ProfileError,
        StoreError,
        UsageError,
    )
    from edgebench.judging.comparison import Comparison, Finding, Pair
    from edgebench.judging.stats import Change
    from edgebench.modelfiles.catalogue import Model


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'edgebench' has no attribute {name!r}")
    from importlib import import_module

    home = next((module for module, names in _HOMES.items() if name in names), "edgebench.api")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
