"""MLC-LLM's profile section and installation hints: it is not on any package registry."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from edgebench.core import DeviceSession
from edgebench.errors import TimedOut


@dataclass(frozen=True)
class MlcConfig:
    """The engine's section of a device profile."""

    python: str | None = None
    """The Python in which ``mlc_llm`` is installed; default: ``python3`` (Windows: ``python``)."""
    model_lib: str | None = None
    """A precompiled model library; by default the engine compiles and caches one."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Environment of the engine's process only, such as ``MLC_LLM_HOME``."""


FORMATS = ("mlc",)
BACKENDS = ("cpu", "cuda", "metal", "vulkan", "opencl", "rocm")

KEY_VARIABLE = "EDGEBENCH_ENGINE_KEY"

WHEELS = "https://mlc.ai/wheels"
GUIDE = "https://llm.mlc.ai/docs/install/mlc_llm.html"
APP_GUIDE = "https://llm.mlc.ai/docs/deploy/android.html"

BUILDS = ("cpu", "cu128", "cu130", "rocm61", "rocm62")
"""Builds of the nightly wheels; the cpu wheel for macOS includes Metal, all others include Vulkan."""


COMPILERS = {
    "linux": "gcc or clang (for Vulkan also its loader, libvulkan1)",
    "macos": "Xcode's command line tools (`xcode-select --install`)",
    "windows": "clang (`conda install -c conda-forge clang libvulkan-loader`)",
}
"""Compiler that TVM links a model library with (tvm/support/cc.py), and system libraries of its GPU backend."""


GPU_QUERY = "nvidia-smi 2>/dev/null; echo rocm $(cat /opt/rocm/.info/version 2>/dev/null)"
"""Command that prints the GPU driver of a Linux machine: ``CUDA Version: 13.0``, ``rocm 6.2.4``."""


def install_hint(device: DeviceSession) -> str:
    """How to install MLC-LLM on this device: the commands to type there."""
    system = device.device.system
    if system != "linux":
        return install_hint_for(system)
    try:
        return install_hint_for(system, wheel_build(device.run(GPU_QUERY, timeout=30).stdout))
    except TimedOut:
        return install_hint_for(system)


def wheel_build(output: str) -> str:
    """The build for this output of ``GPU_QUERY``; ``cpu``, which includes Vulkan, if no other fits."""
    cuda, rocm = re.search(r"CUDA Version: (\d+)\.(\d+)", output), re.search(r"rocm 6\.([12])\b", output)
    if cuda and (int(cuda[1]), int(cuda[2])) >= (12, 8):
        return "cu130" if int(cuda[1]) >= 13 else "cu128"
    return f"rocm6{rocm[1]}" if rocm else "cpu"


def install_hint_for(system: str, build: str = "cpu") -> str:
    """How to install MLC-LLM on a system (``linux``, ``macos`` …), with one of ``BUILDS``."""
    if system in ("android", "termux"):
        adb_hint = "" if system == "android" else ", and reach the phone over ADB"
        return (
            "Android has no mlc_llm. Install the MLCChat app (build it with your models, or take the APK that "
            f"{APP_GUIDE} links to, of September 2024, which supports only the models of its list), "
            f"start it once{adb_hint}, "
            "then run again."
        )
    python = "python" if system == "windows" else "python3"
    return (
        f"MLC-LLM is not on any package registry. On the device: `{python} -m pip install --pre -U -f {WHEELS} "
        f"mlc-llm-nightly-{build} mlc-ai-nightly-{build}`, in a virtual environment whose Python the profile names "
        f"(engines: {{mlc-llm: {{python: PATH}}}}). It compiles models there, with {COMPILERS[system]}. "
        f"All builds: {GUIDE}"
    )
