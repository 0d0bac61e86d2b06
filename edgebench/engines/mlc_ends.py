"""How the MLCChat app lives and ends on a phone: the script that watches it, and what Android's log says of its end."""

from __future__ import annotations

import re

from edgebench.core import SILENCED
from edgebench.engines.mlc_screen import PACKAGE

GONE = "edgebench: the app is gone"

SCRIPT = f"""\
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
echo "{GONE}"
dumpsys activity exit-info $p | grep -A 3 "pid=$pid "
logcat -v brief -d -t 400 | grep -E "[( ]$pid[ ),]|$p|DEBUG|lowmemorykiller|lmkd" | tail -n 60
exit 1
"""
"""Starts the app, lives as long as it does, and tells from Android's log what it said and why it ended: this
process of it, since an earlier one may have died as well."""

HINTS = (
    (
        "low.?memory|lmkd|out.of.memory|OUT_OF_HOST|OUT_OF_RESOURCES|ALLOCATION_FAILURE|insufficient gpu memory",
        "The phone had not enough memory: use a smaller model, and close other apps.",
    ),
    (
        "UnknownHostException|ConnectException",
        "The app wanted to download weights that it misses, without a network: apps before v0.20 read "
        "ndarray-cache.json, later ones tensor-cache.json.",
    ),
)
"""What to do about an end, by its words."""


def exit_reason(text: str) -> str:
    """Why the system says that the app ended: the newest entry of ``dumpsys activity exit-info``
    (Android 11 and later); empty where it says nothing."""
    found = re.search(r"reason=\d+ \((.+?)\) (?:subreason=\d+ \((.+?)\) )?status=(-?\d+)", text)
    if not found:
        return ""
    entry = text[found.end() :].split("\n\n", 1)[0]
    why = re.search(r"description=(.*?)(?: state=| trace=|$)", entry, re.M)
    more = [found[2] if found[2] and found[2] != "UNKNOWN" else "", why[1] if why and why[1] != "null" else ""]
    return ", ".join([f"{found[1]} (status {found[3]})", *filter(None, more)])


_DEATHS = (
    re.compile(r"(lowmemorykiller|lmkd)\b.*?(Kill '?ai\.mlc\.mlcchat.*)"),
    re.compile(r"(libc)\b.*?(Fatal signal .*)"),
    re.compile(r"(DEBUG)\b.*?(Abort message: .*)"),
    re.compile(r"(AndroidRuntime)\b.*?((?:java|kotlin|org|android)\.[\w.$]+(?:Error|Exception).*)"),
    re.compile(r"(TVM_RUNTIME)\b.*?((?:InternalError|Error|Check failed).*|.*CL_OUT_OF\w+.*)"),
    re.compile(r"(ActivityManager)\b.*?(Process ai\.mlc\.mlcchat .*has died.*)"),
)
"""What a log says of an end, the most telling first."""


def death(lines: list[str]) -> str:
    """The line of Android's log that says why the app ended; empty where none does."""
    for pattern in _DEATHS:
        for line in reversed(lines):
            if found := pattern.search(line):
                return f"{found[2].strip()[:300]} ({found[1]})"
    return ""


def last_words(lines: list[str]) -> tuple[str, str] | None:
    """Of the script's output, why the app ended and what to do about it; None where it didn't end."""
    if GONE not in lines:
        return None
    words = "; ".join(filter(None, (exit_reason("\n".join(lines[lines.index(GONE) :])), death(lines))))
    hint = next((hint for mark, hint in HINTS if re.search(mark, words, re.I)), "")
    return (words or "Android's log does not say why", hint)
