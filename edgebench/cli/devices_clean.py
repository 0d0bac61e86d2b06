"""``edgebench devices clean``: remove what was put onto a device."""

from __future__ import annotations

import click

from edgebench import profiles
from edgebench.cli.output import ProfileName


@click.command("clean", short_help="Remove models from a device.")
@click.argument("device", type=ProfileName("devices"))
@click.option("--yes", is_flag=True, help="Remove without asking.")
def clean(device: str, yes: bool) -> None:
    """Remove the models that edgebench put onto a device; runs put back what they need."""
    from edgebench.device import lock, provision
    from edgebench.device.session import Session
    from edgebench.views import units
    from edgebench.views.text import clean as printable

    with Session(profiles.load_device(device)) as session:
        files = session.system.files
        folder = files.join(session.workspace, "models")
        found = [] if session.here else provision.ask(session, files.list(folder))["files"]
        if not found:
            click.echo("nothing to remove", err=True)
            return
        for file in found:
            click.echo(f"{printable(file['name'])}  {units.quantity(file['size_b'], 'bytes')}")
        if not yes:
            click.confirm(f"Remove from {device}?", abort=True, err=True)
        with lock.held(session):
            provision.say(session, files.remove([files.join(folder, file["name"]) for file in found]))
    click.echo(f"removed {len(found)}", err=True)
