"""Files on a device with a POSIX shell: GNU, toybox, busybox and BSD tools alike."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

from edgebench.core import Fact, FileState, Folder
from edgebench.errors import Unreadable

SEAL = 946_684_800
"""Modification time of a verified file: 2000-01-01. Writing to the file changes it."""

_LOCK = """\
# adbd sends it when the connection is lost; the end of standard input means the same.
trap '' HUP
lock={lock} owner={owner}
take() {{ mkdir "$lock" && printf '%s\\n' "$owner" >"$lock/owner"; }}
seen() {{ cat "$lock/owner" 2>/dev/null; }}
until why=$(take 2>&1); do
  [ -d "$lock" ] || {{ printf '%s\\n' "$why"; exit 1; }}
  was=$(seen)
  [ "$was" != "$owner" ] || break
  changed=$({state} "$lock/owner" 2>/dev/null || {state} "$lock" 2>/dev/null) || continue
  # The time of the file system: a workspace may be on a server with another clock.
  now=$(: >"$lock.$$.now" && {state} "$lock.$$.now"); rm -f "$lock.$$.now"
  age=$((${{now#* }} - ${{changed#* }}))
  # A lock from the future: the clock was set back, so its owner has not renewed it either.
  if [ $age -le {lease} ] && [ $age -ge -{lease} ]; then printf 'held %s\\n' "$was"; exit 1; fi
  old="$lock.$$"
  mv "$lock" "$old" 2>/dev/null || continue
  # Another process may have taken it between the check and the move.
  [ "$(cat "$old/owner" 2>/dev/null)" = "$was" ] || {{ mv "$old" "$lock"; continue; }}
  rm -r "$old"
done
# After a lost connection the same owner locks again: its first process must not remove the lock.
echo $$ >"$lock/holder"
let_go() {{ [ "$(cat "$lock/holder" 2>/dev/null)" != $$ ] || rm -r "$lock"; }}
# A dead connection may never be closed, so an expired lease ends its holder, and in mksh its process
# group.
( missed=0
  trap 'missed=0' USR1
  while sleep {step}; do
    missed=$((missed+{step}))
    [ $missed -le {lease} ] || {{ let_go; kill $$; exit; }}
  done ) </dev/null >/dev/null 2>&1 &
echo taken
while read -r beat; do touch "$lock/owner"; kill -USR1 $!; done
kill $!
let_go
"""


class Files:
    """See ``core.Files``. ``state`` and ``digest``: programs that differ between systems."""

    def __init__(self, state: str = "stat -Lc '%s %Y'", digest: str = "sha256sum") -> None:
        self._state, self._digest = state, digest

    def join(self, *parts: str) -> str:
        return "/".join(parts)

    def make_folder(self, path: str) -> Fact[Folder]:
        quoted = shlex.quote(path)
        return Fact(f"mkdir -p {quoted} && cd {quoted} && touch . && pwd && df -Pk .", parse_folder)

    def state(self, path: str) -> Fact[FileState | None]:
        return Fact(f"{self._state} {shlex.quote(path)} 2>/dev/null; true", parse_state)

    def seal(self, path: str) -> str:
        return f"TZ=UTC touch -t 200001010000 {shlex.quote(path)}"

    def sha256(self, path: str) -> Fact[str]:
        return Fact(f"{self._digest} <{shlex.quote(path)}", parse_sha256)

    def sizes(self, folder: str) -> Fact[Mapping[str, int]]:
        print_sizes = f'for f in *; do s=$({self._state} "$f" 2>/dev/null) && printf "%s %s\\n" "${{s%% *}}" "$f"; done'
        return Fact(f"cd {shlex.quote(folder)} 2>/dev/null && {print_sizes}; true", parse_sizes)

    def write_line(self, path: str, line: str) -> str:
        return f"printf '%s\\n' {shlex.quote(line)} >{shlex.quote(path)}"

    def read_lines(self, folder: str) -> Fact[Sequence[str]]:
        command = f"cat {shlex.quote(folder)}/*.json 2>/dev/null; true"
        return Fact(command, str.splitlines)

    def move(self, source: str, target: str) -> str:
        return shlex.join(["mv", "-f", source, target])

    def executable(self, path: str) -> str:
        return shlex.join(["chmod", "755", path])

    def remove(self, paths: Sequence[str]) -> str:
        return shlex.join(["rm", "-rf", *paths])

    def lock(self, path: str, owner: str, lease: int) -> str:
        values = {"lock": shlex.quote(path), "owner": shlex.quote(owner), "lease": lease, "state": self._state}
        return _LOCK.format(**values, step=max(1, lease // 10))


def parse_folder(text: str) -> Folder:
    """Parse ``pwd; df -Pk .`` (POSIX)."""
    path, *table = text.splitlines() or [""]
    if not path.startswith("/"):
        raise Unreadable(f"expected a folder, got {text[:200]!r}")
    match = re.search(r"\s\d+\s+\d+\s+(\d+)\s+\d+%\s", table[-1]) if table else None
    return Folder(path, int(match[1]) * 1024 if match else None)


def parse_state(text: str) -> FileState | None:
    """``SIZE MTIME``, the time in seconds since 1970."""
    words = text.split()
    if not words:
        return None
    if len(words) != 2 or not all(word.lstrip("-").isdigit() for word in words):
        raise Unreadable(f"expected a size and a time, got {text[:200]!r}")
    return FileState(int(words[0]), int(words[1]) == SEAL, int(words[1]))


def parse_sha256(text: str) -> str:
    """Parse the output of ``sha256sum`` and ``shasum -a 256`` for standard input."""
    match = re.match(r"\\?([0-9a-fA-F]{64})\b", text)
    if not match:
        raise Unreadable(f"expected a SHA-256, got {text[:200]!r}")
    return match[1].lower()


def parse_sizes(text: str) -> dict[str, int]:
    """``SIZE NAME`` lines."""
    pairs = (line.split(" ", 1) for line in text.splitlines())
    return {pair[1]: int(pair[0]) for pair in pairs if len(pair) == 2 and pair[0].isdigit()}
