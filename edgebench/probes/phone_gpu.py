"""GPUs of phones: Adreno's kgsl, Mali's and Samsung's files if they are readable, and Android's accounting."""

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

    If the kernel's file is not readable, "GL mtrack" of ``dumpsys meminfo`` is used; the label ``how``
    names the source. Reading ``gpubusy`` resets it, so this must be its only reader.
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
        self._has_kernel_value = False

    def parse(self, at: float, text: str) -> Iterable[Sample]:
        samples = []
        mtrack_b = None
        for line in text.splitlines():
            if match := _UNMAPPED.match(line):
                self._has_kernel_value = True
                samples.append(Sample("gpu_memory_b", int(match[1]), at, {"how": "kgsl gpumem_unmapped"}))
            elif match := _MTRACK.match(line):
                mtrack_b = (mtrack_b or 0) + int(match[1]) * 1024
            elif (match := _BUSY.match(line)) and int(match[2]):
                samples.append(Sample("gpu_util", min(1.0, int(match[1]) / int(match[2])), at))
            elif (match := _PERCENT.match(line)) and int(match[2]) <= 100:
                samples.append(Sample("gpu_util", int(match[2]) / 100, at))
            elif (match := _CLOCK.match(line)) and int(match[1]):
                samples.append(Sample("gpu_clock_hz", int(match[1]), at))
            elif match := _TEMP.match(line):
                celsius = int(match[1]) / 1000 if int(match[1]) > 1000 else int(match[1])
                if 0 < celsius < 150:
                    samples.append(Sample("temp_c", celsius, at, {"of": "gpu"}))
        if total := _TOTAL.search(text):
            samples.append(Sample("pss_b", int(total[1]) * 1024, at))
        if mtrack_b is not None and not self._has_kernel_value:
            samples.append(Sample("gpu_memory_b", mtrack_b, at, {"how": "dumpsys meminfo, GL and EGL mtrack"}))
        return samples
