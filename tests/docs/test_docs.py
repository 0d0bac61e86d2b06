"""The commands in the documents are the commands there are, and links lead somewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from lab.paths import ROOT

from edgebench.cli import cli

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def commands(page: Path) -> Iterator[str]:
    """Lines of code blocks that call edgebench."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for block in re.findall(r"^```(?:sh|console|bash)?\n(.*?)^```", text, re.M | re.S):
        for line in block.splitlines():
            call = line.removeprefix("$ ").strip()
            if call.startswith("edgebench "):
                yield call


CALLS = [(page, line) for page in PAGES for line in commands(page)]


@pytest.mark.parametrize(("page", "line"), CALLS, ids=[f"{page.name}: {line}" for page, line in CALLS])
def test_commands_in_the_documents_parse(page: Path, line: str) -> None:
    command: click.Command = cli
    args = shlex.split(line, comments=True)[1:]
    context = click.Context(cli, info_name="edgebench")
    while isinstance(command, click.Group) and args and not args[0].startswith("-"):
        name, found, args = command.resolve_command(context, args)
        assert found is not None
        command = found
        context = click.Context(command, info_name=name, parent=context)
    # Types are checked and names are looked for; nothing is run.
    try:
        command.make_context(context.info_name, args, parent=context.parent)
    except click.exceptions.Exit as end:
        assert end.exit_code == 0  # --help, --version


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_documents_call_every_command() -> None:
    called = {shlex.split(line, comments=True)[1] for _, line in CALLS}
    assert called >= set(cli.list_commands(click.Context(cli)))


def test_the_help_of_run_has_every_option_once_with_its_meaning() -> None:
    context = click.Context(cli, info_name="edgebench")
    _, command, _ = cli.resolve_command(context, ["run"])
    assert command is not None
    context = click.Context(command, info_name="run", help_option_names=["-h", "--help"])
    shown = command.get_help(context)
    for param in command.get_params(context):
        flag = max(param.opts, key=len)
        assert len(re.findall(rf"^  (?:-\w, )?{flag}\b(?!-)", shown, re.M)) == 1, flag
        assert isinstance(param, click.Option)
        assert param.help
        assert param.help[:1].isupper(), f"{flag}: {param.help}"
