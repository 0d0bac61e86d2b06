"""Windows 10 and 11 behind OpenSSH: cmd.exe runs everything, PowerShell is asked for facts and probe readings."""

from __future__ import annotations

import ntpath
from collections.abc import Mapping, Sequence

from edgebench.core import SILENCED, Command, DeviceFacts, Fact, PageCache, ProbeSource
from edgebench.errors import UsageError
from edgebench.systems import cmd, powershell
from edgebench.systems.posix import BEATS_MISSED
from edgebench.systems.windows_facts import FACTS
from edgebench.systems.windows_files import Files

# The program runs in the foreground and its exit status ends it all. Beside it:
# _find looks for its pid (nothing tells cmd the pid of what it starts: it is what tasklist shows now and
# didn't before); _read takes standard input and leaves a file for each sign of life; _watch counts the
# seconds since the last one. Whichever hears the end ends the program: Windows knows no SIGINT for a
# program without a console of its own. `set /p` may take several lines at once.
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
    """What cmd.exe reaches; ``cmd.script`` says how values get there unread."""

    default_workspace = r"AppData\Local\edgebench\device"
    suffix = ".exe"
    files = Files()

    @property
    def facts(self) -> Mapping[str, Fact[DeviceFacts]]:
        return FACTS

    def quote(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> str:
        return cmd.quote(argv, env)

    def echo(self, text: str) -> str:
        return cmd.script("chcp 65001 >nul\necho !_text!", _text=text)

    def find(self, program: str) -> Fact[str | None]:
        there = cmd.script(f"chcp 65001 >nul\nfor %f in ({program}{self.suffix}) do (echo;%~$PATH:f)")
        return Fact(there, lambda text: text.strip() or None)

    def supervise(self, command: Command, tag: str) -> str:
        if len(command.secrets) > 1:
            raise UsageError("on Windows a program can receive only one secret")
        image = ntpath.basename(command.argv[0])
        words = {
            "tag": tag,
            "shell": cmd.SHELL,
            "missed": BEATS_MISSED,
            "tasks": _TASKS,
            "end": _END.format(tag=tag),
        }
        values = {
            **command.env,
            **{
                name: cmd.line(text.format(**words))
                for name, text in (("_find", _FIND), ("_read", _READ), ("_watch", _WATCH))
            },
            "_run": cmd.quote(command.argv),
            "_image": image if ntpath.splitext(image)[1] else image + self.suffix,
        }
        main = _MAIN.format(**words, silenced=SILENCED)
        if command.cwd is not None:
            values["_folder"] = command.cwd
            main = f'if exist "!_folder!\\" (cd /d "!_folder!"&{main}) else (echo !_folder!: no such folder&exit 1)'
        return cmd.script("".join(f"set /p {name}=\n" for name in command.secrets) + main, **values)

    def loop(self, sources: Mapping[str, ProbeSource], pid: int) -> str:
        return powershell.loop(sources, pid)

    def page_cache(self, path: str) -> PageCache | None:
        """Nothing that comes with Windows looks into the cache of one file."""
        return None
