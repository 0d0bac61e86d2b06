"""Windows 10 and 11 behind OpenSSH: cmd.exe runs all commands, PowerShell reports facts and probe samples."""

from __future__ import annotations

import ntpath
from collections.abc import Mapping, Sequence

from edgebench.core import SILENCED, Command, DeviceFacts, Fact, PageCache, ProbeSource
from edgebench.errors import UsageError
from edgebench.systems import cmd, powershell
from edgebench.systems.posix import MAX_MISSED_BEATS
from edgebench.systems.windows_facts import FACTS
from edgebench.systems.windows_files import Files

# The program runs in the foreground. In parallel: _find determines its pid (cmd does not report the pid
# of what it starts: it is the one that tasklist did not list before); _read reads standard input and
# creates a file for each heartbeat; _watch counts the seconds since the last one. _read and _watch end
# the program: Windows has no SIGINT for a program without its own console. `set /p` may read several
# lines at once.
_TASKS = 'tasklist /fi "imagename eq !_image!" /fo csv /nh'
_MAIN = """\
{tasks} >"!TEMP!\\{tag}.was"
start "" /b {shell} "!_find!" 2>nul <nul
start "" /b {shell} "!_watch!" >nul 2>nul <nul
start "" /b {shell} "!_read!" >nul 2>nul
echo {tag} start 0 -
cmd /d /s /c "!_run!" <nul
set _status=!errorlevel!
(if exist "!TEMP!\\{tag}.silent" (set _status={silenced}))
echo {tag} exit !_status! -
del "!TEMP!\\{tag}*" 2>nul
exit 0"""
_FIND = """\
for /l %i in (1,1,100) do (for /f "tokens=2 delims=," %a in ('{tasks}') do (set _pid=%~a
find \"""!_pid!\""" "!TEMP!\\{tag}.was" >nul
if errorlevel 1 (echo !_pid!>"!TEMP!\\{tag}.pid"&echo {tag} pid !_pid! -&exit)))"""
_READ = """\
for /l %i in (0,0,1) do (set _word=
set /p _word=
if "!_word!"=="stop" ({end}) else (if "!_word!"=="term" ({end}) else (if "!_word!"=="kill" ({end}) else (\
if defined _word (if exist "!TEMP!\\{tag}.was" (type nul >"!TEMP!\\{tag}.beat")) else ({end})))))"""
_WATCH = """\
for /l %i in (0,0,1) do (ping -n 2 127.0.0.1 >nul
if exist "!TEMP!\\{tag}.beat" (set _missed=0&del "!TEMP!\\{tag}.beat") else (set /a _missed+=1 >nul
if !_missed! geq {missed} (type nul >"!TEMP!\\{tag}.silent"&{end})))"""
_END = 'if exist "!TEMP!\\{tag}.pid" (set /p _pid=<"!TEMP!\\{tag}.pid"&taskkill /f /pid !_pid!&exit)'


class Windows:
    """Windows through cmd.exe; see ``cmd.script_command`` for how values are passed uninterpreted."""

    default_workspace = r"AppData\Local\edgebench\device"
    suffix = ".exe"
    files = Files()

    @property
    def facts(self) -> Mapping[str, Fact[DeviceFacts]]:
        return FACTS

    def quote(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> str:
        return cmd.quote(argv, env)

    def echo(self, text: str) -> str:
        return cmd.script_command("chcp 65001 >nul\necho !_text!", _text=text)

    def find(self, program: str) -> Fact[str | None]:
        command = cmd.script_command(f"chcp 65001 >nul\nfor %f in ({program}{self.suffix}) do (echo;%~$PATH:f)")
        return Fact(command, lambda text: text.strip() or None)

    def supervise(self, command: Command, tag: str) -> str:
        if len(command.secrets) > 1:
            raise UsageError("on Windows a program can receive only one secret")
        image = ntpath.basename(command.argv[0])
        placeholders = {
            "tag": tag,
            "shell": cmd.SHELL,
            "missed": MAX_MISSED_BEATS,
            "tasks": _TASKS,
            "end": _END.format(tag=tag),
        }
        values = {
            **command.env,
            **{
                name: cmd.join_lines(text.format(**placeholders))
                for name, text in (("_find", _FIND), ("_read", _READ), ("_watch", _WATCH))
            },
            "_run": cmd.quote(command.argv),
            "_image": image if ntpath.splitext(image)[1] else image + self.suffix,
        }
        script = _MAIN.format(**placeholders, silenced=SILENCED)
        if command.cwd is not None:
            values["_folder"] = command.cwd
            script = f'if exist "!_folder!\\" (cd /d "!_folder!"&{script}) else (echo !_folder!: no such folder&exit 1)'
        return cmd.script_command("".join(f"set /p {name}=\n" for name in command.secrets) + script, **values)

    def loop(self, sources: Mapping[str, ProbeSource], pid: int) -> str:
        return powershell.loop(sources, pid)

    def page_cache(self, path: str) -> PageCache | None:
        """None: Windows has no tool that inspects the page cache of a file."""
        return None
