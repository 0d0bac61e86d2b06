"""``edgebench report``: generate a report as HTML, Markdown, CSV, JSON or images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import click
from click.shell_completion import CompletionItem

from edgebench.cli.selection import Selection, open_existing, render, store_option, where_options, write
from edgebench.core import Record
from edgebench.profiles.references import Reference
from edgebench.store.filters import Filter
from edgebench.store.results import Store
from edgebench.views.fields import when
from edgebench.views.report_data import Digest

MAX_WITH_ROUNDS = 1000
"""Newest configurations that are read with the turns of their rounds."""

MAX_WITH_SAMPLES = 3
"""Newest configurations, successful ones first, that are searched for samples for the timeline."""

FORMATS = ("html", "md", "csv", "json", "svg", "png")


class ReferenceName(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.2 only
    """A reference's name or path; the shell completes the names."""

    name = "name"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from edgebench.profiles import references

        items = [CompletionItem(name) for name in references.names() if name.startswith(incomplete)]
        return items or [CompletionItem(incomplete, type="file")]


@click.command()
@where_options
@store_option
@click.option("--format", "form", type=click.Choice(FORMATS), default="html", show_default=True, help="Output format.")
@click.option(
    "-o",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("reports"),
    show_default=True,
    help="Output folder.",
)
@click.option(
    "--reference",
    type=ReferenceName(),
    help="Published results to compare with: edge-2023, or the name or path of a reference file.",
)
@click.option(
    "--serve", "served", is_flag=True, help="Serve the page on localhost and update it while a run is in progress."
)
@click.option(
    "--port", type=click.IntRange(0, 65535), metavar="PORT", default=0, help="Port for --serve.  [default: a free one]"
)
def command(
    path: Path,
    where: Filter,
    form: Literal["html", "md", "csv", "json", "svg", "png"],
    folder: Path,
    reference: str | None,
    served: bool,
    port: int,
) -> None:
    """Generate a report from the stored results.

    The default is a self-contained HTML page, reports/index.html, that works offline. Other formats:
    md (tables and figures), csv (one observation per row), json, svg and png (figures).
    """
    from edgebench.profiles import references

    if served and form != "html":
        raise click.UsageError("--serve requires --format html")
    if reference and form not in ("html", "md"):
        raise click.UsageError("--reference requires --format html or md")
    published = references.load(reference) if reference else None
    if served:
        _serve(path, where, published, port)
        return
    with open_existing(path) as store:
        if store is not None and not store.count(where):
            click.echo("no results match; `edgebench results list` shows all", err=True)
        if form == "csv" or form == "json":  # noqa: PLR1714 - mypy tells the other forms from these two
            write(render(form, Selection.from_store(store, where) if store else []), folder / f"report.{form}")
            return
        digest = gather(store, where) if store else Digest([])
        if form == "html":
            from edgebench.views.html import page

            logs = store.logs if store else (lambda id: [])
            write(page(digest, reference=published, logs=logs, empty=f"Looked in {path}."), folder / "index.html")
        elif form == "md":
            _markdown(digest, folder, published)
        else:
            _pictures(digest.newest, folder, form)


def gather(store: Store, where: Filter) -> Digest:
    """The newest ``ROUNDS`` configurations with rounds, the newest ``SAMPLED`` of them also with samples."""
    digest = Digest(store.records(where, rounds=False))
    newest = sorted(digest.newest, key=lambda record: (record.status == "ok", when(record)))
    digest.replace(
        {record.id: record for record in _read(store, newest[-MAX_WITH_ROUNDS:-MAX_WITH_SAMPLES], samples=False)}
    )
    digest.replace({record.id: record for record in _read(store, newest[-MAX_WITH_SAMPLES:], samples=True)})
    return digest


def _read(store: Store, records: Sequence[Record], *, samples: bool) -> Iterator[Record]:
    ids = [record.id for record in records]
    return store.records(Filter(ids=ids), samples=samples) if ids else iter(())


def _pictures(records: Sequence[Record], folder: Path, form: Literal["svg", "png"]) -> None:
    from edgebench.views.pictures import pictures

    count = 0
    for figure, picture in pictures(records, form):
        write(picture, folder / f"{figure.id}.{form}")
        count += 1
    if records and not count:
        click.echo("the selected results contain no data for any figure", err=True)


def _markdown(digest: Digest, folder: Path, reference: Reference | None) -> None:
    from edgebench.views.markdown_report import render_report
    from edgebench.views.pictures import pictures

    files = []
    for figure, picture in pictures(digest.newest, "svg"):
        write(picture, folder / f"{figure.id}.svg")
        files.append((figure, f"{figure.id}.svg"))
    write(render_report(digest, files, reference), folder / "report.md")


def _serve(path: Path, where: Filter, reference: Reference | None, port: int) -> None:
    from edgebench.cli.serve import serve
    from edgebench.views.html import page

    def version() -> str:
        """A token that changes whenever the store is written to."""
        stamps = []
        for part in (path, path.with_name(f"{path.name}-wal")):
            try:
                stat = part.stat()
            except FileNotFoundError:
                continue
            if stat.st_size:  # reading alone leaves an empty write-ahead log
                stamps.append(f"{stat.st_mtime_ns}.{stat.st_size}")
        return "-".join(stamps) or "empty"

    def draw(current: str) -> str:
        if not path.exists():
            return page([], live=current, empty=f"Looking in {path}.")
        with Store(path, read_only=True) as store:
            return page(
                gather(store, where), reference=reference, logs=store.logs, live=current, empty=f"Looking in {path}."
            )

    serve(draw, version, port)
