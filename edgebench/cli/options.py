"""Options and output that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import wraps
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from edgebench import plugins
from edgebench.cli.selection import render, store_option, terminal, write
from edgebench.core import Record
from edgebench.errors import UsageError
from edgebench.views import speculative, table

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Sections(click.Command):
    """A command with so many options that its help needs headings.

    ``sections``: heading → flags such as ``--model``; None: all that no other heading has.
    """

    def __init__(self, *args: Any, sections: Mapping[str, Sequence[str] | None], **rest: Any) -> None:
        super().__init__(*args, **rest)
        self._sections = sections

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        other = next(heading for heading, flags in self._sections.items() if flags is None)
        of = {flag: heading for heading, flags in self._sections.items() for flag in flags or ()}
        rows: dict[str, list[tuple[str, str]]] = {heading: [] for heading in self._sections}
        for param in self.get_params(ctx):
            if record := param.get_help_record(ctx):
                rows[next((of[flag] for flag in param.opts if flag in of), other)].append(record)
        for heading, records in rows.items():
            with formatter.section(heading):
                formatter.write_dl(records)


class Number(click.IntRange):
    """A whole number of a range, called what people call it."""

    name = "whole number"


class Seconds(click.FloatRange):
    """A time; shown as ``SECONDS``."""

    name = "number of seconds"


class PartName(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.2 only
    """The name of an engine or a scenario, or one of some words; the shell completes it."""

    name = "name"

    def __init__(self, kind: plugins.PluginGroup | None = None, words: Sequence[str] = ()) -> None:
        self.kind, self.words = kind, words

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        names = plugins.names(self.kind) if self.kind else self.words
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


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
    type=PartName(words=BACKENDS),
    callback=_known_backend,
    help=f"What computes: {', '.join(BACKENDS)}.  [default: the device's, else cpu]",
)


DRAWN: Mapping[str, Callable[..., str]] = {"table": table.draw, "speculative": speculative.draw}
"""The views that fit themselves to a terminal."""


@dataclass(frozen=True)
class Outcome:
    """What is to become of a run."""

    path: Path
    """The store."""
    name: str
    json_output: str | None
    strict: bool
    """Whether a doubt is a failure."""


def outcome(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--name``, ``--store``, ``--json`` and ``--strict`` as the command's argument ``outcome``."""

    @click.option("--name", default="", show_default=False, help="What to call this run, such as nightly.")
    @store_option
    @click.option(
        "--json",
        "json_output",
        metavar="FILE",
        help="Write the records as JSON; - is stdout, where nothing else is written then.",
    )
    @click.option("--strict", is_flag=True, help="Exit with 1 where there is any doubt.")
    @wraps(command)
    def with_outcome(*, name: str, path: Path, json_output: str | None, strict: bool, **options: Any) -> Any:
        return command(outcome=Outcome(path, name, json_output, strict), **options)

    return with_outcome


def how(command: Callable[..., Any]) -> Callable[..., Any]:
    """How a plan is carried out, whatever it measures: as the command's argument ``how``, fields of ``Plan``."""

    @click.option("--rounds", "-r", type=Number(1, 1000), metavar="N", default=5, help="Passes over everything.")
    @click.option(
        "--load-timeout",
        type=Seconds(min=0, min_open=True),
        default=300,
        metavar="SECONDS",
        help="How long an engine may take until it answers.",
    )
    @click.option(
        "--settle",
        type=Seconds(min=0),
        default=120,
        metavar="SECONDS",
        envvar="EDGEBENCH_SETTLE",
        help="Longest wait before each trial until the device is cool and quiet; 0: look at it neither before nor "
        "after.",
    )
    @click.option(
        "--wait",
        type=Seconds(min=0),
        is_flag=False,
        flag_value=float("inf"),
        default=0.0,
        metavar="[SECONDS]",
        show_default=False,
        help="Wait for a device that somebody else has, for so long or until it is free.  [default: say who has it]",
    )
    @click.option("--seed", type=int, metavar="N", default=0, help="Of the order of trials and of the prompts.")
    @wraps(command)
    def with_how(*, rounds: int, load_timeout: float, settle: float, wait: float, seed: int, **options: Any) -> Any:
        fields = {"rounds": rounds, "load_timeout": load_timeout, "settle": settle, "wait": wait, "seed": seed}
        return command(how=fields, **options)

    return with_how


def emit(records: Sequence[Record], json_to: str | None, view: str) -> None:
    """Records to stdout by a view; as JSON to a file or, alone, to stdout where that was asked for."""
    if json_to is not None:
        write(render("json", records), None if json_to == "-" else Path(json_to))
        if json_to == "-":
            return
    width, colour = terminal()
    write(DRAWN[view](records, width=width, colour=colour), None)
