"""GPU memory and utilisation of the engine's process on Windows, for all vendors, from performance counters."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from edgebench.core import ProbeSource, Quantity, Sample
from edgebench.probes.cim import number, objects
from edgebench.probes.quantities import GPU_MEMORY, GPU_SHARED, GPU_UTIL

_CLASS = "Get-CimInstance Win32_PerfFormattedData_GPUPerformanceCounters_"
_QUERY = (
    _CLASS + "{name} -Filter \"Name LIKE 'pid[_]{{pid}}[_]%'\" | Select-Object Name,{fields} | ConvertTo-Json -Compress"
)
_NAME = re.compile(r"^pid_\d+_luid_(\w+?)_phys_(\d+)(?:_eng_\d+_engtype_(.*))?$", re.IGNORECASE)


class WindowsGpu:
    """Dedicated memory counts as the engine's GPU memory; shared memory is a separate quantity."""

    quantities: Mapping[str, Quantity] = {
        "gpu_memory_b": GPU_MEMORY,
        "gpu_shared_b": GPU_SHARED,
        "gpu_util": GPU_UTIL,
    }
    sources: Mapping[str, Sequence[ProbeSource]] = {
        "windows": (
            ProbeSource(
                command=_QUERY.format(name="GPUProcessMemory", fields="DedicatedUsage,SharedUsage"), interval=1
            ),
            ProbeSource(command=_QUERY.format(name="GPUEngine", fields="UtilizationPercentage"), interval=1),
        )
    }

    def parse(self, at: float, text: str) -> Iterable[Sample]:
        busy: defaultdict[str, float] = defaultdict(float)
        for row in objects(text):
            match = _NAME.match(str(row.get("Name", "")))
            if not match:
                continue
            gpu = {"gpu": f"{match[1]} {match[2]}"}
            dedicated, shared = number(row, "DedicatedUsage"), number(row, "SharedUsage")
            percent = number(row, "UtilizationPercentage")
            if dedicated is not None:
                yield Sample("gpu_memory_b", dedicated, at, gpu)
            if shared is not None:
                yield Sample("gpu_shared_b", shared, at, gpu)
            if percent is not None:
                busy[match[3] or ""] += percent / 100
        for engine, share in busy.items():
            yield Sample("gpu_util", min(1.0, share), at, {"engine": engine})
