"""Energy counters of CPUs: RAPL on Linux (Intel, AMD), the energy meter on Windows."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from edgebench.core import ProbeSource, Quantity, Sample
from edgebench.probes.cim import number, objects
from edgebench.probes.quantities import POWER

_LINE = re.compile(r"^/sys/class/powercap/(intel-rapl[\w:-]*)/(name|energy_uj|max_energy_range_uj):(.+)$")
_ZONE = "/sys/class/powercap/intel-rapl*"


class Rapl:
    """Mean power since the previous sample, from microjoules that wrap at ``max_energy_range_uj``.

    Since 2020 readable only by root by default. ``core`` and ``uncore`` are parts of their package and
    are omitted.
    """

    quantities: Mapping[str, Quantity] = {"power_w": POWER}
    sources: Mapping[str, Sequence[ProbeSource]] = {
        "linux": (
            ProbeSource(files=(f"{_ZONE}/name", f"{_ZONE}/max_energy_range_uj"), interval=0),
            ProbeSource(files=(f"{_ZONE}/energy_uj",), interval=1),
        ),
        "windows": (
            ProbeSource(
                command="Get-CimInstance Win32_PerfFormattedData_PowerMeterCounter_EnergyMeter | "
                "Select-Object Name,Power | ConvertTo-Json -Compress",
                interval=2,
            ),
        ),
    }

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._ranges: dict[str, int] = {}
        self._last: dict[str, tuple[float, int]] = {}

    def parse(self, at: float, text: str) -> Iterable[Sample]:
        if not text.startswith("/"):
            yield from _meter(at, text)
            return
        for line in text.splitlines():
            if not (match := _LINE.match(line)):
                continue
            zone, field, value = match[1], match[2], match[3].strip()
            if field == "name":
                self._names[zone] = value
            elif not value.isdigit():
                continue
            elif field == "max_energy_range_uj":
                self._ranges[zone] = int(value)
            else:
                yield from self._power(at, zone, int(value))

    def _power(self, at: float, zone: str, energy: int) -> Iterable[Sample]:
        previous = self._last.get(zone)
        self._last[zone] = at, energy
        name = self._names.get(zone, "")
        if previous is None or at <= previous[0] or not name.startswith(("package", "psys", "dram")):
            return
        used_uj = energy - previous[1]
        if used_uj < 0:
            if zone not in self._ranges:
                return
            used_uj += self._ranges[zone] + 1
        watts = used_uj * 1e-6 / (at - previous[0])
        # intel-rapl and intel-rapl-mmio count the same package: use only one of them.
        if 0 < watts < 2000 and "mmio" not in zone:
            package_number = zone.split(":")[1] if ":" in zone else "0"
            yield Sample("power_w", watts, at, {"of": f"dram-{package_number}" if name == "dram" else name})


def _meter(at: float, text: str) -> Iterable[Sample]:
    """Windows' EnergyMeter: milliwatts by rail, named like ``RAPL_Package0_PKG``."""
    rails: defaultdict[str, float] = defaultdict(float)
    for row in objects(text):
        name, power = str(row.get("Name", "")), number(row, "Power")
        if power and name.endswith("_PKG"):
            rails[f"package-{''.join(filter(str.isdigit, name)) or 0}"] += power / 1000
        elif power and name.endswith("_DRAM"):
            rails[f"dram-{''.join(filter(str.isdigit, name)) or 0}"] += power / 1000
    yield from (Sample("power_w", watts, at, {"of": name}) for name, watts in rails.items() if watts < 2000)
