"""NVIDIA GPUs by ``nvidia-smi``, which streams, since starting it costs more than all its samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from edgebench.core import ProbeSource, Quantity, Sample, SampleMetric
from edgebench.errors import Unreadable
from edgebench.probes.quantities import GPU_CLOCK, GPU_MEMORY, GPU_USED, GPU_UTIL, POWER, TEMPERATURE, THROTTLED

_FIELDS = "index,utilization.gpu,memory.used,power.draw,temperature.gpu,clocks.sm"
_FORMAT = "--format=csv,noheader,nounits"
# Drivers before 535 call the reasons "throttle"; an unknown field ends nvidia-smi at once.
_DEVICE = (
    f"nvidia-smi --query-gpu={_FIELDS},clocks_event_reasons.active {_FORMAT} --loop-ms=500 || "
    f"nvidia-smi --query-gpu={_FIELDS},clocks_throttle_reasons.active {_FORMAT} --loop-ms=500"
)
_APPS = f"nvidia-smi --query-compute-apps=pid,gpu_uuid,used_memory {_FORMAT}"
_DEVICE_ONCE = f"nvidia-smi --query-gpu={_FIELDS},clocks_throttle_reasons.active {_FORMAT}"

THROTTLE_REASONS = {
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}
"""Bits of NVML's nvmlClocksThrottleReasons that count as throttling. The others (idle, application
clocks, synchronised boost, and the power cap, which is normal at full load) do not."""
_POWER_CAP = 0x04


class Nvidia:
    """Memory of the engine's process, use, clocks, power, temperature and throttling of each GPU.

    Under Windows' WDDM the driver does not report a process's memory (``[N/A]``); the growth of the GPU's
    memory in use since sampling started is used instead, and the label ``how`` says so.
    """

    quantities: Mapping[str, Quantity] = {
        "gpu_memory_b": GPU_MEMORY,
        "gpu_used_b": GPU_USED,
        "gpu_util": GPU_UTIL,
        "gpu_clock_hz": GPU_CLOCK,
        "gpu_power_capped": Quantity(
            "ratio",
            "1 while a GPU is at its power limit.",
            {"gpu_power_capped": SampleMetric("mean", "GPU at power limit")},
        ),
        "power_w": POWER,
        "temp_c": TEMPERATURE,
        "throttled": THROTTLED,
    }
    sources: Mapping[str, Sequence[ProbeSource]] = {
        "linux": (
            ProbeSource(command=_DEVICE, interval=0),
            ProbeSource(command=f"echo pid {{pid}}; {_APPS} --loop-ms=1000", interval=0),
        ),
        "windows": (
            ProbeSource(command=_DEVICE_ONCE, interval=2),
            ProbeSource(command=f"'pid {{pid}}'; {_APPS}", interval=2),
        ),
    }

    def __init__(self) -> None:
        self._pid = ""
        self._memory_unavailable = False
        self._initial_mib: dict[str, float] = {}

    def parse(self, at: float, text: str) -> Iterable[Sample]:
        samples: list[Sample] = []
        for line in text.splitlines():
            parts = [part.strip() for part in line.split(",")]
            if len(parts) == 7 and parts[0].isdigit():
                samples += self._device(at, parts)
            elif len(parts) == 3 and parts[1].startswith("GPU-"):
                samples += self._process(at, parts)
            elif line.startswith("pid "):
                self._pid = line[4:].strip()
            elif line.strip() and "is not a valid field" not in line:
                raise Unreadable(line.strip()[:200])
        return samples

    def _process(self, at: float, parts: Sequence[str]) -> Iterable[Sample]:
        if parts[0] != self._pid:
            return
        used_mib = _number(parts[2])
        self._memory_unavailable = used_mib is None
        if used_mib is not None:
            yield Sample("gpu_memory_b", used_mib * 2**20, at, {"gpu": parts[1]})

    def _device(self, at: float, parts: Sequence[str]) -> Iterable[Sample]:
        gpu = parts[0]
        util, used_mib, power, temperature, clock = (_number(part) for part in parts[1:6])
        if util is not None and util <= 100:
            yield Sample("gpu_util", util / 100, at, {"gpu": gpu})
        if used_mib is not None:
            yield Sample("gpu_used_b", used_mib * 2**20, at, {"gpu": gpu})
            growth_mib = used_mib - self._initial_mib.setdefault(gpu, used_mib)
            if self._memory_unavailable:
                how = "growth of the memory in use on the whole GPU"
                yield Sample("gpu_memory_b", max(0.0, growth_mib) * 2**20, at, {"gpu": gpu, "how": how})
        if power is not None and 0 < power < 3000:
            yield Sample("power_w", power, at, {"of": f"gpu {gpu}"})
        if temperature is not None and 0 < temperature < 150:
            yield Sample("temp_c", temperature, at, {"of": f"gpu {gpu}"})
        if clock is not None:
            yield Sample("gpu_clock_hz", clock * 1e6, at, {"gpu": gpu})
        if parts[6].startswith("0x"):
            mask = int(parts[6], 16)
            yield Sample("gpu_power_capped", float(bool(mask & _POWER_CAP)), at, {"gpu": gpu})
            for bit, reason in THROTTLE_REASONS.items():
                yield Sample("throttled", float(bool(mask & bit)), at, {"by": f"gpu {gpu}: {reason}"})


def _number(text: str) -> float | None:
    """None for ``[N/A]``, ``[Not Supported]``, ``[Unknown Error]`` and the like."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value >= 0 else None
