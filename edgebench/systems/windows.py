"""Windows 10 and 11 behind OpenSSH's cmd.exe, by PowerShell. Not yet seen on a real one: docs/status.md."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from edgebench.core import Command, Fact, Json, PageCache, Reading
from edgebench.systems import loops, powershell
from edgebench.systems.linux import parse_nvidia
from edgebench.systems.posix import BEATS_MISSED
from edgebench.systems.windows_files import Files

# The watcher: the program is this script's child; a line a second on standard input is the
# controller's sign of life. Windows knows no SIGINT for a program without a console of its own, so
# every word that ends it ends it at once, with all its children.
_WATCHER = """\
{secrets}{start}
$h=[Diagnostics.Stopwatch];function up{{($h::GetTimestamp()/$h::Frequency).ToString('F2',[cultureinfo]'')}}
function end{{taskkill /t /f /pid $p.Id 2>&1 >$null}}
[Console]::Out.WriteLine("{tag} pid $($p.Id) $(up)");[Console]::Out.Flush()
$t=$n.ReadLineAsync();$m=0
while(!$p.WaitForExit(200)){{
 if($t.IsCompleted){{$m=0;$w=$t.Result;if($null -eq $w -or $w -in 'stop','term','kill'){{end;$p.WaitForExit();break}}
  $t=$n.ReadLineAsync()}}
 elseif(++$m -gt {ticks}){{end}}
}}
[Console]::Out.WriteLine("{tag} exit $($p.ExitCode) $(up)");[Console]::Out.Flush()
[Environment]::Exit(0)
"""


class Windows:
    """cmd.exe takes the commands, PowerShell runs them."""

    default_workspace = r"AppData\Local\edgebench\device"
    files = Files()

    @property
    def facts(self) -> Mapping[str, Fact]:
        return FACTS

    def quote(self, argv: Sequence[str]) -> str:
        script = powershell.process(argv) + "$p.WaitForExit();exit $p.ExitCode"
        return powershell.command(script)

    def supervise(self, command: Command, tag: str) -> str:
        stdin = "$n=New-Object IO.StreamReader([Console]::OpenStandardInput());"
        secrets = stdin + "".join(f"$env:{name}=$n.ReadLine();" for name in command.secrets)
        start = powershell.process(command.argv, command.env, command.cwd)
        return powershell.command(_WATCHER.format(secrets=secrets, start=start, tag=tag, ticks=BEATS_MISSED * 5))

    def loop(self, readings: Mapping[str, Reading], pid: int) -> str:
        return loops.powershell(readings, pid)

    def page_cache(self, path: str) -> PageCache | None:
        """Nothing that comes with Windows looks into the cache of one file."""
        return None


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


def _cim(name: str, *fields: str) -> str:
    """One class a call: a driver that hangs one doesn't cost the others."""
    script = f"Get-CimInstance Win32_{name} | Format-List {','.join(fields)} | Out-String -Width 4096"
    return powershell.command(script)


FACTS: Mapping[str, Fact] = {
    "cpu": Fact(_cim("Processor", "Name", "NumberOfCores", "NumberOfLogicalProcessors"), parse_processor),
    "os": Fact(_cim("OperatingSystem", "Caption", "Version", "TotalVisibleMemorySize"), parse_system),
    "display": Fact(_cim("VideoController", "Name", "DriverVersion"), parse_displays),
    "power": Fact(_cim("Battery", "BatteryStatus"), parse_battery),
    "gpu": Fact(
        "nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>nul & exit 0", parse_nvidia
    ),
}
