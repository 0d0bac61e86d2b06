"""The command line: one file per command, imported only when that command is called."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from io import TextIOWrapper

import click

from edgebench import __version__
from edgebench.errors import FULL, EdgebenchError, UsageError

COMMANDS = {
    "run": "measure models on devices",
    "speculative": "sweep the draft tokens of speculative decoding",
    "devices": "list, show and check devices",
    "models": "list, show, pull and verify models",
    "report": "write all results as a page, tables or pictures",
    "compare": "say whether two runs, devices, engines or builds differ",
    "results": "list, show, export and import results",
}


class Group(click.Group):
    """A group that names the near command when one is misspelt."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, known = args[0] if args else "", self.list_commands(ctx)
        if name and not name.startswith("-") and name not in known:
            from difflib import get_close_matches

            near = get_close_matches(name, known, n=1)
            ctx.fail(f"no command {name!r}. " + (f"Did you mean {near[0]}?" if near else "See --help."))
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
    """Measure how large language models run on the devices people own.

    Without any option, `edgebench run` measures this machine with a small model.
    """


def of(device: str, error: EdgebenchError) -> str:
    """What went wrong, with the name of the device where it does not begin with it."""
    text = str(error)
    return text if not device or text.startswith(device) else f"{device}: {text}"


def say_error(error: EdgebenchError, device: str = "") -> None:
    """What went wrong and what to do next, on stderr; a device's words in it steer no terminal.
    ``device``: which of several it was."""
    from edgebench.views.text import lines

    click.echo(f"edgebench: {lines(of(device, error))}", err=True)
    if error.hint:
        click.echo(f"  {lines(error.hint)}", err=True)


def main() -> None:
    """The program's entry: errors become two lines on stderr and the exit code they carry."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A name in any script must not end a run in a terminal that cannot show it.
            stream.reconfigure(errors="replace")
    try:
        status = cli.main(standalone_mode=False)
    except click.exceptions.Abort as abort:
        if isinstance(abort.__cause__, EOFError):
            # click takes one for Ctrl-D at a prompt; here somebody's stream ended unforeseen, which is our mistake.
            raise abort.__cause__ from None
        click.echo("edgebench: interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except EdgebenchError as error:
        say_error(error)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in FULL:
            raise
        # What stdout still holds goes nowhere: no second error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        text = f"{error.filename or 'the output'} cannot be written: {error.strerror}"
        say_error(UsageError(text, "Free some space and try again; what was measured is in the store."))
        sys.exit(UsageError.exit_code)
    sys.exit(status if isinstance(status, int) else 0)
