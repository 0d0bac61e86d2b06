"""GPUs of Macs, from the I/O registry: no root needed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from edgebench.core import ProbeSource, Quantity, Sample
from edgebench.probes.quantities import GPU_USED, GPU_UTIL

_STATISTICS = re.compile(r'"PerformanceStatistics" = \{([^}]*)\}')
_ENTRY = re.compile(r'"([^"]+)"=(\d+)')


class AppleGpu:
    """Utilisation, and GPU memory of all processes.

    Memory is shared with the CPU on these GPUs; the engine's part is already in its physical footprint
    and is not added to it.
    """

    quantities: Mapping[str, Quantity] = {"gpu_util": GPU_UTIL, "gpu_used_b": GPU_USED}
    sources: Mapping[str, Sequence[ProbeSource]] = {
        "macos": (ProbeSource(command="ioreg -r -d 1 -w 0 -c IOAccelerator", interval=1),)
    }

    def parse(self, at: float, text: str) -> Iterable[Sample]:
        for index, block in enumerate(_STATISTICS.findall(text)):
            entries = {name: int(value) for name, value in _ENTRY.findall(block)}
            busy = entries.get("Device Utilization %", entries.get("GPU Activity(%)"))
            used_b = entries.get("In use system memory", entries.get("vramUsedBytes"))
            if busy is not None and busy <= 100:
                yield Sample("gpu_util", busy / 100, at, {"gpu": str(index)})
            if used_b is not None:
                yield Sample("gpu_used_b", used_b, at, {"gpu": str(index)})
