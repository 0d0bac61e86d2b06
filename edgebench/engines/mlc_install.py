"""What a profile may say of MLC-LLM, and what to install from where: it is on no package registry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgebench.core import Opened


@dataclass(frozen=True)
class Settings:
    """What a profile may say of it."""

    python: str | None = None
    """The Python in which ``mlc_llm`` is installed; ``python3`` (Windows: ``python``) where absent."""
    model_lib: str | None = None
    """A model library compiled beforehand; where absent the engine compiles one and keeps it."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Environment of the engine's process only, such as ``MLC_LLM_HOME``."""


WHEELS = "https://mlc.ai/wheels"
GUIDE = "https://llm.mlc.ai/docs/install/mlc_llm.html"
APP = "https://llm.mlc.ai/docs/deploy/android.html"

BUILDS = ("cpu", "cu128", "cu130", "rocm61", "rocm62")
"""Of the project's nightly wheels; a Mac's cpu wheel holds Metal, every build but the Mac's Vulkan."""


def how(device: Opened) -> str:
    """One sentence or two for this device: the commands to type there."""
    return advice(device.device.system, str(device.device.defaults.get("backend", "")))


def advice(system: str, backend: str = "") -> str:
    """The same for a system by its name, and the backend that is wanted."""
    if system == "android":
        return (
            f"Android has no mlc_llm: install the MLCChat app (build it with your models, or take the APK from {APP}), "
            "start it once, then run again."
        )
    python = "python" if system == "windows" else "python3"
    wheel = {"cuda": "cu128", "rocm": "rocm62"}.get(backend, "cpu") if system != "macos" else "cpu"
    also = " (cu130 for CUDA 13)" if wheel == "cu128" else ""
    return (
        f"MLC-LLM is on no package registry. On the device: `{python} -m pip install --pre -U -f {WHEELS} "
        f"mlc-llm-nightly-{wheel} mlc-ai-nightly-{wheel}`{also}, in a virtual environment whose Python the profile "
        f"names (engines: {{mlc-llm: {{python: PATH}}}}). All builds: {GUIDE}"
    )
