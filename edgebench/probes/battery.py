"""Power of the whole device from its battery, while it discharges."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from edgebench.core import ProbeSource, Quantity, Sample, SampleMetric
from edgebench.probes.cim import number, objects
from edgebench.probes.quantities import POWER, TEMPERATURE

_LINE = re.compile(r"^/sys/class/power_supply/([^/]+)/uevent:POWER_SUPPLY_(\w+)=(.*)$")
_FIELDS = ("NAME", "TYPE", "SCOPE", "STATUS", "ONLINE", "CURRENT_NOW", "VOLTAGE_NOW", "POWER_NOW", "TEMP")
_UEVENT = ProbeSource(
    files=("/sys/class/power_supply/*/uevent",),
    lines=tuple(f"POWER_SUPPLY_{field}=" for field in _FIELDS),
    interval=1,
)
_IOREG = re.compile(r'^\s*"(InstantAmperage|Amperage|Voltage|ExternalConnected)" = (\w+)\s*$', re.MULTILINE)

MAX_MILLIAMPERES = 15_000
"""A current below this is in mA, unless this gauge has reported more before: a phone that runs a model
draws neither 15 mA nor 15 A."""
PLAUSIBLE_W = (0.01, 400.0)
CHARGERS = ("Mains", "USB", "Wireless")
"""Types of supplies other than batteries (the kernel's sysfs-class-power)."""


class Battery:
    """|current| × voltage while the status says Discharging; the sign of the current has three
    conventions in the wild and is not used. While it charges, or a weak charger
    supplies a part, the battery's current is not the device's, so there is no sample.
    """

    quantities: Mapping[str, Quantity] = {
        "power_w": POWER,
        "on_battery": Quantity(
            "ratio",
            "1 while the device runs on its battery.",
            {"on_battery": SampleMetric("min", "on battery")},
            across="max",
        ),
        "temp_c": TEMPERATURE,
    }
    sources: Mapping[str, Sequence[ProbeSource]] = {
        "linux": (_UEVENT,),
        "android": (_UEVENT,),
        "termux": (_UEVENT,),
        "macos": (ProbeSource(command="ioreg -rw0 -c AppleSmartBattery", interval=2),),
        "windows": (
            ProbeSource(
                command="Get-CimInstance -Namespace root/wmi -ClassName BatteryStatus | "
                "Select-Object Discharging,DischargeRate,PowerOnline | ConvertTo-Json -Compress",
                interval=2,
            ),
        ),
    }

    def __init__(self) -> None:
        self._microampere_gauges: set[str] = set()
        """Supplies whose gauges report µA."""

    def parse(self, at: float, text: str) -> Iterable[Sample]:
        if "/sys/class/power_supply/" in text:
            supplies = _supplies(text)
            has_charger = any(
                fields.get("TYPE", "").startswith(CHARGERS) and fields.get("ONLINE") == "1"
                for fields in supplies.values()
            )
            batteries = _batteries(supplies)
            return [
                sample for key, fields in batteries.items() for sample in self._supply(at, key, fields, has_charger)
            ]
        if "AppleSmartBattery" in text:
            return _apple(at, dict(_IOREG.findall(text)))
        return _windows(at, text)

    def _supply(self, at: float, key: str, supply: Mapping[str, str], has_charger: bool) -> Iterable[Sample]:
        status = supply.get("STATUS", "Unknown")
        name = supply.get("NAME", "battery")
        if status != "Unknown":
            yield Sample("on_battery", float(status == "Discharging"), at, {"of": name})
        decidegrees = _parse_int(supply.get("TEMP"))
        if decidegrees is not None and 0 < decidegrees < 1000:
            yield Sample("temp_c", decidegrees / 10, at, {"of": name})
        # The kernel's units are µW, µA and µV; some phones report mA and mV.
        if abs(_parse_int(supply.get("CURRENT_NOW")) or 0) >= MAX_MILLIAMPERES:
            self._microampere_gauges.add(key)
        watts = _watts(supply, 1e-6 if key in self._microampere_gauges else 1e-3)
        is_only_source = status == "Discharging" and not has_charger
        if is_only_source and watts is not None and PLAUSIBLE_W[0] <= watts <= PLAUSIBLE_W[1]:
            yield Sample("power_w", watts, at, {"of": "battery" if name == "battery" else f"battery {name}"})


def _supplies(text: str) -> dict[str, dict[str, str]]:
    supplies: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for line in text.splitlines():
        if match := _LINE.match(line):
            supplies[match[1]][match[2]] = match[3].strip()
    return supplies


def _batteries(supplies: Mapping[str, Mapping[str, str]]) -> dict[str, Mapping[str, str]]:
    """The device's own batteries, without duplicates."""
    # Kernels before 5.7 have no type here; only batteries have a status.
    batteries = {
        name: fields
        for name, fields in supplies.items()
        if fields.get("TYPE", "Battery" if "STATUS" in fields else "") == "Battery" and fields.get("SCOPE") != "Device"
    }
    # Phones list one battery under several names ("bms", "main"); "battery" is Android's.
    return {"battery": batteries["battery"]} if "battery" in batteries else batteries


def _watts(supply: Mapping[str, str], unit: float) -> float | None:
    """``unit``: the unit of the gauge's current, in amperes. 0 counts as absent."""
    current, voltage = _parse_int(supply.get("CURRENT_NOW")), _parse_int(supply.get("VOLTAGE_NOW"))
    if current and voltage and voltage > 0:
        return abs(current) * unit * voltage * (1e-3 if voltage < 100_000 else 1e-6)
    power = _parse_int(supply.get("POWER_NOW"))
    return abs(power) * 1e-6 if power else None


def _parse_int(text: str | None) -> int | None:
    try:
        return int(text or "")
    except ValueError:
        return None


def _apple(at: float, fields: Mapping[str, str]) -> Iterable[Sample]:
    """The current is in mA, a signed number printed as unsigned 64-bit, the voltage in mV."""
    external_power = fields.get("ExternalConnected")
    if external_power:
        yield Sample("on_battery", float(external_power == "No"), at, {"of": "battery"})
    current = _parse_int(fields.get("InstantAmperage")) or _parse_int(fields.get("Amperage"))
    voltage = _parse_int(fields.get("Voltage"))
    if current is not None and current >= 2**63:
        current -= 2**64
    if external_power == "No" and current and voltage:
        watts = abs(current) * voltage * 1e-6
        if PLAUSIBLE_W[0] <= watts <= PLAUSIBLE_W[1]:
            yield Sample("power_w", watts, at, {"of": "battery"})


def _windows(at: float, text: str) -> Iterable[Sample]:
    """``BatteryStatus`` of root/wmi: DischargeRate in mW; -2147483648 and 0 mean absent."""
    for index, row in enumerate(objects(text)):
        discharging = row.get("Discharging") is True
        name = "battery" if index == 0 else f"battery {index}"
        yield Sample("on_battery", float(discharging), at, {"of": name})
        rate = number(row, "DischargeRate")
        if (
            discharging
            and row.get("PowerOnline") is not True
            and rate
            and PLAUSIBLE_W[0] <= rate / 1000 <= PLAUSIBLE_W[1]
        ):
            yield Sample("power_w", rate / 1000, at, {"of": name})
