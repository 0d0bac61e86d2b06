"""The cores of a device: clusters, SMT siblings, and thread counts to try."""

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
EXHAUSTIVE_CPU_COUNT = 8
"""Up to this number of CPUs every thread count is a candidate."""


@dataclass(frozen=True)
class Cpu:
    """One logical CPU."""

    index: int
    core: tuple[int, int]
    """(package, core): CPUs that share it are SMT siblings."""
    speed: float
    """Maximum clock in kHz, or the kernel's relative capacity; 0 if unknown."""


@dataclass(frozen=True)
class Cores:
    """All CPUs of a device, in the order in which threads should use them."""

    order: tuple[Cpu, ...]
    clusters: tuple[int, ...]
    """Physical cores of each cluster, the fastest first."""

    @property
    def physical(self) -> int:
        return sum(self.clusters)

    def candidates(self) -> list[int]:
        """Thread counts to try: the sizes of clusters, of all physical cores and of all CPUs, each ± 1
        (performance changes there), and powers of two; on small devices every count."""
        count = len(self.order)
        if count <= EXHAUSTIVE_CPU_COUNT:
            return list(range(1, count + 1))
        ends = [sum(self.clusters[: index + 1]) for index in range(len(self.clusters))]
        boundaries = {end + step for end in [*ends, count] for step in (-1, 0, 1)}
        powers = {2**power for power in range(count.bit_length())}
        return sorted(number for number in boundaries | powers | {6} if 1 <= number <= count)

    def affinity(self, threads: int) -> str:
        """The preferred CPUs for a number of threads, as ``0-3,8``."""
        return format_cpus(cpu.index for cpu in self.order[:threads])


def query_cores(session: DeviceSession) -> Cores | None:
    """Query a device; None if it does not report its cores (macOS, Windows, some Termux)."""
    if session.device.system not in ("linux", "android", "termux"):
        return None
    return parse_cores(session.run(_COMMAND, timeout=20).stdout)


def parse_cores(text: str) -> Cores | None:
    """Parse ``path:value`` lines; None if they have no CPU."""
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
    by_core: dict[tuple[int, int], Cpu] = {}
    for cpu in cpus:
        by_core.setdefault(cpu.core, cpu)
    physical_cpus = sorted(by_core.values(), key=lambda cpu: (-cpu.speed, cpu.index))
    clusters: list[list[Cpu]] = []
    for cpu in physical_cpus:
        if clusters and cpu.speed >= SAME_CLUSTER * clusters[-1][0].speed:
            clusters[-1].append(cpu)
        else:
            clusters.append([cpu])
    ordered = [cpu for cluster in clusters for cpu in sorted(cluster, key=lambda cpu: cpu.index)]
    siblings = [cpu for cpu in cpus if cpu not in ordered]
    return Cores((*ordered, *siblings), tuple(len(cluster) for cluster in clusters))


def format_cpus(indexes: Iterable[int]) -> str:
    """CPU indexes in any order as ``0-3,8``."""
    parts: list[list[int]] = []
    for number in sorted(set(indexes)):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ",".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def parse_cpus(text: str) -> set[int]:
    """The CPU indexes of ``0-3,8``. Raises ``Unreadable``."""
    indexes: set[int] = set()
    for part in text.strip().split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if not match:
            raise Unreadable(f"{text!r} is not a list of CPUs")
        indexes.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return indexes


def affinity_mask(text: str) -> str:
    """``0-3,8`` as the hexadecimal mask that ``taskset`` of util-linux and of toybox take."""
    return f"{sum(1 << number for number in parse_cpus(text)):x}"


def query_affinity(session: DeviceSession, pid: int) -> set[str]:
    """The CPUs on which threads of a process may run, in the kernel's notation; empty if unknown."""
    output = session.run(f"grep -hs ^Cpus_allowed_list: /proc/{pid}/task/*/status; true", timeout=20)
    return {line.partition(":")[2].strip() for line in output.stdout.splitlines() if ":" in line}


def with_affinity(options: Mapping[str, Option], cores: Cores) -> dict[str, Option]:
    """Options of a trial with the affinity for its number of threads."""
    threads = options.get("threads")
    return {**options, "affinity": cores.affinity(threads)} if isinstance(threads, int) else dict(options)
