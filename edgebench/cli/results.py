"""``edgebench results``: list, show and export what was measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from edgebench import plugins
from edgebench.cli import Group
from edgebench.cli.selection import existing, output_option, store_option, terminal, where_options, write
from edgebench.core import Record
from edgebench.store import Where

SHOWN = 20
"""So many results a table lists where nothing was said."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")


@click.group(cls=Group)
def command() -> None:
    """List, show and export results."""


@command.command("list")
@where_options
@store_option
@json_option
def list_(path: Path, where: Where, as_json: bool) -> None:
    """List results, the newest last."""
    from edgebench.views.table import draw

    with existing(path) as store:
        if as_json:
            write(_render("json", list(store.records(where)) if store else []), None)
            return
        if store is None:
            return
        count = store.count(where)
        records = list(store.records(replace(where, newest=where.newest or SHOWN)))
    width, colour = terminal()
    write(draw(records, width=width, colour=colour), None)
    if len(records) < count and where.newest is None:
        click.echo(f"the newest {len(records)} of {count}; all: --newest {count}", err=True)


@command.command()
@click.argument("id")
@store_option
@json_option
@click.option("--log", "with_log", is_flag=True, help="Print the engine's own log of each start.")
def show(id: str, path: Path, as_json: bool, with_log: bool) -> None:
    """Show one result in full. The beginning of its ID is enough."""
    from edgebench import records
    from edgebench.views.detail import detail
    from edgebench.views.text import lines

    with existing(path) as store:
        if store is None:
            raise SystemExit(2)
        record = store.record(id)
        logs = store.logs(record.id)
    if as_json:
        write(records.dumps(records.document([record], samples=True), indent=2) + "\n", None)
    elif with_log:
        write("".join(lines(text).rstrip("\n") + "\n" for text in logs), None)
        if not logs:
            click.echo(f"{record.id} has no log: no engine was started for it", err=True)
    else:
        write(detail(record), None)


@command.command()
@where_options
@store_option
@click.option("--format", "form", default="json", show_default=True, type=click.Choice(plugins.names("views")))
@output_option
def export(path: Path, where: Where, form: str, output: Path | None) -> None:
    """Write results in another form, to stdout or a file."""
    with existing(path) as store:
        write(_render(form, list(store.records(where)) if store else []), output)


def _render(form: str, records: list[Record]) -> str:
    text: str = plugins.load("views", form)().render(records)
    return text
