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
"""Values outside of it come from broken or absent sensors; 0, -40 and 6553.5 are common."""


class Thermal:
    """Thermal zones and processor sensors on Linux; also Android's own service."""

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
            readings = _windows(text)
        elif text.startswith("/"):
            readings = self._files(text)
        else:
            readings = _service(text)
        for name, celsius in readings:
            if PLAUSIBLE_C[0] <= celsius <= PLAUSIBLE_C[1]:
                yield Sample("temp_c", celsius, at, {"of": name})

    def _files(self, text: str) -> Iterable[tuple[str, float]]:
        for line in text.splitlines():
            match = _ZONE.match(line) or _SENSOR.match(line)
            if not match:
                continue
            sensor, field, value = match[1], match[2], match[3].strip()
            if field in ("type", "name"):
                self._types[sensor] = value
                continue
            sensor_type = self._types.get(sensor, sensor)
            if sensor.startswith("hwmon") and sensor_type not in _CHIPS:
                continue
            if re.fullmatch(r"-?\d+", value):
                # The kernel's unit is m°C; some phones report whole degrees.
                degrees = int(value)
                yield sensor_type, degrees / 1000 if abs(degrees) >= 1000 else float(degrees)


def _service(text: str) -> Iterable[tuple[str, float]]:
    """``dumpsys thermalservice``: the current values, not the cached ones, which can be hours old."""
    _, marker, remainder = text.partition("Current temperatures from HAL:")
    section = remainder.partition("Current cooling devices")[0] if marker else ""
    for value, sensor_type, name in _HAL.findall(section):
        if sensor_type in _HAL_TYPES:
            yield f"{_HAL_TYPES[sensor_type]} {name.strip()}", float(value)


def _windows(text: str) -> Iterable[tuple[str, float]]:
    """Tenths of a kelvin."""
    for row in objects(text):
        tenths = number(row, "HighPrecisionTemperature")
        if tenths:
            yield str(row.get("Name", "zone")), tenths / 10 - 273.15
