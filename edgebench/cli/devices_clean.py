"""``edgebench devices clean``: remove what was put onto a device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from edgebench import profiles
from edgebench.cli.output import ProfileName, confirm, print_table
from edgebench.errors import UsageError

if TYPE_CHECKING:
    from edgebench.device.provision import Placed


@click.command("clean", short_help="Remove models from a device.")
@click.argument("device", type=ProfileName("devices"))
@click.argument("models", nargs=-1, type=ProfileName("models"))
@click.option("--yes", is_flag=True, help="Remove without asking.")
def clean(device: str, models: Sequence[str], yes: bool) -> None:
    """Remove the models that edgebench put onto a device; runs put back what they need.

    MODELS are names or beginnings of file names as it lists them; all of them where none is given.
    """
    from edgebench.device import lock, provision
    from edgebench.device.session import Session
    from edgebench.views import units

    with Session(profiles.load_device(device)) as session:
        found = [] if session.is_local else provision.placed(session)
        if not found:
            click.echo("nothing to remove", err=True)
            return
        chosen = _chosen(found, models, device)
        rows = [(_name(one), units.quantity(one.size_b, "bytes"), one.used or "unknown", one.file) for one in chosen]
        print_table(("MODEL", "SIZE", "LAST USED", "FILE"), rows)
        if not yes:
            confirm(f"Remove from {device}?", "nothing was removed", "Give --yes to remove without asking.")
        with lock.held(session):
            provision.remove(session, chosen)
    click.echo(f"removed {len(chosen)}", err=True)


def _chosen(found: Sequence[Placed], models: Sequence[str], device: str) -> Sequence[Placed]:
    for name in models:
        if not any(_is(one, name) for one in found):
            there = ", ".join(one.name or one.file for one in found)
            raise UsageError(f"{name} is not on {device}", f"There: {there}")
    return [one for one in found if any(_is(one, name) for name in models)] if models else found


def _is(one: Placed, name: str) -> bool:
    return name == one.name or one.file.startswith(name)


def _name(one: Placed) -> str:
    return one.name or ("unfinished" if one.file.endswith(".part") else "unknown")
