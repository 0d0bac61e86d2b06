"""Windows PowerShell 5 and 7 behind cmd.exe: a script as base64, so that no shell reads a word of it."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Mapping, Sequence

from edgebench.errors import UsageError

COMMAND_LINE = 8191
"""Characters that cmd.exe takes."""

_QUIET = "$ProgressPreference='SilentlyContinue';[Console]::OutputEncoding=[Text.Encoding]::UTF8;"


def command(script: str) -> str:
    """A command line for cmd.exe that runs a script. Raises ``UsageError`` where it is too long for it."""
    encoded = base64.b64encode((_QUIET + script).encode("utf-16-le")).decode()
    line = f"powershell -NoProfile -NonInteractive -EncodedCommand {encoded}"
    if len(line) > COMMAND_LINE:
        raise UsageError(
            f"a command for Windows has {len(line)} characters; cmd.exe takes {COMMAND_LINE}",
            "Use shorter paths or fewer options.",
        )
    return line


def literal(text: str) -> str:
    """Text as a PowerShell string in which nothing is expanded (about_Quoting_Rules)."""
    # Typographic quotes end such a string as well as the plain one does.
    return "'" + "".join(char * 2 if char in "'\u2018\u2019\u201a\u201b" else char for char in text) + "'"


def process(argv: Sequence[str], env: Mapping[str, str] | None = None, cwd: str | None = None) -> str:
    """Script that starts a program as ``$p`` with exactly this argv, its output passed through.

    By System.Diagnostics.Process: PowerShell's own way of passing arguments loses quotes, and
    ``cmd`` expands ``%NAME%`` whatever one writes. Programs take an argv apart by the rules of
    CommandLineToArgvW, which ``subprocess.list2cmdline`` follows.
    """
    program, *rest = argv
    lines = [
        f"$i=New-Object Diagnostics.ProcessStartInfo {literal(program)}",
        f"$i.Arguments={literal(subprocess.list2cmdline(rest))}",
        "$i.UseShellExecute=$false",
        "$i.RedirectStandardInput=$true",
        *(f"$i.EnvironmentVariables[{literal(k)}]={literal(v)}" for k, v in (env or {}).items()),
        *([f"$i.WorkingDirectory={literal(cwd)}"] if cwd else []),
        "$p=[Diagnostics.Process]::Start($i)",
        "if(!$p){exit 127}",
        "$p.StandardInput.Close()",
    ]
    return ";".join(lines) + ";"
