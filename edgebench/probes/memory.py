"""Memory of the engine's process tree by type, and the machine's available memory (Linux, Android)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from edgebench.core import ProbeSource, Quantity, Sample, SampleMetric
from edgebench.probes.quantities import AVAILABLE, PEAK_RSS, RSS

_FIELDS = {
    "VmHWM": "peak_rss_b",
    "VmRSS": "rss_b",
    "RssAnon": "rss_anon_b",
    "RssFile": "rss_file_b",
    "RssShmem": "rss_shmem_b",
    "VmSwap": "swap_b",
}
_LINE = re.compile(r"^/proc/(\d+)/status:(\w+):\s+(\d+) kB$")
_AVAILABLE = re.compile(r"^/proc/meminfo:MemAvailable:\s+(\d+) kB$")
_TRAFFIC = re.compile(r"^/proc/vmstat:pswp(in|out) (\d+)$")
_LINUX = (
    ProbeSource(files=("/proc/{pid}/status",), lines=("VmHWM:", "VmRSS:", "VmSwap:", "Rss")),
    ProbeSource(files=("/proc/meminfo", "/proc/vmstat"), lines=("MemAvailable:", "pswp"), interval=2),
    ProbeSource(command="getconf PAGESIZE", interval=0),
)


class Memory:
    """``/proc/PID/status`` of the process and its descendants, summed at each tick."""

    quantities: Mapping[str, Quantity] = {
        "peak_rss_b": PEAK_RSS,
        "rss_b": RSS,
        "rss_anon_b": Quantity(
            "bytes",
            "Anonymous part of resident memory (RssAnon).",
            {
                "peak_anon_b": SampleMetric("max", "peak anonymous memory", "lower"),
                "steady_anon_b": SampleMetric("median", "anonymous memory, steady state", "lower"),
            },
        ),
        "rss_file_b": Quantity(
            "bytes",
            "File-backed part of resident memory, such as mapped weights (RssFile).",
            {
                "peak_file_b": SampleMetric("max", "peak file memory", "lower"),
                "steady_file_b": SampleMetric("median", "file memory, steady state", "lower"),
            },
        ),
        "rss_shmem_b": Quantity(
            "bytes",
            "Shared-memory part of resident memory (RssShmem).",
            {"steady_shmem_b": SampleMetric("median", "shared memory, steady state", "lower")},
        ),
        "swap_b": Quantity(
            "bytes",
            "Swapped-out memory of the process tree (VmSwap); not part of resident memory.",
            {"peak_swap_b": SampleMetric("max", "peak swap", "lower")},
        ),
        "available_b": AVAILABLE,
        "swap_in_b": Quantity(
            "bytes",
            "Data read from swap by the whole machine.",
            {"swap_in_b": SampleMetric("sum", "swap-in", "lower")},
        ),
        "swap_out_b": Quantity(
            "bytes",
            "Data written to swap by the whole machine.",
            {"swap_out_b": SampleMetric("sum", "swap-out", "lower")},
        ),
    }
    sources: Mapping[str, Sequence[ProbeSource]] = dict.fromkeys(("linux", "android", "termux"), _LINUX)

    def __init__(self) -> None:
        self._page_size_b: int | None = None
        self._swapped_pages: dict[str, int] = {}

    def parse(self, at: float, text: str) -> Iterable[Sample]:
        if text.strip().isdigit():
            self._page_size_b = int(text)
            return []
        sums: defaultdict[str, int] = defaultdict(int)
        processes: defaultdict[str, dict[str, int]] = defaultdict(dict)
        for line in text.splitlines():
            if (match := _LINE.match(line)) and match[2] in _FIELDS:
                processes[match[1]][_FIELDS[match[2]]] = int(match[3]) * 1024
            elif match := _AVAILABLE.match(line):
                sums["available_b"] = int(match[1]) * 1024
            elif (match := _TRAFFIC.match(line)) and self._page_size_b:
                name, pages = f"swap_{match[1]}_b", int(match[2])
                if name in self._swapped_pages:
                    sums[name] = max(0, pages - self._swapped_pages[name]) * self._page_size_b
                self._swapped_pages[name] = pages
        for process in processes.values():
            current_b = process.get("rss_b", 0) + process.get("swap_b", 0)
            if "peak_rss_b" in process:
                process["peak_rss_b"] = max(process["peak_rss_b"], current_b)
            for name, value in process.items():
                sums[name] += value
        return [Sample(name, value, at) for name, value in sums.items()]
