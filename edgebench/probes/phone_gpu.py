"""GPUs of phones: Adreno's kgsl, Mali's and Samsung's files where the device shows them, and Android's account."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from edgebench.core import ProbeSource, Quantity, Sample, SampleMetric
from edgebench.probes.quantities import GPU_CLOCK, GPU_MEMORY, GPU_UTIL, TEMPERATURE

_KGSL = "/sys/class/kgsl/kgsl-3d0"
_FILES = (
    ProbeSource(files=("/sys/class/kgsl/kgsl/proc/{pid}/gpumem_unmapped",), interval=0.5),
    ProbeSource(
        files=(
            f"{_KGSL}/gpubusy",
            f"{_KGSL}/gpuclk",
            f"{_KGSL}/temp",
            "/sys/kernel/gpu/gpu_busy",
            "/sys/class/misc/mali0/device/utilization",
            "/sys/class/devfreq/*mali*/cur_freq",
        ),
        interval=1,
    ),
)
_UNMAPPED = re.compile(r"^/sys/class/kgsl/kgsl/proc/\d+/gpumem_unmapped:(\d+)$")
_BUSY = re.compile(r"^/sys/class/kgsl/kgsl-3d0/gpubusy:\s*(\d+)\s+(\d+)$")
_PERCENT = re.compile(r"^(/sys/kernel/gpu/gpu_busy|/sys/class/misc/mali0/device/utilization):\s*(\d+)\s*%?$")
_CLOCK = re.compile(r"^/sys/class/(?:kgsl/kgsl-3d0/gpuclk|devfreq/[^:/]*/cur_freq):(\d+)$")
_TEMP = re.compile(r"^/sys/class/kgsl/kgsl-3d0/temp:(\d+)$")
_MTRACK = re.compile(r"^\s*(?:GL|EGL) mtrack\s+(\d+)")
_TOTAL = re.compile(r"^\s*TOTAL\s+(\d+)", re.M)


class PhoneGpu:
    """Adreno's memory outside of the process's resident memory, use, clock and temperature.

    Where the kernel's file is forbidden, ``dumpsys meminfo`` tells "GL mtrack"; the label ``how``
    says which. Reading ``gpubusy`` resets it, so this is its only reader.
    """

    quantities: Mapping[str, Quantity] = {
        "gpu_memory_b": GPU_MEMORY,
        "pss_b": Quantity(
            "bytes",
            "Android's own account of the process (`dumpsys meminfo`): a page that others hold too counts in part, and "
            "what it tracks of the GPU's memory counts.",
            {"peak_pss_b": SampleMetric("max", "peak PSS", "lower")},
        ),
        "gpu_util": GPU_UTIL,
        "gpu_clock_hz": GPU_CLOCK,
        "temp_c": TEMPERATURE,
    }
    sources: Mapping[str, Sequence[ProbeSource]] = {
        "android": (*_FILES, ProbeSource(command="dumpsys meminfo {pid} | grep -E 'mtrack|TOTAL'", interval=10)),
        "termux": _FILES,
    }

    def __init__(self) -> None:
        self._kernel_tells = False

    def parse(self, at: float, text: str) -> Iterable[Sample]:
        samples = []
        tracked = None
        for line in text.splitlines():
            if found := _UNMAPPED.match(line):
                self._kernel_tells = True
                samples.append(Sample("gpu_memory_b", int(found[1]), at, {"how": "kgsl gpumem_unmapped"}))
            elif found := _MTRACK.match(line):
                tracked = (tracked or 0) + int(found[1]) * 1024
            elif (found := _BUSY.match(line)) and int(found[2]):
                samples.append(Sample("gpu_util", min(1.0, int(found[1]) / int(found[2])), at))
            elif (found := _PERCENT.match(line)) and int(found[2]) <= 100:
                samples.append(Sample("gpu_util", int(found[2]) / 100, at))
            elif (found := _CLOCK.match(line)) and int(found[1]):
                samples.append(Sample("gpu_clock_hz", int(found[1]), at))
            elif found := _TEMP.match(line):
                celsius = int(found[1]) / 1000 if int(found[1]) > 1000 else int(found[1])
                if 0 < celsius < 150:
                    samples.append(Sample("temp_c", celsius, at, {"of": "gpu"}))
        if total := _TOTAL.search(text):
            samples.append(Sample("pss_b", int(total[1]) * 1024, at))
        if tracked is not None and not self._kernel_tells:
            samples.append(Sample("gpu_memory_b", tracked, at, {"how": "dumpsys meminfo, GL and EGL mtrack"}))
        return samples
