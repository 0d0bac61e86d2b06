"""PowerShell 5 and 7 behind cmd.exe: a script as base64, so that no shell interprets it."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from edgebench.core import ProbeSource
from edgebench.errors import UsageError
from edgebench.systems.cmd import MAX_COMMAND_CHARS

_PRELUDE = "$ProgressPreference='SilentlyContinue';[Console]::OutputEncoding=New-Object Text.UTF8Encoding $false;"


def command(script: str) -> str:
    """A command line for cmd.exe that runs a script. Raises ``UsageError`` if it is too long."""
    encoded = base64.b64encode((_PRELUDE + script).encode("utf-16-le")).decode()
    line = f"powershell -NoProfile -NonInteractive -EncodedCommand {encoded}"
    if len(line) > MAX_COMMAND_CHARS:
        raise UsageError(
            f"a PowerShell script for Windows has {len(line)} characters; cmd.exe takes {MAX_COMMAND_CHARS}",
            "Too many probes are installed: remove one.",
        )
    return line


def literal(text: str) -> str:
    """Text as a PowerShell string in which nothing is expanded (about_Quoting_Rules)."""
    # Typographic quotes end such a string, too.
    return "'" + "".join(char * 2 if char in "'\u2018\u2019\u201a\u201b" else char for char in text) + "'"


_LOOP = """\
$ErrorActionPreference='SilentlyContinue'
$o=[Console]::Out;$w=[Diagnostics.Stopwatch]::StartNew();$r=@{};$n=@{};$i=0
$c=[ordered]@{COMMANDS}
while(ALIVE){foreach($k in $c.Keys){$j=$r[$k]
if($j){if($j.h.IsCompleted){
foreach($x in @($j.p.EndInvoke($j.h))+@($j.p.Streams.Error)){
foreach($l in "$x" -split "`r?`n"){$o.WriteLine("> $k - $l")}}
$o.WriteLine("% $k");$j.p.Dispose();$r.Remove($k)}}
elseif($w.Elapsed.TotalSeconds -ge $n[$k]){$n[$k]=$w.Elapsed.TotalSeconds+$c[$k][1]
$p=[PowerShell]::Create().AddScript($c[$k][0]);$r[$k]=@{p=$p;h=$p.BeginInvoke()}}}
if($i++%20 -eq 0){$o.WriteLine("% - cpu "+(gps -Id $PID).CPU)}
$o.Flush();Start-Sleep -Milliseconds 250}
"""
_ALIASES = {"Get-CimInstance": "gcim", "Get-Process": "gps", "Select-Object": "select"}
"""PowerShell's own aliases."""


def loop(sources: Mapping[str, ProbeSource], pid: int) -> str:
    """The sampler's loop as a command line for cmd.exe; its output is specified in ``loops``.

    Every command runs in a runspace of its own: one that hangs delays no other, and is run again
    only when it has finished. Raises ``UsageError`` if the script is too long for cmd.exe.
    """
    rows = (
        f"{literal(key)}=@({literal(source.command.replace('{pid}', str(pid)))},{source.interval:g})"
        for key, source in sources.items()
        if source.command
    )
    alive = f"Get-Process -Id {pid}" if pid else "$true"
    script = _LOOP.replace("ALIVE", alive).replace("COMMANDS", ";".join(rows))
    for cmdlet, alias in _ALIASES.items():
        script = script.replace(cmdlet, alias)
    return command(script)
