"""PowerShell 5 and 7 behind cmd.exe: a script as base64, so that no shell reads a word of it."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from edgebench.core import ProbeSource
from edgebench.errors import UsageError
from edgebench.systems.cmd import COMMAND_LINE

_QUIET = "$ProgressPreference='SilentlyContinue';[Console]::OutputEncoding=New-Object Text.UTF8Encoding $false;"


def command(script: str) -> str:
    """A command line for cmd.exe that runs a script. Raises ``UsageError`` where it is too long for it."""
    encoded = base64.b64encode((_QUIET + script).encode("utf-16-le")).decode()
    line = f"powershell -NoProfile -NonInteractive -EncodedCommand {encoded}"
    if len(line) > COMMAND_LINE:
        raise UsageError(
            f"a PowerShell script for Windows has {len(line)} characters; cmd.exe takes {COMMAND_LINE}",
            "Too many probes are installed: remove one.",
        )
    return line


def literal(text: str) -> str:
    """Text as a PowerShell string in which nothing is expanded (about_Quoting_Rules)."""
    # Typographic quotes end such a string as well as the plain one does.
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
_SHORT = {"Get-CimInstance": "gcim", "Get-Process": "gps", "Select-Object": "select"}
"""PowerShell's own aliases."""


def loop(sources: Mapping[str, ProbeSource], pid: int) -> str:
    """The sampler's loop as a command line for cmd.exe; ``loops`` says what it prints.

    Every command runs in a runspace of its own: one that hangs holds up nobody, and is asked again
    only when it has answered. Raises ``UsageError`` where cmd's command line is too short for it.
    """
    rows = (
        f"{literal(key)}=@({literal(source.command.replace('{pid}', str(pid)))},{source.interval:g})"
        for key, source in sources.items()
        if source.command
    )
    alive = f"Get-Process -Id {pid}" if pid else "$true"
    script = _LOOP.replace("ALIVE", alive).replace("COMMANDS", ";".join(rows))
    for long, short in _SHORT.items():
        script = script.replace(long, short)
    return command(script)
