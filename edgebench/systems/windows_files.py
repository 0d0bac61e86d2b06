"""Files on Windows by PowerShell. See ``core.Files``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from edgebench.core import Fact, Json
from edgebench.errors import Unreadable
from edgebench.systems.posix_files import parse_list, parse_look, parse_sha256
from edgebench.systems.powershell import command, literal

_SECONDS = "[int64]($f.LastWriteTimeUtc-[datetime]'1970-01-01').TotalSeconds"

_LOCK = """\
$l={lock};$o={owner};$f=Join-Path $l 'owner'
function take {{ try {{ $null=New-Item -ItemType Directory $l -ErrorAction Stop
 Set-Content -LiteralPath $f $o -Encoding UTF8;$true }} catch {{ $script:why="$_";$false }} }}
while(!(take)){{
 if(!(Test-Path -LiteralPath $l)){{$why;exit 1}}
 $d=Get-Item -LiteralPath $(if(Test-Path -LiteralPath $f){{$f}}else{{$l}})
 if([Math]::Abs(((Get-Date)-$d.LastWriteTime).TotalSeconds) -le {lease}){{"held $(Get-Content -LiteralPath $f)";exit 1}}
 $x="$l.$PID";Move-Item -LiteralPath $l $x -ErrorAction SilentlyContinue;Remove-Item -Recurse -LiteralPath $x
}}
'taken'
while($null -ne [Console]::In.ReadLine()){{(Get-Item -LiteralPath $f).LastWriteTime=Get-Date}}
if((Get-Content -LiteralPath $f) -eq $o){{Remove-Item -Recurse -LiteralPath $l}}
"""


class Files:
    """Paths with backslashes or slashes; Windows takes both."""

    def join(self, *parts: str) -> str:
        return "\\".join(parts)

    def folder(self, path: str) -> Fact:
        there = literal(path)
        script = (
            f"$d=New-Item -ItemType Directory -Force {there} -ErrorAction Stop;"
            "$d.FullName;(New-Object IO.DriveInfo $d.Root.FullName).AvailableFreeSpace"
        )
        return Fact(command(script), parse_folder)

    def look(self, path: str) -> Fact:
        script = (
            f"$f=Get-Item -LiteralPath {literal(path)} -ErrorAction SilentlyContinue;"
            f'if($f){{"$([int64]$f.Length) $({_SECONDS})"}};exit 0'
        )
        return Fact(command(script), parse_look)

    def seal(self, path: str) -> str:
        return command(f"(Get-Item -LiteralPath {literal(path)}).LastWriteTimeUtc='2000-01-01T00:00:00'")

    def sha256(self, path: str) -> Fact:
        return Fact(command(f"(Get-FileHash -Algorithm SHA256 -LiteralPath {literal(path)}).Hash"), parse_sha256)

    def list(self, folder: str) -> Fact:
        script = (
            f"Get-ChildItem -LiteralPath {literal(folder)} -ErrorAction SilentlyContinue|"
            'ForEach-Object{"$([int64]$_.Length) $($_.Name)"};exit 0'
        )
        return Fact(command(script), parse_list)

    def move(self, source: str, target: str) -> str:
        return command(f"Move-Item -Force -LiteralPath {literal(source)} {literal(target)} -ErrorAction Stop")

    def executable(self, path: str) -> str:
        """Nothing to do: the name's ending says it."""
        return "exit /b 0"

    def remove(self, paths: Sequence[str]) -> str:
        each = ",".join(literal(path) for path in paths)
        return command(f"Remove-Item -Recurse -Force -LiteralPath {each} -ErrorAction SilentlyContinue;exit 0")

    def lock(self, path: str, owner: str, lease: int) -> str:
        return command(_LOCK.format(lock=literal(path), owner=literal(owner), lease=lease))


def parse_folder(text: str) -> Mapping[str, Json]:
    """A path and the free bytes of its drive, a line each → ``path``, ``free_b``."""
    lines = text.split("\n")
    path = lines[0].strip()
    if not re.match(r"[A-Za-z]:\\|\\\\", path):
        raise Unreadable(f"a folder was expected: {text[:200]!r}")
    free = lines[1].strip() if len(lines) > 1 else ""
    return {"path": path, **({"free_b": int(free)} if free.isdigit() else {})}
