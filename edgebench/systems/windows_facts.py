"""What Windows can be asked about itself: a little by cmd.exe, more by PowerShell where it answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from edgebench.core import Fact, Json
from edgebench.errors import Unreadable
from edgebench.systems import powershell
from edgebench.systems.linux import parse_nvidia

WINDOWS_11 = 22000
"""Its first build; its registry still says Windows 10."""

ANSWERED = "edgebench: answered"
"""The last line of every PowerShell script: nothing at all is no answer, not an empty one."""

MACHINES = {"AMD64": "x86_64", "ARM64": "aarch64", "x86": "i686"}


def parse_cmd(text: str) -> Mapping[str, Json]:
    """Environment variables, ``ver`` and ``reg query`` → ``cpu``, ``threads``, ``architecture``, ``os``, ``kernel``."""
    facts: dict[str, Json] = {}
    if found := re.search(r"^threads=(\d+)\s*$", text, re.M):
        facts["threads"] = int(found[1])
    if found := re.search(r"^machine=(\w+)\s*$", text, re.M):
        facts["architecture"] = MACHINES.get(found[1], found[1])
    if found := re.search(r"^\s*ProcessorNameString\s+REG_SZ\s+(\S.*?)\s*$", text, re.M):
        facts["cpu"] = found[1]
    # `Microsoft Windows [Version 10.0.22631.4317]`; the word before the number is localised.
    if version := re.search(r"\b(\d+\.\d+\.(\d+))[\d.]*\]?\s*$", text, re.M):
        facts["kernel"] = f"Windows NT {version[1]}"
        if found := re.search(r"^\s*ProductName\s+REG_SZ\s+(\S.*?)\s*$", text, re.M):
            old = "Windows 10" in found[1] and int(version[2]) >= WINDOWS_11
            facts["os"] = found[1].replace("Windows 10", "Windows 11") if old else found[1]
    if not facts:
        raise Unreadable("cmd.exe answered nothing; is it the login shell (OpenSSH's DefaultShell)?")
    return facts


def parse_wmic(text: str) -> Mapping[str, Json]:
    """``wmic os get TotalVisibleMemorySize`` (KiB; UTF-16 in a pipe here, plain text there) → ``ram_b``."""
    found = re.search(r"TotalVisibleMemorySize\s+(\d+)\s*$", text.replace("\0", ""))
    return {"ram_b": int(found[1]) * 1024} if found else {}


def parse_list(text: str) -> list[dict[str, str]]:
    """What ``Format-List`` prints: ``Name : value`` lines, a blank line between objects.

    Property names are not localised. A value that was broken over lines is put together again.
    """
    objects: list[dict[str, str]] = []
    for block in re.split(r"\n\s*\n", text.replace("\r", "").strip()):
        fields: dict[str, str] = {}
        last = ""
        for line in block.splitlines():
            if found := re.match(r"(\w+)\s*: ?(.*)$", line):
                last = found[1]
                fields[last] = found[2].strip()
            elif last:
                fields[last] += line.strip()
        if fields:
            objects.append(fields)
    return objects


def parse_processor(text: str) -> Mapping[str, Json]:
    """``Win32_Processor``, one object a socket → ``cpu``, ``cores``, ``threads``."""
    sockets = parse_list(text)
    facts: dict[str, Json] = {}
    if sockets and sockets[0].get("Name"):
        facts["cpu"] = sockets[0]["Name"]
    for name, field in (("cores", "NumberOfCores"), ("threads", "NumberOfLogicalProcessors")):
        counts = [socket.get(field, "") for socket in sockets]
        if counts and all(count.isdigit() for count in counts):
            facts[name] = sum(map(int, counts))
    return facts


def parse_system(text: str) -> Mapping[str, Json]:
    """``Win32_OperatingSystem`` → ``os``, ``kernel``, ``ram_b`` (its sizes are in KiB)."""
    facts: dict[str, Json] = {}
    for fields in parse_list(text)[:1]:
        if fields.get("Caption"):
            facts["os"] = fields["Caption"]
        if fields.get("Version"):
            facts["kernel"] = f"Windows NT {fields['Version']}"
        if fields.get("TotalVisibleMemorySize", "").isdigit():
            facts["ram_b"] = int(fields["TotalVisibleMemorySize"]) * 1024
    return facts


def parse_displays(text: str) -> Mapping[str, Json]:
    """``Win32_VideoController`` → ``gpus``. Its AdapterRAM has 32 bits and is not asked for."""
    gpus = [
        {"name": fields["Name"], **({"driver": fields["DriverVersion"]} if fields.get("DriverVersion") else {})}
        for fields in parse_list(text)
        if fields.get("Name")
    ]
    return {"gpus": gpus} if gpus else {}


def parse_battery(text: str) -> Mapping[str, Json]:
    """``Win32_Battery``: BatteryStatus 1 is discharging, 2 on mains; no battery, nothing said."""
    status = [fields.get("BatteryStatus") for fields in parse_list(text)]
    if "1" in status:
        return {"power_source": "battery"}
    return {"power_source": "mains"} if "2" in status else {}


def _cim(parse: Callable[[str], Mapping[str, Json]], name: str, *fields: str) -> Fact:
    """One class a call: a driver that hangs one doesn't cost the others."""
    script = f"Get-CimInstance Win32_{name} | Format-List {','.join(fields)} | Out-String -Width 4096;'{ANSWERED}'"

    def read(text: str) -> Mapping[str, Json]:
        answer, end, _ = text.rpartition(ANSWERED)
        if not end:
            raise Unreadable("PowerShell gave no answer")
        return parse(answer)

    return Fact(powershell.command(script), read)


_CMD = (
    "echo threads=%NUMBER_OF_PROCESSORS%&echo machine=%PROCESSOR_ARCHITECTURE%&ver&"
    r'reg query "HKLM\HARDWARE\DESCRIPTION\System\CentralProcessor\0" /v ProcessorNameString&'
    r'reg query "HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion" /v ProductName'
)

FACTS: Mapping[str, Fact] = {
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
