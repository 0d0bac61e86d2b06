"""``edgebench devices clean``: remove deployed models from a device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from edgebench import profiles
from edgebench.cli.output import ProfileName, confirm, print_table
from edgebench.errors import UsageError

if TYPE_CHECKING:
    from edgebench.device.provision import Placed


@click.command("clean", short_help="Remove deployed models from a device.")
@click.argument("device", type=ProfileName("devices"))
@click.argument("models", nargs=-1, type=ProfileName("models"))
@click.option("--yes", is_flag=True, help="Skip the confirmation prompt.")
def clean(device: str, models: Sequence[str], yes: bool) -> None:
    """Remove the models that edgebench deployed to a device; later runs deploy them again as needed.

    MODELS are model names or prefixes of the listed file names.  [default: all]
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
            confirm(f"Remove from {device}?", "nothing was removed", "Pass --yes to skip the confirmation prompt.")
        with lock.held(session):
            provision.remove(session, chosen)
    click.echo(f"removed {len(chosen)} {'file' if len(chosen) == 1 else 'files'} from {device}", err=True)


def _chosen(found: Sequence[Placed], models: Sequence[str], device: str) -> Sequence[Placed]:
    for name in models:
        if not any(_is(one, name) for one in found):
            there = ", ".join(one.name or one.file for one in found)
            raise UsageError(f"{device} has no model {name}", f"Deployed models: {there}")
    return [one for one in found if any(_is(one, name) for name in models)] if models else found


def _is(one: Placed, name: str) -> bool:
    return name == one.name or one.file.startswith(name)


def _name(one: Placed) -> str:
    return one.name or ("unfinished" if one.file.endswith(".part") else "unknown")
