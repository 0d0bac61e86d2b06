"""CPU time of the machine, the engine, other processes and other guests of the hypervisor."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from string import digits

from edgebench.core import ProbeSource, Quantity, Sample, SampleMetric
from edgebench.probes.quantities import CPU_CORE, CPU_ENGINE, CPU_UTIL

TICK_S = 0.01
"""USER_HZ is 100 on every architecture that Linux runs on today."""
CORES_S = 2.0
"""Seconds between samples of single cores, since a server has many."""
_STAT = re.compile(r"^/proc/(\d+)/stat:\d+ \(.*\) \S (.+)$")
_CPU = re.compile(r"^/proc/stat:cpu(\d*) +(\d+(?: \d+){6,})$")
_LINUX = (ProbeSource(files=("/proc/stat", "/proc/{pid}/stat"), lines=("cpu", *digits)),)


class Cpu:
    """Shares of CPU time since the previous sample."""

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
        start_ticks: dict[str, int] = {}
        for line in text.splitlines():
            if match := _CPU.match(line):
                cores[match[1]] = _busy_steal_total([int(part) for part in match[2].split(" ")])
            elif match := _STAT.match(line):
                fields = match[2].split(" ")
                engine[match[1]] = int(fields[10]) + int(fields[11])
                start_ticks[match[1]] = int(fields[18])
        machine = cores.pop("", None)
        samples = [*self._share_samples(at, machine, engine, start_ticks), *self._core_samples(at, cores)]
        self._at, self._machine, self._engine = at, machine, engine
        return samples

    def _core_samples(self, at: float, cores: dict[str, tuple[int, int, int]]) -> list[Sample]:
        if self._cores_at is not None and at - self._cores_at < CORES_S:
            return []
        previous, self._cores, self._cores_at = self._cores, cores, at
        return [
            Sample(
                "cpu_core_util",
                max(0, current[0] - previous[core][0]) / (current[2] - previous[core][2]),
                at,
                {"core": core},
            )
            for core, current in cores.items()
            if core in previous and current[2] > previous[core][2]
        ]

    def _share_samples(
        self, at: float, machine: tuple[int, int, int] | None, engine: dict[str, int], start_ticks: dict[str, int]
    ) -> list[Sample]:
        if self._at is None or at <= self._at:
            return []
        samples = []
        engine_ticks = None
        if engine and self._engine:
            engine_ticks = sum(
                max(0, ticks - self._engine.get(pid, 0))
                for pid, ticks in engine.items()
                if pid in self._engine or start_ticks[pid] * TICK_S >= self._at
            )
            samples.append(Sample("cpu_engine", engine_ticks * TICK_S / (at - self._at), at))
        if machine and self._machine and (total := machine[2] - self._machine[2]) > 0:
            busy, steal = (
                max(0, current - previous) for current, previous in zip(machine[:2], self._machine[:2], strict=True)
            )
            samples += [Sample("cpu_util", busy / total, at), Sample("steal", steal / total, at)]
            if engine_ticks is not None:
                samples.append(Sample("other_load", max(0, busy - engine_ticks) / total, at))
        return samples


def _busy_steal_total(ticks: Sequence[int]) -> tuple[int, int, int]:
    """(busy, stolen, total) of user, nice, system, idle, iowait, irq, softirq, steal.

    Guest time is already part of user time.
    """
    user, nice, system, idle, iowait, irq, soft = ticks[:7]
    steal = ticks[7] if len(ticks) > 7 else 0
    busy = user + nice + system + irq + soft
    return busy, steal, busy + idle + iowait + steal
