"""edgebench measures how large language models run on the devices people own.

The public surface is ``__all__``; it is imported where it is used, so that ``import edgebench`` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgebench.version import __version__

__all__ = [
    "Device",
    "EdgebenchError",
    "ModelFile",
    "Record",
    "Results",
    "RunInterrupted",
    "__version__",
    "compare",
    "devices",
    "load",
    "models",
    "run",
    "speculative",
]

_HOMES = {
    "Device": "edgebench.core",
    "EdgebenchError": "edgebench.errors",
    "ModelFile": "edgebench.core",
    "Record": "edgebench.core",
}
"""Where a public name lives; all others in ``edgebench.api``."""

if TYPE_CHECKING:
    from edgebench.api import Results, RunInterrupted, compare, devices, load, models, run, speculative
    from edgebench.core import Device, ModelFile, Record
    from edgebench.errors import EdgebenchError


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'edgebench' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES.get(name, "edgebench.api")), name)


def __dir__() -> list[str]:
    return sorted(__all__)
