"""Options and output shared by the commands that read results."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, BinaryIO

import click
from click.core import ParameterSource

from edgebench import plugins
from edgebench.core import Record, Streamed
from edgebench.errors import UsageError
from edgebench.store.filters import Filter
from edgebench.store.results import Store, default_path
from edgebench.store.since import start_time

Command = Callable[..., object]

store_option = click.option(
    "--store",
    "path",
    type=click.Path(path_type=Path),
    default=default_path,
    show_default=False,
    help="SQLite file with the results.  [default: $EDGEBENCH_STORE, else reports/results.sqlite]",
)

output_option = click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Output file.  [default: stdout]"
)

_FILTERS = {
    "run": "Filter by run ID (a prefix is enough) or name",
    "device": "Filter by device",
    "model": "Filter by model",
    "engine": "Filter by engine",
    "backend": "Filter by backend",
    "scenario": "Filter by scenario",
}


def where_options(command: Command) -> Command:
    """``--run``, ``--device``, … ``--since`` as the command's argument ``where``."""

    @wraps(command)
    def with_where(*args: object, since: str | None, newest: int | None, **options: Any) -> object:
        filters = {f"{name}s": options.pop(name) for name in _FILTERS}
        where = Filter(**filters, since=start_time(since, name="--since") if since else "", newest=newest)
        return command(*args, where=where, **options)

    with_where = click.option(
        "--newest", type=click.IntRange(1), metavar="N", help="Limit the output to the N newest results."
    )(with_where)
    with_where = click.option("--since", metavar="WHEN", help="Start date (2026-11-01) or age (90m, 12h, 7d, 2w).")(
        with_where
    )
    for name, text in reversed(_FILTERS.items()):
        with_where = click.option(f"--{name}", multiple=True, metavar="NAME", help=f"{text}; repeatable.")(with_where)
    return with_where


@contextmanager
def open_existing(path: Path) -> Iterator[Store | None]:
    """The store to read, or None and a message if the default one does not exist yet.

    A file named on the command line must exist.
    """
    source = click.get_current_context().get_parameter_source("path")
    if not path.exists() and source is not ParameterSource.COMMANDLINE:
        click.echo(f"no results yet: {path} does not exist", err=True)
        click.echo("  Measure something with `edgebench run`, or pass another file with --store.", err=True)
        yield None
        return
    with Store(path, read_only=True) as store:
        yield store


def check_writable(path: Path, json_to: str | None) -> None:
    """Check that the store is valid and the output writable before anything is fetched or measured.

    Creates nothing. Raises ``UsageError``.
    """
    if path.is_file():
        Store(path, read_only=True).close()
    if json_to in (None, "-"):
        return
    file = Path(json_to)
    near = next(parent for parent in (file, *file.absolute().parents) if parent.exists())
    if file.is_dir() or not os.access(near, os.W_OK) or (near != file and not near.is_dir()):
        raise UsageError(f"--json: cannot write {file}", "Choose another file, or - for stdout.")


def terminal() -> tuple[int | None, bool]:
    """Width of the terminal on stdout (None if stdout is not a terminal) and whether to use colour."""
    if not sys.stdout.isatty():
        return None, False
    coloured = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return shutil.get_terminal_size().columns, coloured


@dataclass(frozen=True)
class Selection:
    """Records of a store, re-read on each iteration, so that few are in memory at once.

    The selection is fixed, even while a run adds records.
    """

    store: Store
    ids: tuple[str, ...]

    @classmethod
    def from_store(cls, store: Store, where: Filter) -> Selection:
        return cls(store, tuple(store.record_ids(where)))

    def __iter__(self) -> Iterator[Record]:
        return self.store.records(Filter(ids=self.ids)) if self.ids else iter(())


def render(view: str, records: Iterable[Record]) -> Iterator[str]:
    """The output of a view in pieces, generated lazily if the view supports streaming."""
    renderer = plugins.guard("views", view, plugins.create("views", view))
    for text in renderer.pieces(records) if isinstance(renderer, Streamed) else [renderer.render(list(records))]:
        if not isinstance(text, str):
            raise plugins.misuse("views", view, f"render gave {type(text).__name__}, not str")
        yield text


def write(content: str | bytes | Iterable[str], output: Path | None) -> None:
    """Write to stdout, or atomically to a file. Raises ``UsageError``.

    Redirected stdout is UTF-8 regardless of the locale, so that ``>`` and ``-o`` give the same file.
    """
    parts: Iterable[str | bytes] = [content] if isinstance(content, str | bytes) else content
    if output is not None:
        with open_atomic(output) as file:
            file.writelines(map(_encoded, parts))
        return
    is_terminal = sys.stdout.isatty()
    for part in parts:
        click.echo(part if is_terminal else _encoded(part), nl=False)


def _encoded(part: str | bytes) -> bytes:
    return part.encode("utf-8", "replace") if isinstance(part, str) else part


@contextmanager
def open_atomic(output: Path) -> Iterator[BinaryIO]:
    """A file that is written atomically: complete at the end, or absent. Raises ``UsageError``."""
    partial = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            yield file
        partial.replace(output)
    except OSError as error:
        raise UsageError(f"cannot write {output}: {error.strerror}", "Choose another file with -o.") from error
    finally:
        with suppress(OSError):
            partial.unlink()
    click.echo(f"wrote {output}", err=True)
