"""Memory of the engine's process on Windows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from edgebench.core import ProbeSource, Quantity, Sample, SampleMetric
from edgebench.probes.cim import number, objects
from edgebench.probes.quantities import AVAILABLE, PEAK_RSS, RSS

_FIELDS = {
    "WorkingSet64": ("rss_b", 1),
    "PeakWorkingSet64": ("peak_rss_b", 1),
    "PrivateMemorySize64": ("private_b", 1),
    "FreePhysicalMemory": ("available_b", 1024),
}


class MemoryWindows:
    """Resident memory is the working set, whose peak Windows keeps."""

    quantities: Mapping[str, Quantity] = {
        "peak_rss_b": PEAK_RSS,
        "rss_b": RSS,
        "private_b": Quantity(
            "bytes",
            "Memory committed to the process alone, resident or not.",
            {"private_b": SampleMetric("median", "private memory", "lower")},
        ),
        "available_b": AVAILABLE,
    }
    sources: Mapping[str, Sequence[ProbeSource]] = {
        "windows": (
            ProbeSource(
                command="Get-Process -Id {pid} | Select-Object WorkingSet64,PeakWorkingSet64,PrivateMemorySize64 | "
                "ConvertTo-Json -Compress",
                interval=0.5,
            ),
            ProbeSource(
                command="Get-CimInstance Win32_OperatingSystem | Select-Object FreePhysicalMemory | "
                "ConvertTo-Json -Compress",
                interval=2,
            ),
        )
    }

    def parse(self, at: float, text: str) -> Iterable[Sample]:
        for row in objects(text):
            for field, (name, scale) in _FIELDS.items():
                if value := number(row, field):
                    yield Sample(name, value * scale, at)
