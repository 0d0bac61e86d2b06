"""Supervises the MLCChat app on a phone: the script that runs it, and the reason of its exit from Android's log."""

from __future__ import annotations

import re

from edgebench.core import SILENCED
from edgebench.engines.mlc_screen import PACKAGE

EXIT_MARK = "edgebench: the app is gone"

RUN_SCRIPT = f"""\
p={PACKAGE}
am force-stop $p
log=
end() {{ am force-stop $p; [ -z "$log" ] || kill $log; exit $1; }}
trap 'end 0' INT TERM
trap 'end {SILENCED}' ALRM
am start -W -n $p/.MainActivity || exit 3
n=0
while pid=$(pidof $p); [ -z "$pid" ]; do
  n=$((n+1)); [ $n -lt 100 ] || {{ echo "edgebench: the app did not start"; exit 4; }}
  sleep 0.1
done
logcat -v brief -T 1 --pid=$pid 2>/dev/null & log=$!
while [ -d /proc/$pid ]; do sleep 1; done
kill $log
echo "{EXIT_MARK}"
dumpsys activity exit-info $p | grep -A 3 "pid=$pid "
logcat -v brief -d -t 400 | grep -E "[( ]$pid[ ),]|$p|DEBUG|lowmemorykiller|lmkd" | tail -n 60
exit 1
"""
"""Starts the app, runs as long as it does, and prints Android's log of this process and its exit reason (an
earlier process may have crashed as well)."""

HINTS = (
    (
        "low.?memory|lmkd|out.of.memory|OUT_OF_HOST|OUT_OF_RESOURCES|ALLOCATION_FAILURE|insufficient gpu memory",
        "The phone ran out of memory: use a smaller model, and close other apps.",
    ),
    (
        "UnknownHostException|ConnectException",
        "The app tried to download missing weights without a network: apps before v0.20 read "
        "ndarray-cache.json, later ones tensor-cache.json.",
    ),
)
"""Pattern of the exit reason → hint."""


def exit_reason(text: str) -> str:
    """The system's exit reason: the newest entry of ``dumpsys activity exit-info`` (Android 11 and later);
    empty if there is none."""
    match = re.search(r"reason=\d+ \((.+?)\) (?:subreason=\d+ \((.+?)\) )?status=(-?\d+)", text)
    if not match:
        return ""
    entry = text[match.end() :].split("\n\n", 1)[0]
    description = re.search(r"description=(.*?)(?: state=| trace=|$)", entry, re.M)
    details = [
        match[2] if match[2] and match[2] != "UNKNOWN" else "",
        description[1] if description and description[1] != "null" else "",
    ]
    return ", ".join([f"{match[1]} (status {match[3]})", *filter(None, details)])


_CRASH_PATTERNS = (
    re.compile(r"(lowmemorykiller|lmkd)\b.*?(Kill '?ai\.mlc\.mlcchat.*)"),
    re.compile(r"(libc)\b.*?(Fatal signal .*)"),
    re.compile(r"(DEBUG)\b.*?(Abort message: .*)"),
    re.compile(r"(AndroidRuntime)\b.*?((?:java|kotlin|org|android)\.[\w.$]+(?:Error|Exception).*)"),
    re.compile(r"(TVM_RUNTIME)\b.*?((?:InternalError|Error|Check failed).*|.*CL_OUT_OF\w+.*)"),
    re.compile(r"(ActivityManager)\b.*?(Process ai\.mlc\.mlcchat .*has died.*)"),
)
"""Log lines that explain an exit, the most informative first."""


def find_crash(lines: list[str]) -> str:
    """The line of Android's log that explains the app's exit; empty if there is none."""
    for pattern in _CRASH_PATTERNS:
        for line in reversed(lines):
            if match := pattern.search(line):
                return f"{match[2].strip()[:300]} ({match[1]})"
    return ""


def last_words(lines: list[str]) -> tuple[str, str] | None:
    """(exit reason, hint) from the script's output; None if the app did not exit."""
    if EXIT_MARK not in lines:
        return None
    reason = "; ".join(filter(None, (exit_reason("\n".join(lines[lines.index(EXIT_MARK) :])), find_crash(lines))))
    hint = next((hint for mark, hint in HINTS if re.search(mark, reason, re.I)), "")
    return (reason or "Android's log has no reason", hint)
