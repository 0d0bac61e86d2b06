"""The sampler's loop as a script for POSIX shells (dash, bash, mksh with toybox, macOS's sh); PowerShell's
is in ``powershell``.

Output, one item per line:

``! MESSAGE``        a file that cannot be read, once at the start
``PATH:LINE``        a line of a file; each tick starts with the device's clock: ``/proc/uptime`` if
                     one process reads all ticks, ``/proc/self/stat`` if each tick starts a new one
                     (field 22: its start time, in units of 10 ms since boot)
``% KEY STAT``       end of a tick (KEY ``-``) or of a command; STAT is the loop's own /proc/PID/stat,
                     or ``cpu SECONDS`` without such a file
``> KEY TIME LINE``  a line of a command; TIME is /proc/uptime, ``-`` if it cannot be read

Starting processes is the main cost. On Linux one Perl process reads the files of all ticks. Without Perl,
bash and mksh (Android's shell) read them and wait without starting a process; in any other shell, or
if /proc/uptime cannot be read, one ``grep`` reads all files of a tick and one ``sleep`` waits.
Commands run in separate loops with a timeout, so that a hanging command delays no other.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

from edgebench.core import ProbeSource

COMMAND_TIMEOUT_S = 5
"""Timeout of a command."""
TREE_INTERVAL_S = 10
"""Seconds between updates of the engine's process tree: if the kernel does not list child processes,
each update reads the status of every process."""

_TREE = """\
tree() {
t=$p; q=$p
if [ -r /proc/$p/task/$p/children ]; then
while [ -n "$q" ]; do n=
for x in $q; do for f in /proc/$x/task/*/children; do
k=; { read -r k <$f; } 2>/dev/null; n="$n${k:+ $k}"; done; done
t="$t$n"; q=$n; done
else
while [ -n "$q" ]; do n=; e=
for x in $q; do e="$e${e:+|}$x"; done
for f in $(grep -lsE "^PPid:.($e)$" /proc/[0-9]*/status); do
f=${f#/proc/}; n="$n ${f%/status}"; done
t="$t$n"; q=$n; done
fi
}
"""

# Arguments: pid or 0, seconds between ticks, ticks between updates of the process tree; then for each
# group of files: interval in ticks, regex of lines, paths, paths with $x for each process.
_PERL = """\
my($p,$b,$n,@g)=@ARGV;
my($r,$w,@t,$i);
sub text{my$h;local$/;open($h,"<",$_[0])?scalar<$h>:""}
sub show{my($f,$l)=@_;for(split/\\n/,text($f)){print"$f:$_\\n"if/$l/}}
sub tree{my@q=@t=$p||();while(@q){my%q=map{$_,1}@q;@q=();
if(-r"/proc/$p/task/$p/children"){push@q,split" ",text($_) for map{glob"/proc/$_/task/*/children"}keys%q}
else{for(glob"/proc/[0-9]*/stat"){text($_)=~/^(\\d+) \\(.*\\) \\S (\\d+)/s&&$q{$2}&&push@q,$1}}
push@t,@q}}
$r=text("/proc/uptime");$w=(split" ",(split/\\) /,text("/proc/self/stat"))[-1])[19];
exit 1 if !$r||abs($r-$w/100)>9;
for($i=0;!$p||-d"/proc/$p";$i++){
tree()if$i%$n==0;
show("/proc/uptime","");
for(my$k=0;$k<@g;$k+=4){next if$i%$g[$k];
show($_,$g[$k+1])for split(" ",$g[$k+2]),map{my$m=$g[$k+3];$m=~s/\\$x/$_/g;glob$m}@t}
print"% - ",text("/proc/self/stat");
$|=1;$|=0;select undef,undef,undef,$b}
"""

# bash and mksh read a file without a fork, each in its own way, and wait on a pipe without a writer.
_SHELL_ONLY = """\
N='
'
m=; o=; now() { :; }; tell() { :; }; pause() { sleep $1; }
lines() { case $f in *[!\\ ]*) grep $b -sHE "$1" /proc/self/stat $f;; esac; }
if [ "$BASH_VERSION" ]; then
m='set --; mapfile -t a <$g && set -- "${a[@]}"'; w='exec 3<> <(:)'
elif [ "$KSH_VERSION" ]; then
m='set -f; IFS=$N; set -- $(<$g); set +f; unset IFS'
w=': |& exec 3<&p; (exec 3<>/proc/self/fd/3) && exec 3<>/proc/self/fd/3; read -t 0.01 x <&3'
fi
if [ "$m" ]; then
{ read -r s </proc/self/stat; read -r y x </proc/uptime; set -- ${s##*) }; } 2>/dev/null
d=$((${y%.*}0 / 10 - ${20:-0} / 100))
{ eval "$w"; read -t 0.01 x <&3; } 2>/dev/null
[ $? -gt 128 ] && pause() { read -t $1 x <&3; } 2>/dev/null
if [ "$y" ] && [ $d -ge -9 ] && [ $d -le 9 ]; then
now() { read -r y x </proc/uptime; o="/proc/uptime:$y $x$N"; }
lines() {
k="$m; for l; do case \\$l in $2) o=\\$o\\$g:\\$l\\$N;; esac; done"
for g in $f; do eval "$k"; done; } 2>/dev/null
tell() { if [ "$KSH_VERSION" ]; then print -rn -- "$o"; else printf %s "$o"; fi || exit; }
fi; fi
"""


def posix_loop(sources: Mapping[str, ProbeSource], pid: int, *, proc: bool = True, perl: bool = False) -> str:
    """A command line for any POSIX login shell. ``proc``: the system has /proc; ``perl``: use Perl if
    the device has it."""
    files = {key: source for key, source in sources.items() if source.files}
    commands = {key: source for key, source in sources.items() if source.command}
    alive = "true" if not pid else "[ -d /proc/$p ]" if proc else "kill -0 $p 2>/dev/null"
    script = f"LC_ALL=C; export LC_ALL; p={pid}; t={pid or ''}\n"
    if proc:
        script += _TREE if pid else "tree() { true; }\n"
        script += "b=; grep --line-buffered -q . /dev/null 2>/dev/null; [ $? -eq 1 ] && b=--line-buffered\n"
        script += 'stat() { s=; { read -r s </proc/self/stat; } 2>/dev/null; echo "% $1 $s" || exit; }\n' + _SHELL_ONLY
    else:
        script += 'stat() { echo "% $1" || exit; }\npause() { sleep $1; }\n'
    script += "u=; sed -u -e p </dev/null >/dev/null 2>&1 && u=-u\n"
    script += "".join(_command(key, source, pid, alive, proc) for key, source in commands.items())
    script += _tick_loop(list(files.values()), alive, perl) if proc else f"while {alive}; do stat -; sleep 1; done\n"
    if commands:
        script += "kill $j 2>/dev/null\n"
    return "exec sh -c " + (shlex.quote(script) if not proc else f"{shlex.quote(_SELECT_SHELL)} {shlex.quote(script)}")


_SELECT_SHELL = 'command -v perl >/dev/null || b=$(command -v bash); exec ${b:-sh} -c "$0"'
"""Prefers bash, which reads files without a fork, unless there is Perl."""


_FILTER_READABLE = """\
c=; look() { r=; for g in $*; do [ -r "$g" ] && r="$r $g"; done; c="$c $*"; }
"""
"""``look FILE…`` sets ``r`` to the readable files and appends all of them to ``c``."""
_REPORT_UNREADABLE = "grep -cH x $c 2>&1 >/dev/null </dev/null | sed 's/^/! /'"


def _tick_loop(sources: list[ProbeSource], alive: str, perl: bool) -> str:
    """The loop over files: at each tick it reads the files that are due, first those of which only some lines
    are needed, then those of which all lines are."""
    period = min((source.interval for source in sources if source.interval), default=1.0)
    tree_ticks = max(1, round(TREE_INTERVAL_S / period))
    setup, body, groups = [_FILTER_READABLE + "tree; now"], [f"[ $((i % {tree_ticks})) = 0 ] && tree", "now"], []
    for is_filtered in (True, False):
        group_sources = [source for source in sources if bool(source.lines) is is_filtered]
        read_command = _read_lines(group_sources)
        assignments = ["f="]
        for number, interval in enumerate(sorted({source.interval for source in group_sources})):
            interval_sources = [source for source in group_sources if source.interval == interval]
            paths = dict.fromkeys(path for source in interval_sources for path in source.files)
            name = f"{'p' if is_filtered else 'a'}{number}"
            process_paths = " ".join(path.replace("{pid}", "$x") for path in paths if "{pid}" in path)
            add_process_paths = f'for x in $t; do f="$f {process_paths}"; done' if process_paths else ":"
            setup.append(f"look {' '.join(path for path in paths if '{pid}' not in path)}; {name}=$r")
            setup += [f"f=; {add_process_paths}; look $f"] if process_paths else []
            add = f'f="$f ${name}"; {add_process_paths}'
            ticks = max(1, round(interval / period))
            if not interval:
                setup.append(f"f=; {add}; {read_command}")
            else:
                assignments.append(f"if [ $((i % {ticks})) = 0 ]; then {add}; fi" if ticks > 1 else add)
                groups.append(f'{ticks} {shlex.quote(_regex(interval_sources))} "${name}" {shlex.quote(process_paths)}')
        if len(assignments) > 1:
            body += [*assignments, read_command]
    body += ["tell; stat -", f"pause {period:g}; i=$((i + 1))"]
    loop = "\n".join(["i=0", f"while {alive}; do", *body, "done"])
    if perl:
        arguments = f"$p {period:g} {tree_ticks} {' '.join(groups)}"
        loop = f"perl -e {shlex.quote(_PERL)} {arguments} 2>/dev/null || {{\n{loop}\n}}"
    return "\n".join([*setup, _REPORT_UNREADABLE, "tell; stat -", loop]) + "\n"


def _read_lines(sources: Sequence[ProbeSource]) -> str:
    """A command that reads the needed lines of the files in ``f``, as a grep regex and as a shell pattern."""
    prefixes = dict.fromkeys(prefix for source in sources for prefix in source.lines)
    pattern = "|".join(re.sub(r"([^\w=:-])", r"\\\1", prefix) + "*" for prefix in prefixes) or "*"
    regex = _regex(sources)
    # grep must also print its own stat line, which has the clock.
    return f"lines {shlex.quote(rf'{regex}|^[0-9]+ [(]grep[)]' if regex else '')} {shlex.quote(pattern)}"


def _regex(sources: Sequence[ProbeSource]) -> str:
    """An extended regular expression for the needed lines; empty: all lines."""
    prefixes = dict.fromkeys(
        re.sub(r"([][\\.*+?(){}|^$])", r"\\\1", prefix) for source in sources for prefix in source.lines
    )
    return f"^({'|'.join(prefixes)})" if prefixes else ""


def _command(key: str, source: ProbeSource, pid: int, alive: str, proc: bool) -> str:
    """A background loop around one command, with its time limit."""
    command = shlex.quote(source.command.replace("{pid}", str(pid)))
    prefix_lines = f'sed $u "s/^/> {key} $n /"'
    read_uptime = "n=-; { read -r n x </proc/uptime; } 2>/dev/null" if proc else "n=-"
    if not source.interval:
        return f'n=-; sh -c {command} 2>&1 </dev/null | {prefix_lines} & j="$j $!"\n'
    timeout = f"timeout {COMMAND_TIMEOUT_S}" if proc else f"perl -e 'alarm shift; exec @ARGV' {COMMAND_TIMEOUT_S}"
    return (
        f"while kill -0 $$ 2>/dev/null && {alive}; do {read_uptime}; {timeout} sh -c {command} 2>&1 </dev/null "
        f'| {prefix_lines}; stat {key}; pause {source.interval:g}; done & j="$j $!"\n'
    )
