"""The command line: one file per command, imported only when that command is called."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from io import TextIOWrapper

import click

from edgebench.errors import FULL, EdgebenchError, UnexpectedError, UsageError
from edgebench.version import __version__

COMMANDS = {
    "run": "Measure models on devices.",
    "speculative": "Sweep the number of draft tokens in speculative decoding.",
    "devices": "Manage devices.",
    "models": "Manage models.",
    "report": "Generate a report from the stored results.",
    "compare": "Compare two runs, devices, engines, backends or builds.",
    "results": "Manage results.",
}


class Group(click.Group):
    """A group that suggests the closest command when one is misspelt."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, commands = args[0] if args else "", self.list_commands(ctx)
        if name and not name.startswith("-") and name not in commands:
            from difflib import get_close_matches

            near = get_close_matches(name, commands, n=1)
            ctx.fail(f"unknown command {name!r}. " + (f"Did you mean {near[0]}?" if near else "See --help."))
        return super().resolve_command(ctx, args)


class Lazy(Group):
    """A group whose commands live in ``edgebench.cli.NAME``, each in an attribute ``command``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"edgebench.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="edgebench %(version)s")
def cli() -> None:
    """Benchmark large language models on real devices.

    Run `edgebench run` without options to measure this machine with a small model.
    """


def prefix_device(device: str, error: EdgebenchError) -> str:
    """The error message, prefixed with the device's name unless it starts with it."""
    text = str(error)
    return text if not device or text.startswith(device) else f"{device}: {text}"


def print_error(error: EdgebenchError, device: str = "") -> None:
    """Print an error and its hint to stderr, with control characters escaped.

    ``device``: the device it concerns, if there are several.
    """
    from edgebench.views.text import lines

    click.echo(f"edgebench: {lines(prefix_device(device, error))}", err=True)
    if error.hint:
        click.echo(f"  {lines(error.hint)}", err=True)
    if isinstance(error, UnexpectedError) and error.located:  # no record has it
        click.echo(lines(error.trace), err=True)


def main() -> None:
    """Run the program; print errors as two lines on stderr and exit with their exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A character that the terminal cannot display must not end a run.
            stream.reconfigure(errors="replace")
    try:
        status = cli.main(standalone_mode=False)
    except click.exceptions.Abort as abort:
        if isinstance(abort.__cause__, EOFError):
            # click treats EOFError as Ctrl-D at a prompt; any other is a bug of ours.
            raise abort.__cause__ from None
        click.echo("edgebench: interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except EdgebenchError as error:
        print_error(error)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in FULL:
            raise
        # Discard what stdout still buffers, so that flushing at exit does not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        text = f"cannot write {error.filename or 'the output'}: {error.strerror}"
        print_error(UsageError(text, "Free some disk space and try again; finished rounds are in the store."))
        sys.exit(UsageError.exit_code)
    sys.exit(status if isinstance(status, int) else 0)
