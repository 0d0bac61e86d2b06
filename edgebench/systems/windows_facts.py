"""Facts of a Windows device: a few from cmd.exe, more from PowerShell if it responds."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from edgebench.core import DeviceFacts, Fact, Gpu
from edgebench.errors import Unreadable
from edgebench.systems import powershell
from edgebench.systems.linux import parse_int, parse_nvidia

WINDOWS_11 = 22000
"""Its first build; the registry still has "Windows 10"."""

END_MARKER = "edgebench: answered"
"""The last line of every PowerShell script, to tell an empty result from no output."""

MACHINES = {"AMD64": "x86_64", "ARM64": "aarch64", "x86": "i686"}


def parse_cmd(text: str) -> DeviceFacts:
    """Environment variables, ``ver`` and ``reg query`` → ``cpu``, ``threads``, ``architecture``, ``os``, ``kernel``."""
    threads = re.search(r"^threads=(\d+)\s*$", text, re.M)
    machine = re.search(r"^machine=(\w+)\s*$", text, re.M)
    cpu = re.search(r"^\s*ProcessorNameString\s+REG_SZ\s+(\S.*?)\s*$", text, re.M)
    # `Microsoft Windows [Version 10.0.22631.4317]`; the word before the number is localised.
    version = re.search(r"\b(\d+\.\d+\.(\d+))[\d.]*\]?\s*$", text, re.M)
    product = re.search(r"^\s*ProductName\s+REG_SZ\s+(\S.*?)\s*$", text, re.M)
    if not (threads or machine or cpu or version):
        raise Unreadable("no output from cmd.exe; is it the login shell (OpenSSH's DefaultShell)?")
    name = product[1] if product and version else None
    if name and version and int(version[2]) >= WINDOWS_11:
        name = name.replace("Windows 10", "Windows 11")
    return DeviceFacts(
        cpu=cpu[1] if cpu else None,
        threads=int(threads[1]) if threads else None,
        architecture=MACHINES.get(machine[1], machine[1]) if machine else None,
        kernel=f"Windows NT {version[1]}" if version else None,
        os=name,
    )


def parse_wmic(text: str) -> DeviceFacts:
    """``wmic os get TotalVisibleMemorySize`` (KiB; UTF-16 or plain text, depending on the version) → ``ram_b``."""
    match = re.search(r"TotalVisibleMemorySize\s+(\d+)\s*$", text.replace("\0", ""))
    return DeviceFacts(ram_b=int(match[1]) * 1024 if match else None)


def parse_list(text: str) -> list[dict[str, str]]:
    """Parse ``Format-List``: ``Name : value`` lines, a blank line between objects.

    Property names are not localised. Wrapped values are joined.
    """
    objects: list[dict[str, str]] = []
    for block in re.split(r"\n\s*\n", text.replace("\r", "").strip()):
        fields: dict[str, str] = {}
        name = ""
        for line in block.splitlines():
            if match := re.match(r"(\w+)\s*: ?(.*)$", line):
                name = match[1]
                fields[name] = match[2].strip()
            elif name:
                fields[name] += line.strip()
        if fields:
            objects.append(fields)
    return objects


def parse_processor(text: str) -> DeviceFacts:
    """``Win32_Processor``, one object a socket → ``cpu``, ``cores``, ``threads``."""
    sockets = parse_list(text)
    return DeviceFacts(
        cpu=sockets[0].get("Name") or None if sockets else None,
        cores=_sum(sockets, "NumberOfCores"),
        threads=_sum(sockets, "NumberOfLogicalProcessors"),
    )


def _sum(sockets: Sequence[Mapping[str, str]], field: str) -> int | None:
    counts = [socket.get(field, "") for socket in sockets]
    return sum(map(int, counts)) if counts and all(count.isdigit() for count in counts) else None


def parse_system(text: str) -> DeviceFacts:
    """``Win32_OperatingSystem`` → ``os``, ``kernel``, ``ram_b`` (its sizes are in KiB)."""
    fields = next(iter(parse_list(text)), {})
    ram = parse_int(fields.get("TotalVisibleMemorySize"))
    return DeviceFacts(
        os=fields.get("Caption") or None,
        kernel=f"Windows NT {fields['Version']}" if fields.get("Version") else None,
        ram_b=None if ram is None else ram * 1024,
    )


def parse_displays(text: str) -> DeviceFacts:
    """``Win32_VideoController`` → ``gpus``. Its AdapterRAM is not queried, since it has only 32 bits."""
    cards = [fields for fields in parse_list(text) if fields.get("Name")]
    return DeviceFacts(gpus=tuple(Gpu(card["Name"], card.get("DriverVersion") or None) for card in cards))


def parse_battery(text: str) -> DeviceFacts:
    """``Win32_Battery``: BatteryStatus 1 is discharging, 2 on mains; no output without a battery."""
    status = [fields.get("BatteryStatus") for fields in parse_list(text)]
    if "1" in status:
        return DeviceFacts(power_source="battery")
    return DeviceFacts(power_source="mains" if "2" in status else None)


def _cim(parse: Callable[[str], DeviceFacts], name: str, *fields: str) -> Fact[DeviceFacts]:
    """Query one CIM class per command, so that a hanging driver blocks no other fact."""
    script = f"Get-CimInstance Win32_{name} | Format-List {','.join(fields)} | Out-String -Width 4096;'{END_MARKER}'"

    def read(text: str) -> DeviceFacts:
        output, marker, _ = text.rpartition(END_MARKER)
        if not marker:
            raise Unreadable("PowerShell did not respond")
        return parse(output)

    return Fact(powershell.command(script), read)


_CMD = (
    "echo threads=%NUMBER_OF_PROCESSORS%&echo machine=%PROCESSOR_ARCHITECTURE%&ver&"
    r'reg query "HKLM\HARDWARE\DESCRIPTION\System\CentralProcessor\0" /v ProcessorNameString&'
    r'reg query "HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion" /v ProductName'
)

FACTS: Mapping[str, Fact[DeviceFacts]] = {
    "shell": Fact(_CMD, parse_cmd),
    "memory": Fact("wmic os get TotalVisibleMemorySize 2>nul & exit 0", parse_wmic),
    "cpu": _cim(parse_processor, "Processor", "Name", "NumberOfCores", "NumberOfLogicalProcessors"),
    "os": _cim(parse_system, "OperatingSystem", "Caption", "Version", "TotalVisibleMemorySize"),
    "display": _cim(parse_displays, "VideoController", "Name", "DriverVersion"),
    "power": _cim(parse_battery, "Battery", "BatteryStatus"),
    "gpu": Fact(
        "nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>nul & exit 0", parse_nvidia
    ),
}
