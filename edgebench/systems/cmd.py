"""Windows' cmd.exe, as its OpenSSH calls it: ``cmd.exe /c "TEXT"``, TEXT untouched."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence

from edgebench.errors import UsageError

MAX_COMMAND_CHARS = 8150
"""Characters of a TEXT: cmd.exe takes 8191 with its own name."""

_SPECIAL = re.compile(r"""([^\w\\:./-])""", re.ASCII)


def escape(text: str) -> str:
    """Text on a command line in which cmd.exe changes nothing.

    A caret before every special character, quotes and spaces included, so that cmd is never inside
    quotes and removes every caret. It also breaks ``%NAME%``: cmd looks for a variable called
    ``NAME^`` and leaves unknown ones as they are. Raises ``UsageError`` for line breaks.
    """
    if match := re.search(r"[\n\r\0]", text):
        raise UsageError(f"cmd.exe takes no {match[0]!r} in a command: {text[:200]!r}")
    return "".join(f"^{char}" if char.isascii() and _SPECIAL.match(char) else char for char in text)


def quote(argv: Sequence[str], env: Mapping[str, str] | None = None) -> str:
    """A command line that starts a program with exactly this argv.

    Programs split it by the rules of CommandLineToArgvW, which ``subprocess.list2cmdline`` follows.
    """
    variables = "".join(f"set {escape(name)}={escape(value)}&" for name, value in (env or {}).items())
    return _check_length(variables + _program(argv[0]) + "".join(f" {escape(_argument(word))}" for word in argv[1:]))


def script_command(body: str, **values: str) -> str:
    """A command line that runs a script, in which ``!name!`` is replaced by a value (names are case-insensitive).

    The values are environment variables, expanded after cmd has parsed the script, so they are never
    interpreted as commands. The script itself is constant.
    """
    variables = "".join(f"set {escape(name)}={escape(value)}&" for name, value in values.items())
    return _check_length(f"{variables}{SHELL} " + escape(f'"{join_lines(body)}"'))


def join_lines(text: str) -> str:
    """Join a script's lines, since cmd /c takes only one. An ``if`` or ``for`` must be the last: lines after
    it would belong to it."""
    return text.replace("\n", "&")


SHELL = "cmd /v:on /q /d /s /c"
"""A cmd.exe that expands ``!name!``, echoes no commands and runs no AutoRun."""


def _program(path: str) -> str:
    """A program's path, in quotes that cmd itself parses: only there may its name contain spaces."""
    escape(path)
    return '"' + path.replace("%", '"^%"') + '"' if _SPECIAL.search(path) else path


def _argument(word: str) -> str:
    return subprocess.list2cmdline([word]) if word else '""'


def _check_length(text: str) -> str:
    if len(text) > MAX_COMMAND_CHARS:
        raise UsageError(
            f"a command for Windows has {len(text)} characters; cmd.exe takes {MAX_COMMAND_CHARS}",
            "Use shorter paths or fewer options.",
        )
    return text
