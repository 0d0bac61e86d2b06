"""Processor time: the machine's, the engine's, what a hypervisor took and what others used."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from string import digits

from edgebench.core import ProbeSource, Quantity, Sample, SampleMetric
from edgebench.probes.quantities import CPU_CORE, CPU_ENGINE, CPU_UTIL

TICK_S = 0.01
"""USER_HZ is 100 on every architecture that Linux runs on today."""
CORES_S = 2.0
"""Seconds between two readings of single cores: a server has many."""
_STAT = re.compile(r"^/proc/(\d+)/stat:\d+ \(.*\) \S (.+)$")
_CPU = re.compile(r"^/proc/stat:cpu(\d*) +(\d+(?: \d+){6,})$")
_LINUX = (ProbeSource(files=("/proc/stat", "/proc/{pid}/stat"), lines=("cpu", *digits)),)


class Cpu:
    """Shares since the reading before: each covers the time between the two."""

    quantities: Mapping[str, Quantity] = {
        "cpu_util": CPU_UTIL,
        "cpu_core_util": CPU_CORE,
        "cpu_engine": CPU_ENGINE,
        "other_load": Quantity(
            "ratio",
            "Fraction of the machine's CPU time used by other processes.",
            {"other_load": SampleMetric("mean", "load of other processes", "lower")},
        ),
        "steal": Quantity(
            "ratio",
            "Fraction of the machine's CPU time that the hypervisor gave to other guests.",
            {"steal": SampleMetric("mean", "CPU steal", "lower")},
        ),
    }
    sources: Mapping[str, Sequence[ProbeSource]] = dict.fromkeys(("linux", "android", "termux"), _LINUX)

    def __init__(self) -> None:
        self._at: float | None = None
        self._machine: tuple[int, int, int] | None = None
        self._cores_at: float | None = None
        self._cores: dict[str, tuple[int, int, int]] = {}
        self._engine: dict[str, int] = {}

    def parse(self, at: float, text: str) -> Iterable[Sample]:
        cores: dict[str, tuple[int, int, int]] = {}
        engine: dict[str, int] = {}
        births: dict[str, int] = {}
        for line in text.splitlines():
            if found := _CPU.match(line):
                cores[found[1]] = _split([int(part) for part in found[2].split(" ")])
            elif found := _STAT.match(line):
                fields = found[2].split(" ")
                engine[found[1]] = int(fields[10]) + int(fields[11])
                births[found[1]] = int(fields[18])
        machine = cores.pop("", None)
        samples = [*self._shares(at, machine, engine, births), *self._each(at, cores)]
        self._at, self._machine, self._engine = at, machine, engine
        return samples

    def _each(self, at: float, cores: dict[str, tuple[int, int, int]]) -> list[Sample]:
        if self._cores_at is not None and at - self._cores_at < CORES_S:
            return []
        before, self._cores, self._cores_at = self._cores, cores, at
        return [
            Sample("cpu_core_util", max(0, now[0] - before[core][0]) / (now[2] - before[core][2]), at, {"core": core})
            for core, now in cores.items()
            if core in before and now[2] > before[core][2]
        ]

    def _shares(
        self, at: float, machine: tuple[int, int, int] | None, engine: dict[str, int], births: dict[str, int]
    ) -> list[Sample]:
        if self._at is None or at <= self._at:
            return []
        samples = []
        used = None
        if engine and self._engine:
            used = sum(
                max(0, ticks - self._engine.get(pid, 0))
                for pid, ticks in engine.items()
                if pid in self._engine or births[pid] * TICK_S >= self._at
            )
            samples.append(Sample("cpu_engine", used * TICK_S / (at - self._at), at))
        if machine and self._machine and (total := machine[2] - self._machine[2]) > 0:
            busy, stolen = (max(0, now - before) for now, before in zip(machine[:2], self._machine[:2], strict=True))
            samples += [Sample("cpu_util", busy / total, at), Sample("steal", stolen / total, at)]
            if used is not None:
                samples.append(Sample("other_load", max(0, busy - used) / total, at))
        return samples


def _split(ticks: Sequence[int]) -> tuple[int, int, int]:
    """(busy, stolen, total) of user, nice, system, idle, iowait, irq, softirq, steal.

    Guest time is already part of user time.
    """
    user, nice, system, idle, wait, irq, soft = ticks[:7]
    steal = ticks[7] if len(ticks) > 7 else 0
    busy = user + nice + system + irq + soft
    return busy, steal, busy + idle + wait + steal
