"""Power from the battery: what the whole device draws, while it discharges."""

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

MILLIAMPERES_BELOW = 15_000
"""A current below this is in mA, unless this gauge has shown more before: a phone that runs a model
draws 15 mA never, 15 A neither."""
PLAUSIBLE_W = (0.01, 400.0)
CHARGERS = ("Mains", "USB", "Wireless")
"""Types of what isn't a battery (the kernel's sysfs-class-power)."""


class Battery:
    """|current| × voltage while the status says Discharging; the sign of the current has three
    conventions in the wild and is not used. While it charges, or a charger too weak for the device
    gives a part, the battery doesn't know what the device draws: no reading.
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
        self._micro: set[str] = set()
        """Supplies known to count in µA."""

    def parse(self, at: float, text: str) -> Iterable[Sample]:
        if "/sys/class/power_supply/" in text:
            supplies = _supplies(text)
            plugged = any(
                row.get("TYPE", "").startswith(CHARGERS) and row.get("ONLINE") == "1" for row in supplies.values()
            )
            batteries = _batteries(supplies)
            return [one for key, row in batteries.items() for one in self._supply(at, key, row, plugged)]
        if "AppleSmartBattery" in text:
            return _apple(at, dict(_IOREG.findall(text)))
        return _windows(at, text)

    def _supply(self, at: float, key: str, supply: Mapping[str, str], plugged: bool) -> Iterable[Sample]:
        status = supply.get("STATUS", "Unknown")
        name = supply.get("NAME", "battery")
        if status != "Unknown":
            yield Sample("on_battery", float(status == "Discharging"), at, {"of": name})
        tenths = _integer(supply.get("TEMP"))
        if tenths is not None and 0 < tenths < 1000:
            yield Sample("temp_c", tenths / 10, at, {"of": name})
        # The kernel's units are µW, µA and µV; some phones give mA and mV.
        if abs(_integer(supply.get("CURRENT_NOW")) or 0) >= MILLIAMPERES_BELOW:
            self._micro.add(key)
        watts = _watts(supply, 1e-6 if key in self._micro else 1e-3)
        alone = status == "Discharging" and not plugged
        if alone and watts is not None and PLAUSIBLE_W[0] <= watts <= PLAUSIBLE_W[1]:
            yield Sample("power_w", watts, at, {"of": "battery" if name == "battery" else f"battery {name}"})


def _supplies(text: str) -> dict[str, dict[str, str]]:
    found: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for line in text.splitlines():
        if row := _LINE.match(line):
            found[row[1]][row[2]] = row[3].strip()
    return found


def _batteries(supplies: Mapping[str, Mapping[str, str]]) -> dict[str, Mapping[str, str]]:
    """The device's own ones, each once."""
    # Kernels before 5.7 don't tell the type here; only what holds a charge has a status.
    found = {
        name: row
        for name, row in supplies.items()
        if row.get("TYPE", "Battery" if "STATUS" in row else "") == "Battery" and row.get("SCOPE") != "Device"
    }
    # Phones show one battery under several names ("bms", "main"): "battery" is Android's own.
    return {"battery": found["battery"]} if "battery" in found else found


def _watts(supply: Mapping[str, str], unit: float) -> float | None:
    """``unit``: amperes that the gauge's current counts in. 0 is no reading."""
    current, voltage = _integer(supply.get("CURRENT_NOW")), _integer(supply.get("VOLTAGE_NOW"))
    if current and voltage and voltage > 0:
        return abs(current) * unit * voltage * (1e-3 if voltage < 100_000 else 1e-6)
    power = _integer(supply.get("POWER_NOW"))
    return abs(power) * 1e-6 if power else None


def _integer(text: str | None) -> int | None:
    try:
        return int(text or "")
    except ValueError:
        return None


def _apple(at: float, fields: Mapping[str, str]) -> Iterable[Sample]:
    """Milliamperes as a signed number printed as an unsigned one of 64 bits, and millivolts."""
    plugged = fields.get("ExternalConnected")
    if plugged:
        yield Sample("on_battery", float(plugged == "No"), at, {"of": "battery"})
    current = _integer(fields.get("InstantAmperage")) or _integer(fields.get("Amperage"))
    voltage = _integer(fields.get("Voltage"))
    if current is not None and current >= 2**63:
        current -= 2**64
    if plugged == "No" and current and voltage:
        watts = abs(current) * voltage * 1e-6
        if PLAUSIBLE_W[0] <= watts <= PLAUSIBLE_W[1]:
            yield Sample("power_w", watts, at, {"of": "battery"})


def _windows(at: float, text: str) -> Iterable[Sample]:
    """``BatteryStatus`` of root/wmi: DischargeRate in mW; -2147483648 and 0 are no reading."""
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
