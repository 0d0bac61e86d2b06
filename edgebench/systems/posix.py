"""Common to all systems with a POSIX shell: quoting, files, and the watchdog that engines run under."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from edgebench.core import Command, Fact, PageCache, ProbeSource
from edgebench.systems import loops, posix_files

MAX_MISSED_BEATS = 6
"""Seconds without a heartbeat from the controller after which a program is stopped."""


class Posix:
    """A ``core.System`` without its facts and its workspace."""

    suffix = ""
    files = posix_files.Files()

    def quote(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> str:
        return quote(argv, env)

    def echo(self, text: str) -> str:
        return quote(["echo", text])

    def find(self, program: str) -> Fact[str | None]:
        """POSIX, ``command -v``."""
        command = f"command -v {shlex.quote(program)}"
        return Fact(command, lambda text: text.strip() or None)

    def supervise(self, command: Command, tag: str) -> str:
        return supervise(command, tag)

    def loop(self, sources: Mapping[str, ProbeSource], pid: int) -> str:
        return loops.posix_loop(sources, pid)

    def page_cache(self, path: str) -> PageCache | None:
        return None


def quote(argv: Sequence[str], env: Mapping[str, str] | None = None) -> str:
    """A command for sh, dash, bash or mksh that starts exactly this argv."""
    variables = [f"{name}={value}" for name, value in (env or {}).items()]
    return shlex.join([*(["env", *variables] if variables else []), *argv])


# The program runs in the foreground of a subshell that becomes it by exec: in the background a
# shell without job control would make it ignore SIGINT. In parallel, adopted by init so that they are
# not in the program's process tree: a watchdog that counts the seconds since the last heartbeat, and a
# reader that turns lines of standard input into signals. Only constructs that dash, bash and mksh
# with toybox support: no `read -t`, no `wait -n`. A background job's standard input is /dev/null,
# hence file descriptor 3; the shell's own messages about signals are discarded, hence 4. SIGALRM,
# which has no other sender, marks a missing heartbeat in the exit status (core.SILENCED).
_WATCHDOG = """\
exec 3<&0 4>&2 2>/dev/null
{secrets}up() {{ read -r now rest </proc/uptime && echo "$now" || echo -; }}
own() {{ exec sh -c 'echo $PPID'; }}
(
  child=$(own)
  ( (
    watcher=$(own)
    missed=0
    trap 'missed=0' USR1
    ( trap - USR1
      while IFS= read -r word <&3; do
        case $word in
          beat) kill -USR1 $watcher ;;
          stop) kill -INT $child ;;
          term) kill -TERM $child ;;
          kill) kill -KILL $child ;;
        esac
      done
      kill -TERM $child; sleep 2; kill -KILL $child ) &
    while sleep 1 && kill -0 $child; do
      missed=$((missed+1))
      [ $missed -lt {missed} ] || {{ kill -ALRM $child; sleep 3; kill -KILL $child; }}
    done
    kill $! ) >/dev/null 4>&- & )
  echo {tag} pid $child $(up)
  exec 2>&4 4>&-
  {enter}exec {program} </dev/null 3<&-
)
echo {tag} exit $? $(up)
"""


def supervise(command: Command, tag: str) -> str:
    """See ``core.System.supervise``."""
    program = quote(command.argv)
    if command.env:
        program = "env " + quote([f"{name}={value}" for name, value in command.env.items()]) + " " + program
    secrets = "".join(f"IFS= read -r {name} <&3; export {name}\n" for name in command.secrets)
    enter = f"cd {quote([command.cwd])} && " if command.cwd else ""
    script = _WATCHDOG.format(secrets=secrets, enter=enter, program=program, tag=tag, missed=MAX_MISSED_BEATS)
    return "exec sh -c " + shlex.quote(script)
