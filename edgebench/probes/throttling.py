"""CPU clocks, and the causes of throttling: clock limits, cooling devices, the CPU's own counters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from edgebench.core import ProbeSource, Quantity, Sample, SampleMetric
from edgebench.probes.cim import number, objects
from edgebench.probes.quantities import THROTTLED

_POLICY = "/sys/devices/system/cpu/cpufreq/policy*"
_COOLING = "/sys/class/thermal/cooling_device*"
_COUNTS = "/sys/devices/system/cpu/cpu*/thermal_throttle"
_FREQUENCY = re.compile(r"^/sys/devices/system/cpu/cpufreq/policy(\d+)/(\w+):(\d+(?: \d+)*)\s*$")
_DEVICE = re.compile(r"^/sys/class/thermal/(cooling_device\d+)/(type|cur_state):(.*)$")
_COUNT = re.compile(r"^/sys/devices/system/cpu/(cpu\d+)/thermal_throttle/(core|package)_throttle_count:(\d+)$")
_LIMIT = re.compile(r"^\s*CPU_Speed_Limit\s*=\s*(\d+)\s*$", re.MULTILINE)
_STATUS = re.compile(r"^Thermal Status: (\d)\s*$", re.MULTILINE)
_THROTTLING_DEVICE = re.compile(r"cpu|processor|gpu|powerclamp|isolate|kgsl|devfreq", re.IGNORECASE)
_FILES = (
    ProbeSource(files=(f"{_POLICY}/related_cpus", f"{_POLICY}/cpuinfo_max_freq", f"{_COOLING}/type"), interval=0),
    ProbeSource(
        files=(f"{_POLICY}/scaling_cur_freq", f"{_POLICY}/scaling_max_freq", f"{_COOLING}/cur_state"), interval=1
    ),
    ProbeSource(files=(f"{_COUNTS}/core_throttle_count", f"{_COUNTS}/package_throttle_count"), interval=2),
)


class Throttling:
    """A clock limit below the processor's own maximum, an active cooling device that reduces
    performance (unlike a fan), an increasing throttle count, a thermal status above 0.
    """

    quantities: Mapping[str, Quantity] = {
        "cpu_clock_hz": Quantity(
            "Hz",
            "Clock of a cluster of cores; the label `cluster` lists its cores.",
            {"cpu_clock_hz": SampleMetric("mean", "CPU clock")},
            "max",
        ),
        "throttled": THROTTLED,
    }
    sources: Mapping[str, Sequence[ProbeSource]] = {
        "linux": _FILES,
        "termux": _FILES,
        "android": (*_FILES, ProbeSource(command="dumpsys thermalservice | grep 'Thermal Status'", interval=2)),
        "macos": (ProbeSource(command="pmset -g therm", interval=5),),
        "windows": (
            ProbeSource(
                command="Get-CimInstance Win32_PerfFormattedData_Counters_ThermalZoneInformation | "
                "Select-Object Name,PercentPassiveLimit,ThrottleReasons | ConvertTo-Json -Compress",
                interval=2,
            ),
            ProbeSource(
                command="Get-CimInstance Win32_PerfFormattedData_Counters_ProcessorInformation "
                "-Filter \"Name='_Total'\" | Select-Object ProcessorFrequency,PercentProcessorPerformance | "
                "ConvertTo-Json -Compress",
                interval=1,
            ),
        ),
    }

    def __init__(self) -> None:
        self._max_khz: dict[str, int] = {}
        self._cluster: dict[str, str] = {}
        self._types: dict[str, str] = {}
        self._counts: dict[str, int] = {}

    def parse(self, at: float, text: str) -> Iterable[Sample]:
        if text.lstrip().startswith(("{", "[")):
            return _windows(at, text)
        if status := _STATUS.search(text):
            return [Sample("throttled", float(status[1] != "0"), at, {"by": "Android's thermal status"})]
        if limit := _LIMIT.search(text):
            return [Sample("throttled", float(int(limit[1]) < 100), at, {"by": "macOS's CPU speed limit"})]
        return [sample for line in text.splitlines() for sample in self._line(at, line)]

    def _line(self, at: float, line: str) -> Iterable[Sample]:
        if match := _FREQUENCY.match(line):
            yield from self._frequency(at, match[1], match[2], match[3])
        elif match := _DEVICE.match(line):
            device, field, value = match[1], match[2], match[3].strip()
            if field == "type":
                self._types[device] = value
            elif value.isdigit() and _THROTTLING_DEVICE.search(self._types.get(device, "")):
                yield Sample("throttled", float(value != "0"), at, {"by": f"cooling device {self._types[device]}"})
        elif match := _COUNT.match(line):
            key, count = f"{match[1]} {match[2]}", int(match[3])
            if key in self._counts:
                yield Sample("throttled", float(count > self._counts[key]), at, {"by": f"throttle count of {key}"})
            self._counts[key] = count

    def _frequency(self, at: float, policy: str, field: str, value: str) -> Iterable[Sample]:
        cluster = self._cluster.get(policy, policy)
        if field == "related_cpus":
            self._cluster[policy] = value
        elif field == "cpuinfo_max_freq":
            self._max_khz[policy] = int(value)
        elif field == "scaling_cur_freq":
            yield Sample("cpu_clock_hz", int(value) * 1e3, at, {"cluster": cluster})
        elif field == "scaling_max_freq" and policy in self._max_khz:
            is_limited = int(value) < self._max_khz[policy]
            yield Sample("throttled", float(is_limited), at, {"by": f"clock limit of cores {cluster}"})


def _windows(at: float, text: str) -> Iterable[Sample]:
    for row in objects(text):
        limit, reasons = number(row, "PercentPassiveLimit"), number(row, "ThrottleReasons")
        if limit is not None:
            is_throttled = 0 < limit < 100 or bool(reasons)
            yield Sample("throttled", float(is_throttled), at, {"by": f"thermal zone {row.get('Name', '')}"})
        megahertz, share = number(row, "ProcessorFrequency"), number(row, "PercentProcessorPerformance")
        if megahertz and share:
            yield Sample("cpu_clock_hz", megahertz * 1e6 * share / 100, at, {"cluster": "all"})
