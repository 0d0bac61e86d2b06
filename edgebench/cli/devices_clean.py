"""``edgebench devices clean``: remove deployed models from a device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from edgebench import profiles
from edgebench.cli.output import ProfileName, confirm, print_table
from edgebench.errors import UsageError

if TYPE_CHECKING:
    from edgebench.device.provision import DeployedModel


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
        deployed = [] if session.is_local else provision.list_deployed(session)
        if not deployed:
            click.echo("nothing to remove", err=True)
            return
        selection = _select(deployed, models, device)
        rows = [
            (_name(model), units.quantity(model.size_b, "bytes"), model.used or "unknown", model.file)
            for model in selection
        ]
        print_table(("MODEL", "SIZE", "LAST USED", "FILE"), rows)
        if not yes:
            confirm(f"Remove from {device}?", "nothing was removed", "Pass --yes to skip the confirmation prompt.")
        with lock.hold_lock(session):
            provision.remove(session, selection)
    click.echo(f"removed {len(selection)} {'file' if len(selection) == 1 else 'files'} from {device}", err=True)


def _select(deployed: Sequence[DeployedModel], models: Sequence[str], device: str) -> Sequence[DeployedModel]:
    for name in models:
        if not any(_is(model, name) for model in deployed):
            names = ", ".join(model.name or model.file for model in deployed)
            raise UsageError(f"{device} has no model {name}", f"Deployed models: {names}")
    return [model for model in deployed if any(_is(model, name) for name in models)] if models else deployed


def _is(model: DeployedModel, name: str) -> bool:
    return name == model.name or model.file.startswith(name)


def _name(model: DeployedModel) -> str:
    return model.name or ("unfinished" if model.file.endswith(".part") else "unknown")
