"""What every system with a POSIX shell shares: quoting and the watcher that engines run under."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from edgebench.core import Command

BEATS_MISSED = 6
"""Seconds without a word from the controller after which a program is ended."""


def quote(argv: Sequence[str]) -> str:
    """One line of sh, dash, bash or mksh that starts exactly this argv."""
    return shlex.join(argv)


# The watcher. Three shells: the program's own (becomes the program by exec), a reader that turns
# lines of standard input into signals, and the watcher itself, which counts the seconds since the
# last one. Only constructs that dash, bash and mksh with toybox have: no `read -t`, no `wait -n`.
# In a shell without job control a background job's standard input is /dev/null and SIGINT is
# ignored in it, hence file descriptor 3 and TERM as the polite word after INT.
_WATCHER = """\
exec 3<&0
{secrets}up() {{ read -r now rest 2>/dev/null </proc/uptime && echo "$now" || echo -; }}
( {enter}exec {program} ) </dev/null 3<&- & child=$!
echo {tag} pid $child $(up)
missed=0
trap 'missed=0' USR1
trap 'kill -INT $child; kill -TERM $child' HUP TERM INT
me=$$
( trap - HUP TERM INT USR1
  while IFS= read -r word <&3; do
    case $word in
      beat) kill -USR1 $me ;;
      stop) kill -INT $child ;;
      term) kill -TERM $child ;;
      kill) kill -KILL $child ;;
    esac
  done
  kill -TERM $child; sleep 2; kill -KILL $child ) >/dev/null 2>&1 &
reader=$!
( trap - HUP TERM INT USR1
  while kill -0 $child; do
    sleep 1; kill -ALRM $me || exit
  done ) >/dev/null 2>&1 3<&- &
clock=$!
trap 'missed=$((missed+1)); [ $missed -lt {missed} ] || kill -KILL $child' ALRM
while :; do
  wait $child; status=$?
  kill -0 $child 2>/dev/null || break
done
wait $child 2>/dev/null; last=$?
[ $last -eq 127 ] || status=$last
kill $reader $clock 2>/dev/null
echo {tag} exit $status $(up)
exit 0
"""


def supervise(command: Command, tag: str) -> str:
    """See ``core.System.supervise``."""
    program = quote(command.argv)
    if command.env:
        program = "env " + quote([f"{name}={value}" for name, value in command.env.items()]) + " " + program
    secrets = "".join(f"IFS= read -r {name} <&3; export {name}\n" for name in command.secrets)
    enter = f"cd {quote([command.cwd])} && " if command.cwd else ""
    return _WATCHER.format(secrets=secrets, enter=enter, program=program, tag=tag, missed=BEATS_MISSED)
