"""A picture of a command in a terminal: `python docs/terminal.py OUT.svg edgebench run`.

The command runs in a terminal of its own (a pty), so what is drawn is what a person sees at its end.
"""

from __future__ import annotations

import os
import pty
import re
import shlex
import sys
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS = 108
# No web fonts: the picture asks nobody for anything.
FORMAT = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<style>
.{unique_id}-matrix {{ font: {char_height}px ui-monospace, Menlo, Consolas, monospace; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}</defs>
<rect fill="#292929" width="{width}" height="{height}" rx="8"/>
<g transform="translate(12, 12)">{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g>
</svg>
"""


def seen(argv: list[str]) -> str:
    """Everything a command writes to its terminal."""
    pieces: list[bytes] = []

    def read(terminal: int) -> bytes:
        data = os.read(terminal, 65_536)
        pieces.append(data)
        return data

    os.environ.update(COLUMNS=str(COLUMNS), TERM="xterm-256color")
    if pty.spawn(argv, read) != 0:
        sys.exit("the command failed")
    return b"".join(pieces).decode()


def main() -> None:
    out, *argv = sys.argv[1:]
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True, color_system="256")
    console.print(Text("$ " + shlex.join(argv), style="bold"))
    text = seen(argv).replace("\r\n", "\n")
    shown: list[str] = []
    for line in text.split("\n"):  # not splitlines: a lone carriage return draws over
        if line.count("\x1b[1A"):
            del shown[-line.count("\x1b[1A") :]  # a line that was there for a while
        last = re.sub(r"\x1b\[(\?25[hl]|1A)", "", line.split("\r")[-1].split("\x1b[2K")[-1])
        if last.strip() or not line.strip():
            shown.append(last)
    for line in shown:
        console.print(Text.from_ansi(line))
    Path(out).write_text(console.export_svg(code_format=FORMAT), encoding="utf-8")


if __name__ == "__main__":
    main()
