"""Options and output that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from edgebench.cli.selection import render, terminal, write
from edgebench.core import Record
from edgebench.errors import UsageError
from edgebench.views.table import draw

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


json_output: Decorator = click.option(
    "--json",
    "json_output",
    metavar="FILE",
    help="Write the records as JSON; - is stdout, where nothing else is written then.",
)


BACKENDS = ("cpu", "cuda", "metal", "opencl", "vulkan", "rocm", "sycl")
"""Those that the engines here are known to have; others are taken at their word."""


def _known_backend(_context: click.Context, _option: click.Parameter, text: str | None) -> str | None:
    name = text.lower() if text else text
    near = get_close_matches(name, BACKENDS, n=1) if name and name not in BACKENDS else []
    if near:
        raise UsageError(f"--backend: there is none called {text!r}", f"Did you mean {near[0]}?")
    return name


backend: Decorator = click.option(
    "--backend",
    callback=_known_backend,
    help=f"{', '.join(BACKENDS)}.  [default: the device's, else cpu]",
)


def emit(records: Sequence[Record], json_to: str | None, view: str) -> None:
    """Records to stdout by a view; as JSON to a file or, alone, to stdout where that was asked for."""
    if json_to is not None:
        write(render("json", records), None if json_to == "-" else Path(json_to))
        if json_to == "-":
            return
    if view == "table":
        width, colour = terminal()
        write(draw(records, width=width, colour=colour), None)
    else:
        write(render(view, records), None)
