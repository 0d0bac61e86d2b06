"""Output shared by commands: tables, JSON, progress bars and completion of profile names."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence

import click
from click.shell_completion import CompletionItem

from edgebench.core import SCHEMA, Progress
from edgebench.errors import EdgebenchError, UsageError
from edgebench.profiles import ProfileKind

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout.")


ALL = "all"
"""``--device all``: every device profile in ./devices."""


class ProfileName(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.2 only
    """A profile's name or path; the shell completes the names."""

    name = "name"

    def __init__(self, kind: ProfileKind) -> None:
        self.kind = kind

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from edgebench import profiles

        items = [CompletionItem(name) for name in profiles.names(self.kind) if name.startswith(incomplete)]
        return items or [CompletionItem(incomplete, type="file")]


def confirm(question: str, undone: str, hint: str) -> None:
    """Ask for confirmation on stderr.

    Raises ``EdgebenchError`` with ``undone`` if the user declines, ``UsageError`` if stdin is not a terminal.
    """
    try:
        is_confirmed = click.confirm(question, err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise  # Ctrl-C
        click.echo(err=True)
        raise UsageError(f"stdin is not a terminal, so confirmation is impossible; {undone}", hint) from None
    if not is_confirmed:
        raise EdgebenchError(undone)


def print_json(document: Mapping[str, object]) -> None:
    """Print a JSON document with its schema version to stdout."""
    click.echo(json.dumps({"schema": SCHEMA, **document}, indent=2, ensure_ascii=False, default=str))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; on a terminal the last column is truncated to fit."""
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns[:-1]):
        widest = max(cell_len(text) for text in (column, *(row[index] for row in rows)))
        table.add_column(column, min_width=widest, no_wrap=True)
    table.add_column(columns[-1], overflow="ellipsis", no_wrap=True)
    for row in rows:
        table.add_row(
            *(Text(_printable(cell), no_wrap=True, overflow="ellipsis") for cell in row)
        )  # Text: nothing in it is markup
    console = Console(width=None if sys.stdout.isatty() else 1000, highlight=False)
    with console.capture() as capture:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))


def print_facts(facts: Mapping[str, str]) -> None:
    """Print names and values, one pair per line."""
    width = max(map(len, facts))
    for name, value in facts.items():
        click.echo(f"{name:<{width}}  {_printable(value)}".rstrip())


def _printable(text: str) -> str:
    """Text with unprintable characters replaced, so that it cannot control the terminal."""
    return "".join(char if char.isprintable() or char in "\n\u202f" else "\N{REPLACEMENT CHARACTER}" for char in text)


@contextlib.contextmanager
def transfer(label: str) -> Iterator[Progress]:
    """Show the progress of a transfer on stderr; a bar on a terminal, otherwise nothing."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(binary_units=True))
    with Bar(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(label, total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total or None)

        yield show
