"""The sampler's loop as text, for POSIX shells (dash, bash, mksh with toybox, macOS's sh); PowerShell's is in
``powershell``.

What it prints, one item a line:

``! MESSAGE``        a file that couldn't be read, once at the start
``PATH:LINE``        a line of a file; first comes one with the device's clock: ``/proc/uptime`` where a
                     lasting process reads, ``/proc/self/stat`` where a new one does (field 22: its
                     start, in 10 ms since boot)
``% KEY STAT``       end of a tick (KEY ``-``) or of a command; STAT is the loop's own /proc/PID/stat,
                     or ``cpu SECONDS`` where there is no such file
``> KEY TIME LINE``  a line of a command; TIME is /proc/uptime, ``-`` where it can't be read

Starting processes is what costs. On Linux one Perl reads the files, again and again. Without a Perl a
shell that can do it alone (bash, mksh: Android's) reads them and waits without starting anything; in
any other, or where /proc/uptime can't be read, one ``grep`` reads all files of a tick and one
``sleep`` waits. Commands run in loops of their own, with a time limit, so that one that hangs delays
nobody.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

from edgebench.core import ProbeSource

LIMIT_S = 5
"""A command that takes longer is ended."""
TREE_S = 10
"""Seconds between two looks at the engine's child processes: where the kernel doesn't list them
it means reading the status of every process."""

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

# Arguments: pid or 0, seconds between ticks, ticks between looks at the process tree; then for each
# group of files: every so many ticks, wanted lines, paths, paths with $x for each process.
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

# bash and mksh read a file without a fork, each in its own way, and wait on a pipe that nobody writes to.
_ALONE = """\
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


def posix(sources: Mapping[str, ProbeSource], pid: int, *, proc: bool = True, perl: bool = False) -> str:
    """A command line for any POSIX login shell. ``proc``: whether the system has /proc; ``perl``: whether
    it is worth asking for a Perl there."""
    files = {key: source for key, source in sources.items() if source.files}
    commands = {key: source for key, source in sources.items() if source.command}
    alive = "true" if not pid else "[ -d /proc/$p ]" if proc else "kill -0 $p 2>/dev/null"
    script = f"LC_ALL=C; export LC_ALL; p={pid}; t={pid or ''}\n"
    if proc:
        script += _TREE if pid else "tree() { true; }\n"
        script += "b=; grep --line-buffered -q . /dev/null 2>/dev/null; [ $? -eq 1 ] && b=--line-buffered\n"
        script += 'stat() { s=; { read -r s </proc/self/stat; } 2>/dev/null; echo "% $1 $s" || exit; }\n' + _ALONE
    else:
        script += 'stat() { echo "% $1" || exit; }\npause() { sleep $1; }\n'
    script += "u=; sed -u -e p </dev/null >/dev/null 2>&1 && u=-u\n"
    script += "".join(_command(key, source, pid, alive, proc) for key, source in commands.items())
    script += _ticks(list(files.values()), alive, perl) if proc else f"while {alive}; do stat -; sleep 1; done\n"
    if commands:
        script += "kill $j 2>/dev/null\n"
    return "exec sh -c " + (shlex.quote(script) if not proc else f"{shlex.quote(_BEST)} {shlex.quote(script)}")


_BEST = 'command -v perl >/dev/null || b=$(command -v bash); exec ${b:-sh} -c "$0"'
"""A shell that reads files by itself is worth a look, unless there is a Perl."""


_LOOK = """\
c=; look() { r=; for g in $*; do [ -r "$g" ] && r="$r $g"; done; c="$c $*"; }
"""
"""``r`` is what of some files can be read; ``c`` collects them all."""
_COMPLAIN = "grep -cH x $c 2>&1 >/dev/null </dev/null | sed 's/^/! /'"


def _ticks(sources: list[ProbeSource], alive: str, perl: bool) -> str:
    """The loop over files: at each tick those due that want some of their lines, then those that want every line."""
    beat = min((source.interval for source in sources if source.interval), default=1.0)
    again = max(1, round(TREE_S / beat))
    once, body, groups = [_LOOK + "tree; now"], [f"[ $((i % {again})) = 0 ] && tree", "now"], []
    for picky in (True, False):
        chosen = [source for source in sources if bool(source.lines) is picky]
        wanted = _wanted(chosen)
        due = ["f="]
        for number, interval in enumerate(sorted({one.interval for one in chosen})):
            now = [one for one in chosen if one.interval == interval]
            paths = dict.fromkeys(path for one in now for path in one.files)
            name = f"{'p' if picky else 'a'}{number}"
            moving = " ".join(path.replace("{pid}", "$x") for path in paths if "{pid}" in path)
            each = f'for x in $t; do f="$f {moving}"; done' if moving else ":"
            once.append(f"look {' '.join(path for path in paths if '{pid}' not in path)}; {name}=$r")
            once += [f"f=; {each}; look $f"] if moving else []
            add = f'f="$f ${name}"; {each}'
            every = max(1, round(interval / beat))
            if not interval:
                once.append(f"f=; {add}; {wanted}")
            else:
                due.append(f"if [ $((i % {every})) = 0 ]; then {add}; fi" if every > 1 else add)
                groups.append(f'{every} {shlex.quote(_regex(now))} "${name}" {shlex.quote(moving)}')
        if len(due) > 1:
            body += [*due, wanted]
    body += ["tell; stat -", f"pause {beat:g}; i=$((i + 1))"]
    loop = "\n".join(["i=0", f"while {alive}; do", *body, "done"])
    if perl:
        arguments = f"$p {beat:g} {again} {' '.join(groups)}"
        loop = f"perl -e {shlex.quote(_PERL)} {arguments} 2>/dev/null || {{\n{loop}\n}}"
    return "\n".join([*once, _COMPLAIN, "tell; stat -", loop]) + "\n"


def _wanted(sources: Sequence[ProbeSource]) -> str:
    """Read the files in ``f``: their wanted lines as grep takes them, and as a shell does."""
    starts = dict.fromkeys(start for one in sources for start in one.lines)
    pattern = "|".join(re.sub(r"([^\w=:-])", r"\\\1", start) + "*" for start in starts) or "*"
    regex = _regex(sources)
    # grep is to show its own line too: it has the clock.
    return f"lines {shlex.quote(rf'{regex}|^[0-9]+ [(]grep[)]' if regex else '')} {shlex.quote(pattern)}"


def _regex(sources: Sequence[ProbeSource]) -> str:
    """The lines that are wanted, as an extended regular expression; every line where empty."""
    starts = dict.fromkeys(re.sub(r"([][\\.*+?(){}|^$])", r"\\\1", start) for one in sources for start in one.lines)
    return f"^({'|'.join(starts)})" if starts else ""


def _command(key: str, source: ProbeSource, pid: int, alive: str, proc: bool) -> str:
    """A background loop around one command, with its time limit."""
    command = shlex.quote(source.command.replace("{pid}", str(pid)))
    mark = f'sed $u "s/^/> {key} $n /"'
    now = "n=-; { read -r n x </proc/uptime; } 2>/dev/null" if proc else "n=-"
    if not source.interval:
        return f'n=-; sh -c {command} 2>&1 </dev/null | {mark} & j="$j $!"\n'
    limit = f"timeout {LIMIT_S}" if proc else f"perl -e 'alarm shift; exec @ARGV' {LIMIT_S}"
    return (
        f"while kill -0 $$ 2>/dev/null && {alive}; do {now}; {limit} sh -c {command} 2>&1 </dev/null | {mark}; "
        f'stat {key}; pause {source.interval:g}; done & j="$j $!"\n'
    )
