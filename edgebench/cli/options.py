"""Options and output shared by several commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from edgebench import engine_options, plugins
from edgebench.cli.selection import render, store_option, terminal, write
from edgebench.core import Option, Record
from edgebench.plan import ranges
from edgebench.views import speculative, table

Command = Callable[..., object]
Decorator = Callable[[Command], Command]


class Sections(click.Command):
    """A command whose help groups its options under headings.

    ``sections``: heading → flags such as ``--model``; None: all remaining options.
    """

    def __init__(self, *args: Any, sections: Mapping[str, Sequence[str] | None], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sections = sections

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        default_heading = next(heading for heading, flags in self._sections.items() if flags is None)
        heading_of = {flag: heading for heading, flags in self._sections.items() for flag in flags or ()}
        rows: dict[str, list[tuple[str, str]]] = {heading: [] for heading in self._sections}
        for param in self.get_params(ctx):
            if record := param.get_help_record(ctx):
                rows[next((heading_of[flag] for flag in param.opts if flag in heading_of), default_heading)].append(
                    record
                )
        for heading, records in rows.items():
            with formatter.section(heading):
                formatter.write_dl(records)


class Number(click.IntRange):
    """A whole number within a range."""

    name = "whole number"


class Seconds(click.FloatRange):
    """A duration; shown as ``SECONDS``."""

    name = "number of seconds"


class PartName(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.2 only
    """The name of a plugin or one of a list of words, with shell completion."""

    name = "name"

    def __init__(self, kind: plugins.PluginGroup | None = None, words: Sequence[str] = ()) -> None:
        self.kind, self.words = kind, words

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        names = plugins.names(self.kind) if self.kind else self.words
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def backend_option(command: Command) -> Command:
    """``--backend``: a backend of any installed engine; the plan checks it against the chosen one."""
    names = engine_options.all_backends()
    return click.option(
        "--backend",
        type=PartName(words=names),
        callback=lambda _context, _option, text: text.lower() if text else text,
        help=f"Compute backend: {', '.join(names)}.  [default: the device profile's, else cpu]",
    )(command)


def launch_flags() -> tuple[str, ...]:
    """The flags of the launch options of all installed engines."""
    return tuple(shared.option.flag for shared in engine_options.all_options().values())


def launch_options(*, drafting: bool = False, more: Mapping[str, str] | None = None) -> Decorator:
    """The launch options of all installed engines, as texts; ``more``: what to add to the help of some.

    ``drafting``: include those that concern a draft model; each takes a single value.
    """

    def decorate(command: Command) -> Command:
        engines = plugins.names("engines")
        for name, shared in reversed(engine_options.all_options().items()):
            declared = shared.option
            if declared.drafting and not drafting:
                continue
            limits = [] if len(shared.engines) == len(engines) else [f"{', '.join(shared.engines)} only"]
            default = [f"default: {declared.default}"] if declared.default else []
            remarks = "; ".join([*default, *limits])
            text = f"{declared.help}{(more or {}).get(name, '')}." + (f"  [{remarks}]" if remarks else "")
            metavar = "N" if drafting and declared.type is int else declared.metavar
            command = click.option(declared.flag, name, metavar=metavar, help=text)(command)
        return command

    return decorate


def launch_values(texts: Mapping[str, str | None]) -> dict[str, tuple[Option, ...]]:
    """The values of launch options, taken from among ``texts``. Raises ``UsageError``."""
    declared = engine_options.all_options()
    return {
        name: ranges.parse_option(declared[name].option, text)
        for name, text in texts.items()
        if text is not None and name in declared
    }


TERMINAL_VIEWS: Mapping[str, Callable[..., str]] = {"table": table.draw, "speculative": speculative.draw}
"""Views that adapt to the width of the terminal."""


@dataclass(frozen=True)
class OutputOptions:
    """Output options of a run."""

    path: Path
    """The store."""
    name: str
    json_output: str | None
    strict: bool
    """Whether a doubt counts as a failure."""


def output_options(command: Command) -> Command:
    """``--name``, ``--store``, ``--json`` and ``--strict`` as the command's argument ``output``."""

    @click.option("--name", default="", show_default=False, help="Name of this run, e.g. nightly.")
    @store_option
    @click.option(
        "--json",
        "json_output",
        metavar="FILE",
        help="Write the records as JSON to FILE; - writes to stdout, and nothing else is printed there.",
    )
    @click.option("--strict", is_flag=True, help="Exit with code 1 if any result has a doubt.")
    @wraps(command)
    def with_output(*, name: str, path: Path, json_output: str | None, strict: bool, **options: object) -> object:
        return command(output=OutputOptions(path, name, json_output, strict), **options)

    return with_output


def conduct_options(command: Command) -> Command:
    """Measurement options of every plan, as the command's argument ``conduct`` (``planning.Conduct``)."""

    @click.option(
        "--rounds",
        "-r",
        type=Number(1, 1000),
        metavar="N",
        default=5,
        help="Number of rounds; each round runs every trial once.",
    )
    @click.option(
        "--load-timeout",
        type=Seconds(min=0, min_open=True),
        default=300,
        metavar="SECONDS",
        help="Maximum time for an engine to start and become ready.",
    )
    @click.option(
        "--settle",
        type=Seconds(min=0),
        default=120,
        metavar="SECONDS",
        envvar="EDGEBENCH_SETTLE",
        help="Maximum time to wait for the device to cool down and go idle before each trial; 0 disables all "
        "condition checks.",
    )
    @click.option(
        "--wait",
        type=Seconds(min=0),
        is_flag=False,
        flag_value=float("inf"),
        default=0.0,
        metavar="[SECONDS]",
        show_default=False,
        help="Wait for a device that is in use, at most SECONDS if given.  [default: fail if it is in use]",
    )
    @click.option("--seed", type=int, metavar="N", default=0, help="Random seed for trial order and prompts.")
    @wraps(command)
    def with_conduct(
        *, rounds: int, load_timeout: float, settle: float, wait: float, seed: int, **options: object
    ) -> object:
        from edgebench.api.planning import Conduct

        conduct = Conduct(rounds=rounds, seed=seed, settle=settle, wait=wait, load_timeout=load_timeout)
        return command(conduct=conduct, **options)

    return with_conduct


def emit(records: Sequence[Record], json_to: str | None, view: str) -> None:
    """Print records with a view, and write them as JSON if requested; JSON on stdout replaces the view."""
    if json_to is not None:
        write(render("json", records), None if json_to == "-" else Path(json_to))
        if json_to == "-":
            return
    width, colour = terminal()
    write(TERMINAL_VIEWS[view](records, width=width, colour=colour), None)
