"""``edgebench results``: list, show, export and import what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import click

from edgebench import plugins
from edgebench.cli import Group
from edgebench.cli.selection import (
    Chosen,
    existing,
    output_option,
    render,
    store_option,
    terminal,
    where_options,
    whole_file,
    write,
)
from edgebench.core import Record
from edgebench.errors import StoreError, UsageError
from edgebench.store import bundle
from edgebench.store.records import to_json
from edgebench.store.results import Store
from edgebench.store.where import Where

SHOWN = 20
"""So many results a table lists where nothing was said."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")


@click.group(cls=Group)
def command() -> None:
    """List, show, export and import results."""


@command.command("list")
@where_options
@store_option
@json_option
def list_(path: Path, where: Where, as_json: bool) -> None:
    """List results, the newest last."""
    from edgebench.views.table import draw

    with existing(path) as store:
        if as_json:
            write(render("json", Chosen.of(store, where) if store else []), None)
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
    from edgebench.store import records
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


@command.command(short_help="Write results in another form, or as a bundle.")
@where_options
@store_option
@click.option(
    "--format", "form", type=click.Choice([*plugins.names("views"), "parquet"]), help="The form.  [default: json]"
)
@output_option
@click.option(
    "--bundle",
    "bundled",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.zip",
    help="Write a bundle: records, logs, raw samples and their hashes, for `results import`.",
)
def export(path: Path, where: Where, form: str | None, output: Path | None, bundled: Path | None) -> None:
    """Write results in another form, to stdout or a file, or as a bundle."""
    if bundled and (form or output):
        raise click.UsageError("--bundle names its own file and form: leave out --format and -o")
    from edgebench.views.parquet import parquet

    with existing(path) as store:
        if not bundled:
            records: Iterable[Record] = Chosen.of(store, where) if store else ()
            write(parquet(records) if form == "parquet" else render(form or "json", records), output)
        elif store is None or not store.count(where):
            raise UsageError("there are no results to put into a bundle", "See: edgebench results list")
        else:
            with whole_file(bundled) as file:
                digest = bundle.write(file, _entries(store, where))
            click.echo(f"bundle sha256 {digest}", err=True)


@command.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@store_option
def import_(files: tuple[Path, ...], path: Path) -> None:
    """Take the results of bundles into the store.

    Every bundle is checked in full before anything of it is taken in; what is there already stays
    as it is.
    """
    with ExitStack() as stack:
        bundles = [stack.enter_context(bundle.Bundle(file)) for file in files]
        _agree(bundles)
        store = stack.enter_context(Store(path))
        for one in bundles:
            for id in store.among(one.ids):
                store.check(one.entry(id).record)
        for one in bundles:
            new = [store.add(entry.record, entry.logs) for entry in map(one.entry, one.ids)]
            said = f"{sum(new)} new, {len(new) - sum(new)} there already"
            click.echo(f"{one.path}: {said} (sha256 {one.hash})", err=True)


def _agree(bundles: Sequence[bundle.Bundle]) -> None:
    """Read every record once. Raises ``StoreError`` for one that is none, or two under one id."""
    seen: dict[str, bundle.Bundle] = {}
    for one in bundles:
        for id in one.ids:
            record = one.entry(id).record
            other = seen.setdefault(id, one)
            if other is not one and to_json(other.entry(id).record) != to_json(record):
                raise StoreError(
                    f"{id} is in {other.path} and in {one.path}, and is not the same",
                    "One of the two was changed. Nothing was taken in; import them into two stores: --store.",
                )


def _entries(store: Store, where: Where) -> Iterator[bundle.Entry]:
    for record in store.records(where, samples=True):
        # What still runs has no record yet; it will have one, under the same id.
        if record.status != "running":
            yield bundle.Entry(record, tuple(store.logs(record.id)))
