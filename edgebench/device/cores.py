"""The cores of a device: which are big, which share one core, and how many threads are worth a try."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edgebench.core import DeviceSession, Option
from edgebench.errors import Unreadable
from edgebench.systems.linux import SAME_CLUSTER

_SYS = "/sys/devices/system/cpu/cpu[0-9]*"
_COMMAND = (
    f"grep -sH . {_SYS}/topology/core_id {_SYS}/topology/physical_package_id {_SYS}/cpufreq/cpuinfo_max_freq "
    f"{_SYS}/cpu_capacity; true"
)
_LINE = re.compile(
    r"^/sys/devices/system/cpu/cpu(\d+)/(?:topology/|cpufreq/)?"
    r"(core_id|physical_package_id|cpuinfo_max_freq|cpu_capacity):(-?\d+)$",
    re.MULTILINE,
)
SMALL = 8
"""Up to so many processors every number of threads is tried."""


@dataclass(frozen=True)
class Cpu:
    """One processor as the system counts them."""

    index: int
    core: tuple[int, int]
    """(package, core): processors that share it are SMT siblings."""
    speed: float
    """Highest clock in kHz, or the kernel's relative capacity; 0 where unknown."""


@dataclass(frozen=True)
class Cores:
    """All processors of a device, the ones to use first in front."""

    order: tuple[Cpu, ...]
    clusters: tuple[int, ...]
    """Physical cores of each cluster, the fastest first."""

    @property
    def physical(self) -> int:
        return sum(self.clusters)

    def candidates(self) -> list[int]:
        """Numbers of threads worth a try: the ends of clusters, of the physical cores and of all
        processors with their neighbours (that is where cliffs are), powers of two, all of a few."""
        count = len(self.order)
        if count <= SMALL:
            return list(range(1, count + 1))
        ends = [sum(self.clusters[: index + 1]) for index in range(len(self.clusters))]
        near = {end + step for end in [*ends, count] for step in (-1, 0, 1)}
        powers = {2**power for power in range(count.bit_length())}
        return sorted(number for number in near | powers | {6} if 1 <= number <= count)

    def affinity(self, threads: int) -> str:
        """The best processors for so many threads, as ``0-3,8``."""
        return listed(cpu.index for cpu in self.order[:threads])


def read(session: DeviceSession) -> Cores | None:
    """Ask a device; None where it doesn't tell (macOS, Windows, Termux)."""
    if session.device.system not in ("linux", "android", "termux"):
        return None
    return parse(session.run(_COMMAND, timeout=20).stdout)


def parse(text: str) -> Cores | None:
    """From ``path:value`` lines; None where no processor is named."""
    rows: dict[int, dict[str, int]] = {}
    for index, name, value in _LINE.findall(text):
        rows.setdefault(int(index), {})[name] = int(value)
    cpus = [
        Cpu(
            index,
            (row.get("physical_package_id", 0), row.get("core_id", index)),
            float(row.get("cpuinfo_max_freq") or row.get("cpu_capacity") or 0),
        )
        for index, row in sorted(rows.items())
    ]
    if not cpus:
        return None
    first_of: dict[tuple[int, int], Cpu] = {}
    for cpu in cpus:
        first_of.setdefault(cpu.core, cpu)
    firsts = sorted(first_of.values(), key=lambda cpu: (-cpu.speed, cpu.index))
    groups: list[list[Cpu]] = []
    for cpu in firsts:
        if groups and cpu.speed >= SAME_CLUSTER * groups[-1][0].speed:
            groups[-1].append(cpu)
        else:
            groups.append([cpu])
    physical = [cpu for group in groups for cpu in sorted(group, key=lambda cpu: cpu.index)]
    siblings = [cpu for cpu in cpus if cpu not in physical]
    return Cores((*physical, *siblings), tuple(len(group) for group in groups))


def listed(indexes: Iterable[int]) -> str:
    """``0-3,8`` of numbers in any order."""
    parts: list[list[int]] = []
    for number in sorted(set(indexes)):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ",".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def numbers(text: str) -> set[int]:
    """The numbers of ``0-3,8``. Raises ``Unreadable``."""
    found: set[int] = set()
    for part in text.strip().split(","):
        ends = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if not ends:
            raise Unreadable(f"{text!r} is not a list of CPUs")
        found.update(range(int(ends[1]), int(ends[2] or ends[1]) + 1))
    return found


def mask(text: str) -> str:
    """``0-3,8`` as the hexadecimal mask that ``taskset`` of util-linux and of toybox take."""
    return f"{sum(1 << number for number in numbers(text)):x}"


def allowed(session: DeviceSession, pid: int) -> set[str]:
    """On which processors the threads of a process may run, as the kernel says it; empty where unknown."""
    said = session.run(f"grep -hs ^Cpus_allowed_list: /proc/{pid}/task/*/status; true", timeout=20)
    return {line.partition(":")[2].strip() for line in said.stdout.splitlines() if ":" in line}


def pinned(options: Mapping[str, Option], cores: Cores) -> dict[str, Option]:
    """Options of a trial with the processors for its number of threads."""
    threads = options.get("threads")
    return {**options, "affinity": cores.affinity(threads)} if isinstance(threads, int) else dict(options)
