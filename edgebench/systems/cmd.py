"""Windows' cmd.exe, as its OpenSSH calls it: ``cmd.exe /c "TEXT"``, TEXT untouched."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence

from edgebench.errors import UsageError

COMMAND_LINE = 8150
"""Characters of a TEXT: cmd.exe takes 8191 with its own name."""

_SPECIAL = re.compile(r"""([^\w\\:./-])""", re.ASCII)


def escape(text: str) -> str:
    """Text on a command line in which cmd.exe changes nothing.

    A caret before every special character, quotes and spaces included, so that cmd never is inside
    a quotation and every caret is taken off again. It also breaks ``%NAME%``: cmd looks for a
    variable called ``NAME^``, and leaves what it doesn't find. Raises ``UsageError`` for line breaks.
    """
    if found := re.search(r"[\n\r\0]", text):
        raise UsageError(f"cmd.exe takes no {found[0]!r} in a command: {text[:200]!r}")
    return "".join(f"^{char}" if char.isascii() and _SPECIAL.match(char) else char for char in text)


def quote(argv: Sequence[str], env: Mapping[str, str] | None = None) -> str:
    """A command line that starts a program with exactly this argv.

    Programs take it apart by the rules of CommandLineToArgvW, which ``subprocess.list2cmdline`` follows.
    """
    variables = "".join(f"set {escape(name)}={escape(value)}&" for name, value in (env or {}).items())
    return _short(variables + _program(argv[0]) + "".join(f" {escape(_argument(word))}" for word in argv[1:]))


def script(body: str, **values: str) -> str:
    """A command line that runs a script, in which ``!name!`` stands for a value (names in any case are one).

    The values are variables of the environment, put in after cmd has parsed the script: whatever is
    in them is never read as a command. The script itself is the program's own text.
    """
    variables = "".join(f"set {escape(name)}={escape(value)}&" for name, value in values.items())
    return _short(f"{variables}{SHELL} " + escape(f'"{line(body)}"'))


def line(text: str) -> str:
    """A script's lines as one: cmd /c takes no more. An ``if`` or ``for`` is the last of them: what
    follows would belong to it."""
    return text.replace("\n", "&")


SHELL = "cmd /v:on /q /d /s /c"
"""A cmd.exe that puts in ``!name!``, echoes no commands and runs nobody's AutoRun."""


def _program(path: str) -> str:
    """A program's path, in quotes that cmd itself sees: its name may hold spaces only there."""
    escape(path)
    return '"' + path.replace("%", '"^%"') + '"' if _SPECIAL.search(path) else path


def _argument(word: str) -> str:
    return subprocess.list2cmdline([word]) if word else '""'


def _short(text: str) -> str:
    if len(text) > COMMAND_LINE:
        raise UsageError(
            f"a command for Windows has {len(text)} characters; cmd.exe takes {COMMAND_LINE}",
            "Use shorter paths or fewer options.",
        )
    return text
