"""Temperatures of processors and boards."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from edgebench.core import ProbeSource, Quantity, Sample
from edgebench.probes.cim import number, objects
from edgebench.probes.quantities import TEMPERATURE

_ZONES = "/sys/class/thermal/thermal_zone*"
_HWMON = "/sys/class/hwmon/hwmon*"
_PHONE = (
    ProbeSource(files=(f"{_ZONES}/type",), interval=0),
    ProbeSource(files=(f"{_ZONES}/temp",), interval=2),
)
_ZONE = re.compile(r"^/sys/class/thermal/(thermal_zone\d+)/(type|temp):(.*)$")
_SENSOR = re.compile(r"^/sys/class/hwmon/(hwmon\d+)/(name|temp1_input):(.*)$")
_HAL = re.compile(r"Temperature\{mValue=(-?[\d.]+), mType=(-?\d+), mName=([^,}]+)")
_HAL_TYPES = {"0": "cpu", "1": "gpu", "2": "battery", "3": "skin", "9": "npu"}
_CHIPS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "scpi_sensors", "apm_xgene")

PLAUSIBLE_C = (1.0, 130.0)
"""Outside of it a sensor is broken, absent or not a temperature: 0, -40 and 6553.5 are common."""


class Thermal:
    """Thermal zones and processor sensors on Linux; Android's own service beside them."""

    quantities: Mapping[str, Quantity] = {"temp_c": TEMPERATURE}
    sources: Mapping[str, Sequence[ProbeSource]] = {
        "linux": (
            ProbeSource(files=(f"{_ZONES}/type", f"{_HWMON}/name"), interval=0),
            ProbeSource(files=(f"{_ZONES}/temp", f"{_HWMON}/temp1_input"), interval=2),
        ),
        "android": (*_PHONE, ProbeSource(command="dumpsys thermalservice", interval=2)),
        "termux": _PHONE,
        "windows": (
            ProbeSource(
                command="Get-CimInstance Win32_PerfFormattedData_Counters_ThermalZoneInformation | "
                "Select-Object Name,HighPrecisionTemperature | ConvertTo-Json -Compress",
                interval=2,
            ),
        ),
    }

    def __init__(self) -> None:
        self._types: dict[str, str] = {}

    def parse(self, at: float, text: str) -> Iterable[Sample]:
        if text.lstrip().startswith(("{", "[")):
            found = _windows(text)
        elif text.startswith("/"):
            found = self._files(text)
        else:
            found = _service(text)
        for name, celsius in found:
            if PLAUSIBLE_C[0] <= celsius <= PLAUSIBLE_C[1]:
                yield Sample("temp_c", celsius, at, {"of": name})

    def _files(self, text: str) -> Iterable[tuple[str, float]]:
        for line in text.splitlines():
            found = _ZONE.match(line) or _SENSOR.match(line)
            if not found:
                continue
            place, field, value = found[1], found[2], found[3].strip()
            if field in ("type", "name"):
                self._types[place] = value
                continue
            kind = self._types.get(place, place)
            if place.startswith("hwmon") and kind not in _CHIPS:
                continue
            if re.fullmatch(r"-?\d+", value):
                # The kernel's unit is m°C; some phones' zones give whole degrees.
                degrees = int(value)
                yield kind, degrees / 1000 if abs(degrees) >= 1000 else float(degrees)


def _service(text: str) -> Iterable[tuple[str, float]]:
    """``dumpsys thermalservice``: the current readings, not the cached ones, which can be hours old."""
    _, there, rest = text.partition("Current temperatures from HAL:")
    current = rest.partition("Current cooling devices")[0] if there else ""
    for value, kind, name in _HAL.findall(current):
        if kind in _HAL_TYPES:
            yield f"{_HAL_TYPES[kind]} {name.strip()}", float(value)


def _windows(text: str) -> Iterable[tuple[str, float]]:
    """Tenths of a kelvin."""
    for row in objects(text):
        tenths = number(row, "HighPrecisionTemperature")
        if tenths:
            yield str(row.get("Name", "zone")), tenths / 10 - 273.15
