"""CPU time on macOS and Windows, which have no /proc."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from edgebench.core import ProbeSource, Quantity, Sample
from edgebench.probes.cim import number, objects
from edgebench.probes.quantities import CPU_CORE, CPU_ENGINE, CPU_UTIL
from edgebench.probes.tree import descendants

_ROW = re.compile(r"^ *(\d+) +(\d+) +(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+\.\d+) *$", re.MULTILINE)
# top prints hundredths without their leading zero: 32.8 is 32.08.
_TOP = re.compile(r"^CPU usage: (\d+)\.(\d+)% user, (\d+)\.(\d+)% sys, [\d.]+% idle")


class CpuElsewhere:
    """``ps`` and ``top`` on macOS; ``Get-Process`` and the CPU's performance counters on Windows."""

    quantities: Mapping[str, Quantity] = {
        "cpu_util": CPU_UTIL,
        "cpu_core_util": CPU_CORE,
        "cpu_engine": CPU_ENGINE,
    }
    sources: Mapping[str, Sequence[ProbeSource]] = {
        "macos": (
            ProbeSource(command="echo pid {pid}; ps -A -o pid=,ppid=,time=", interval=1),
            ProbeSource(command="top -l 0 -s 1 -n 0", interval=0),
        ),
        "windows": (
            ProbeSource(
                command="Get-Process -Id {pid} | Select-Object @{n='Ticks';e={$_.TotalProcessorTime.Ticks}} | "
                "ConvertTo-Json -Compress",
                interval=0.5,
            ),
            ProbeSource(
                command="Get-CimInstance Win32_PerfFormattedData_PerfOS_Processor | "
                "Select-Object Name,PercentProcessorTime | ConvertTo-Json -Compress",
                interval=1,
            ),
        ),
    }

    def __init__(self) -> None:
        self._last: tuple[float, float] | None = None
        self._frames = 0

    def parse(self, at: float, text: str) -> Iterable[Sample]:
        if match := _TOP.match(text):
            # The first frame of top is the mean since the machine started.
            self._frames += 1
            if self._frames > 1:
                user, user_100, system, system_100 = map(int, match.groups())
                yield Sample("cpu_util", (user + system + (user_100 + system_100) / 100) / 100, at)
        elif text.startswith("pid "):
            yield from self._engine(at, _macos_seconds(text))
        elif text.lstrip().startswith(("{", "[")):
            for row in objects(text):
                percent, ticks = number(row, "PercentProcessorTime"), number(row, "Ticks")
                name = str(row.get("Name", ""))
                if percent is not None and 0 <= percent <= 100 and name == "_Total":
                    yield Sample("cpu_util", percent / 100, at)
                elif percent is not None and 0 <= percent <= 100 and name.isdigit():
                    yield Sample("cpu_core_util", percent / 100, at, {"core": name})
                if ticks is not None:
                    yield from self._engine(at, ticks * 1e-7)

    def _engine(self, at: float, seconds: float | None) -> Iterable[Sample]:
        previous = self._last
        if seconds is None:
            return
        self._last = at, seconds
        if previous and at > previous[0] and seconds >= previous[1]:
            yield Sample("cpu_engine", (seconds - previous[1]) / (at - previous[0]), at)


def _macos_seconds(text: str) -> float | None:
    """CPU time of the process tree: ``0:01.23``, ``1:02:03.45`` or with days before a dash."""
    parents: dict[int, int] = {}
    seconds_by_pid: dict[int, float] = {}
    for pid, parent, days, hours, minutes, seconds in _ROW.findall(text):
        parents[int(pid)] = int(parent)
        whole_minutes = (int(days or 0) * 24 + int(hours or 0)) * 60 + int(minutes)
        seconds_by_pid[int(pid)] = whole_minutes * 60 + float(seconds)
    root = re.match(r"pid (\d+)", text)
    tree = descendants(int(root[1]), parents) if root else set()
    return sum(seconds_by_pid[pid] for pid in tree) if tree else None
