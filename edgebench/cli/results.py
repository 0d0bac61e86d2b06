"""``edgebench results``: list, show, export and import results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import click

from edgebench import plugins
from edgebench.cli import Group
from edgebench.cli.selection import (
    Selection,
    open_atomic,
    open_existing,
    output_option,
    render,
    store_option,
    terminal,
    where_options,
    write,
)
from edgebench.core import Record
from edgebench.errors import StoreError, UsageError
from edgebench.store import bundle
from edgebench.store.filters import Filter
from edgebench.store.records import to_json
from edgebench.store.results import Store

DEFAULT_COUNT = 20
"""Results listed by default."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout.")


@click.group(cls=Group)
def command() -> None:
    """Manage results."""


@command.command("list")
@where_options
@store_option
@json_option
def list_(path: Path, where: Filter, as_json: bool) -> None:
    """List results, newest last."""
    from edgebench.views.table import draw

    with open_existing(path) as store:
        if as_json:
            write(render("json", Selection.from_store(store, where) if store else []), None)
            return
        if store is None:
            return
        count = store.count(where)
        records = list(store.records(replace(where, newest=where.newest or DEFAULT_COUNT)))
    width, colour = terminal()
    write(draw(records, width=width, colour=colour), None)
    if len(records) < count and where.newest is None:
        click.echo(f"showing the newest {len(records)} of {count}; show all with --newest {count}", err=True)


@command.command()
@click.argument("id")
@store_option
@json_option
@click.option("--log", "with_log", is_flag=True, help="Print the engine's log of each start.")
def show(id: str, path: Path, as_json: bool, with_log: bool) -> None:
    """Show one result in full. A prefix of its ID is enough."""
    from edgebench.store import records
    from edgebench.views.detail import detail
    from edgebench.views.text import lines

    with open_existing(path) as store:
        if store is None:
            raise SystemExit(2)
        record = store.record(id)
        logs = store.logs(record.id)
    if as_json:
        write(records.dumps(records.document([record], samples=True), indent=2) + "\n", None)
    elif with_log:
        write("".join(lines(text).rstrip("\n") + "\n" for text in logs), None)
        if not logs:
            click.echo(f"{record.id} has no log, because no engine was started", err=True)
    else:
        write(detail(record), None)


@command.command(short_help="Export results to another format or a bundle.")
@where_options
@store_option
@click.option(
    "--format", "form", type=click.Choice([*plugins.names("views"), "parquet"]), help="Output format.  [default: json]"
)
@output_option
@click.option(
    "--bundle",
    "bundled",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.zip",
    help="Write a bundle for `results import`: records, logs, raw samples and checksums.",
)
def export(path: Path, where: Filter, form: str | None, output: Path | None, bundled: Path | None) -> None:
    """Export results to stdout, a file or a bundle."""
    if bundled and (form or output):
        raise click.UsageError("--bundle cannot be combined with --format or --output")
    from edgebench.views.parquet import parquet

    with open_existing(path) as store:
        if not bundled:
            records: Iterable[Record] = Selection.from_store(store, where) if store else ()
            write(parquet(records) if form == "parquet" else render(form or "json", records), output)
        elif store is None or not store.count(where):
            raise UsageError("no results match, so there is nothing to bundle", "See: edgebench results list")
        else:
            with open_atomic(bundled) as file:
                digest = bundle.write(file, _entries(store, where))
            click.echo(f"bundle sha256 {digest}", err=True)


@command.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@store_option
def import_(files: tuple[Path, ...], path: Path) -> None:
    """Import bundles into the store.

    All bundles are verified before anything is imported. Results that are already in the store are left unchanged.
    """
    with ExitStack() as stack:
        bundles = [stack.enter_context(bundle.Bundle(file)) for file in files]
        _check_agreement(bundles)
        store = stack.enter_context(Store(path))
        for source in bundles:
            for id in store.existing_ids(source.ids):
                store.check_conflict(source.entry(id).record)
        for source in bundles:
            new = [store.add(entry.record, entry.logs) for entry in map(source.entry, source.ids)]
            counts = f"{sum(new)} imported, {len(new) - sum(new)} already present"
            click.echo(f"{source.path}: {counts} (sha256 {source.hash})", err=True)


def _check_agreement(bundles: Sequence[bundle.Bundle]) -> None:
    """Read every record once. Raises ``StoreError`` for an invalid one, or for two that share an id."""
    first_with: dict[str, bundle.Bundle] = {}
    for source in bundles:
        for id in source.ids:
            record = source.entry(id).record
            first = first_with.setdefault(id, source)
            if first is not source and to_json(first.entry(id).record) != to_json(record):
                raise StoreError(
                    f"{id} differs between {first.path} and {source.path}",
                    "One of them was modified. Nothing was imported; use --store to import them into two stores.",
                )


def _entries(store: Store, where: Filter) -> Iterator[bundle.Entry]:
    for record in store.records(where, samples=True):
        # A running trial will get its final record under the same id.
        if record.status != "running":
            yield bundle.Entry(record, tuple(store.logs(record.id)))
