"""Files on Windows by cmd.exe and certutil. See ``core.Files``."""

from __future__ import annotations

import hashlib
import ntpath
import re
from collections.abc import Mapping, Sequence

from edgebench.core import Fact, FileState, Folder
from edgebench.errors import Unreadable
from edgebench.systems.cmd import SHELL, join_lines, script_command

# The lock is a file that is held open for writing: Windows lets no other process open or delete it, and
# releases it with the process. The holder ends when _read reports the end of standard input, or when no
# heartbeat arrived during the lease. After a lost connection the same owner first ends its previous
# holder.
_LOCK = """\
chcp 65001 >nul
del "!_lock!" 2>nul
{shell} "!_again!" 2>nul
if exist "!_lock!" (type "!_lock!.owner"&exit 1) else ({shell} "!_take!")"""
_END_PREVIOUS = """\
if exist "!_lock!" (if exist "!_lock!.{mine}" (type nul >"!_lock!.{mine}.end"
ping -n 4 127.0.0.1 >nul
del "!_lock!"))"""
_TAKE = """\
start "" /b {shell} "!_read!" >nul 2>nul
{shell} "!_hold!" >"!_lock!"
del "!_lock!" 2>nul
if not exist "!_lock!" (del "!_lock!.owner" "!_lock!.{mine}" "!_lock!.{mine}.end" "!_lock!.{mine}.beat" 2>nul)"""
_HOLD = """\
echo held !_owner!>"!_lock!.owner"
type nul >"!_lock!.{mine}"
echo taken>&2
for /l %i in (0,0,1) do (ping -n 2 127.0.0.1 >nul
if exist "!_lock!.{mine}.end" (exit) else (if exist "!_lock!.{mine}.beat" (set _missed=0&del "!_lock!.{mine}.beat") \
else (set /a _missed+=1 >nul&if !_missed! gtr {lease} (exit))))"""
_READ = """\
for /l %i in (0,0,1) do (set _word=
set /p _word=
if defined _word (type nul >"!_lock!.{mine}.beat") else (type nul >"!_lock!.{mine}.end"&exit))"""
_FOLDER = """\
chcp 65001 >nul
mkdir "!_path!" 2>nul
if exist "!_path!\\" (cd /d "!_path!"&type nul >.edgebench&if exist .edgebench (del .edgebench&cd&dir /-c /a:d) \
else (exit 1)) else (mkdir "!_path!"&exit 1)"""
_FOR_EACH_FILE = """\
chcp 65001 >nul
if exist "!_path!\\" (cd /d "!_path!"&for /f "delims=" %f in ('dir /b') do ({action}))"""
_LIST_SIZES = _FOR_EACH_FILE.format(action="echo %~zf %f")
_PRINT_JSON = _FOR_EACH_FILE.format(action='if /i "%~xf"==".json" (type "%f")')
_PRINT_STATE = _FOR_EACH_FILE.format(action='set _file=%f&if /i "!_file!"=="!_name!" (echo %~zf %~af)')


class Files:
    """Paths with backslashes or slashes; Windows takes both."""

    def join(self, *parts: str) -> str:
        return "\\".join(parts)

    def make_folder(self, path: str) -> Fact[Folder]:
        return Fact(script_command(_FOLDER, _path=_native(path)), parse_folder)

    def state(self, path: str) -> Fact[FileState | None]:
        """A name that contains ``!`` is not found: cmd removes it from the names that ``for`` lists."""
        folder, name = ntpath.split(_native(path))
        return Fact(script_command(_PRINT_STATE, _path=folder or ".", _name=name), parse_state)

    def seal(self, path: str) -> str:
        """Make the file read-only, so that it cannot be changed by accident."""
        return script_command('attrib +r "!_path!"', _path=_native(path))

    def sha256(self, path: str) -> Fact[str]:
        return Fact(script_command('certutil -hashfile "!_path!" SHA256', _path=_native(path)), parse_sha256)

    def sizes(self, folder: str) -> Fact[Mapping[str, int]]:
        return Fact(script_command(_LIST_SIZES, _path=_native(folder)), parse_sizes)

    def write_line(self, path: str, line: str) -> str:
        return script_command('echo !_line!>"!_path!"', _path=_native(path), _line=line)

    def read_lines(self, folder: str) -> Fact[Sequence[str]]:
        return Fact(script_command(_PRINT_JSON, _path=_native(folder)), str.splitlines)

    def move(self, source: str, target: str) -> str:
        body = 'attrib -r "!_target!" >nul 2>nul\nmove /y "!_source!" "!_target!" >nul'
        return script_command(body, _source=_native(source), _target=_native(target))

    def executable(self, path: str) -> str:
        """A command that does nothing: the file name extension decides."""
        return "exit 0"

    def remove(self, paths: Sequence[str]) -> str:
        names = {f"_P{number}": _native(path) for number, path in enumerate(paths)}
        commands = (f'rmdir /s /q "!{name}!" 2>nul&del /f /q "!{name}!" 2>nul' for name in names)
        return script_command("\n".join([*commands, "exit 0"]), **names)

    def lock(self, path: str, owner: str, lease: int) -> str:
        placeholders = {"mine": hashlib.sha256(owner.encode()).hexdigest()[:12], "lease": lease, "shell": SHELL}
        templates = {"_again": _END_PREVIOUS, "_take": _TAKE, "_hold": _HOLD, "_read": _READ}
        scripts = {name: join_lines(text.format(**placeholders)) for name, text in templates.items()}
        return script_command(_LOCK.format(**placeholders), _lock=_native(path), _owner=owner, **scripts)


def _native(path: str) -> str:
    return path.replace("/", "\\")


def parse_folder(text: str) -> Folder:
    """Parse ``cd`` and ``dir /-c``: the free bytes are the last number of the last line, in any language."""
    lines = text.strip().splitlines()
    path = lines[0].strip() if lines else ""
    if not re.match(r"[A-Za-z]:\\|\\\\", path):
        raise Unreadable(f"expected a folder, got {text[:200]!r}")
    numbers = re.findall(r"\d+", lines[-1]) if len(lines) > 1 else []
    return Folder(path, int(numbers[-1]) if numbers else None)


def parse_state(text: str) -> FileState | None:
    """``SIZE ATTRIBUTES``, as ``for`` expands them."""
    if not text.strip():
        return None
    match = re.fullmatch(r"\s*(\d*) ([a-z-]{9,})\s*", text)
    if not match:
        raise Unreadable(f"expected a size and attributes, got {text[:200]!r}")
    return FileState(int(match[1] or 0), "r" in match[2])


def parse_sha256(text: str) -> str:
    """Parse ``certutil -hashfile``: localised text around one line of digits."""
    match = re.search(r"^((?:[0-9a-fA-F]{2} ?){32})\s*$", text, re.M)
    if not match:
        raise Unreadable(f"expected a SHA-256, got {text.strip()[:200]!r}")
    return match[1].replace(" ", "").lower()


def parse_sizes(text: str) -> dict[str, int]:
    """``SIZE NAME`` lines; a folder may have no size."""
    pairs = re.findall(r"^(\d*) ([^\r\n]+?)\r?$", text, re.M)
    return {name: int(size or 0) for size, name in pairs}
