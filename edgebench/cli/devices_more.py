"""``edgebench devices trust | check | clean``: what touches a device but measures nothing."""

from __future__ import annotations

import click

from edgebench import profiles
from edgebench.cli.output import ProfileName, json_option, print_json
from edgebench.errors import DeviceRefused

DEVICE = ProfileName("devices")


@click.command("trust")
@click.argument("device", type=DEVICE)
def trust(device: str) -> None:
    """Show a device's host key and, if you say so, know it from now on.

    Compare the fingerprint with what the device itself says, for instance on its own screen:
    ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub
    """
    from edgebench.session import transport_of
    from edgebench.transports.ssh_login import UnknownHostKey

    wire = transport_of(profiles.load_device(device))
    while True:
        try:
            wire.open()
        except UnknownHostKey as unknown:
            click.echo(f"{unknown.name} shows {unknown.key.get_name()} {unknown.fingerprint}", err=True)
            click.confirm("Is that its key?", abort=True, err=True)
            unknown.trust()
            click.echo(f"written to {unknown.file}", err=True)
        else:
            wire.close()
            click.echo(f"{device} is trusted: it can be logged in to", err=True)
            return


@click.command("check")
@click.argument("device", type=DEVICE)
@json_option
@click.pass_context
def check(ctx: click.Context, device: str, as_json: bool) -> None:
    """Try everything a run needs, and say what to do about what doesn't work."""
    from edgebench import checks

    found = []
    for one in checks.run(profiles.load_device(device)):
        found.append(one)
        if not as_json:
            click.echo(f"{'ok ' if one.ok else 'NO '} {one.name}: {one.said}")
            if one.advice:
                click.echo(f"    {one.advice}")
    if as_json:
        print_json({"device": device, "checks": [vars(one) for one in found]})
    ctx.exit(0 if all(one.ok for one in found) else DeviceRefused.exit_code)


@click.command("clean")
@click.argument("device", type=DEVICE)
@click.option("--yes", is_flag=True, help="Remove without asking.")
def clean(device: str, yes: bool) -> None:
    """Remove the models that edgebench put onto a device; runs put back what they need."""
    from edgebench import lock, provision
    from edgebench.session import Session
    from edgebench.views import units

    with Session(profiles.load_device(device)) as session:
        files = session.system.files
        folder = files.join(session.workspace, "models")
        found = [] if session.here else provision.ask(session, files.list(folder))["files"]
        if not found:
            click.echo("nothing to remove", err=True)
            return
        for file in found:
            click.echo(f"{file['name']}  {units.quantity(file['size_b'], 'bytes')}")
        if not yes:
            click.confirm(f"Remove from {device}?", abort=True, err=True)
        with lock.held(session):
            provision.say(session, files.remove([files.join(folder, file["name"]) for file in found]))
    click.echo(f"removed {len(found)}", err=True)
