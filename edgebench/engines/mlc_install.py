"""What a profile may say of MLC-LLM, and what to install from where: it is on no package registry."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from edgebench.core import DeviceSession
from edgebench.errors import TimedOut


@dataclass(frozen=True)
class Settings:
    """What a profile may say of it."""

    python: str | None = None
    """The Python in which ``mlc_llm`` is installed; ``python3`` (Windows: ``python``) where absent."""
    model_lib: str | None = None
    """A model library compiled beforehand; where absent the engine compiles one and keeps it."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Environment of the engine's process only, such as ``MLC_LLM_HOME``."""


FORMATS = ("mlc",)
BACKENDS = ("cpu", "cuda", "metal", "vulkan", "opencl", "rocm")

KEY_VARIABLE = "EDGEBENCH_ENGINE_KEY"

WHEELS = "https://mlc.ai/wheels"
GUIDE = "https://llm.mlc.ai/docs/install/mlc_llm.html"
APP = "https://llm.mlc.ai/docs/deploy/android.html"

BUILDS = ("cpu", "cu128", "cu130", "rocm61", "rocm62")
"""Of the project's nightly wheels; a Mac's cpu wheel holds Metal, every build but the Mac's Vulkan."""


COMPILERS = {
    "linux": "gcc or clang (for Vulkan also its loader, libvulkan1)",
    "macos": "Xcode's command line tools (`xcode-select --install`)",
    "windows": "clang (`conda install -c conda-forge clang libvulkan-loader`)",
}
"""What TVM links a model's library with (tvm/support/cc.py), and what its GPU backend takes from the system."""


GPUS = "nvidia-smi 2>/dev/null; echo rocm $(cat /opt/rocm/.info/version 2>/dev/null)"
"""What a Linux machine says of its driver: ``CUDA Version: 13.0``, ``rocm 6.2.4``."""


def how(device: DeviceSession) -> str:
    """One sentence or two for this device: the commands to type there."""
    system = device.device.system
    if system != "linux":
        return advice(system)
    try:
        return advice(system, wheel(device.run(GPUS, timeout=30).stdout))
    except TimedOut:
        return advice(system)


def wheel(told: str) -> str:
    """The build for a machine that answers ``GPUS`` so; ``cpu``, which holds Vulkan, where none fits."""
    cuda, rocm = re.search(r"CUDA Version: (\d+)\.(\d+)", told), re.search(r"rocm 6\.([12])\b", told)
    if cuda and (int(cuda[1]), int(cuda[2])) >= (12, 8):
        return "cu130" if int(cuda[1]) >= 13 else "cu128"
    return f"rocm6{rocm[1]}" if rocm else "cpu"


def advice(system: str, build: str = "cpu") -> str:
    """The same for a system by its name and one of ``BUILDS``."""
    if system in ("android", "termux"):
        over = "" if system == "android" else ", and reach the phone over ADB"
        return (
            "Android has no mlc_llm. Install the MLCChat app (build it with your models, or take the APK that "
            f"{APP} links to, of September 2024: it knows the models of its list only), start it once{over}, "
            "then run again."
        )
    python = "python" if system == "windows" else "python3"
    return (
        f"MLC-LLM is on no package registry. On the device: `{python} -m pip install --pre -U -f {WHEELS} "
        f"mlc-llm-nightly-{build} mlc-ai-nightly-{build}`, in a virtual environment whose Python the profile names "
        f"(engines: {{mlc-llm: {{python: PATH}}}}). It compiles models there, with {COMPILERS[system]}. "
        f"All builds: {GUIDE}"
    )
