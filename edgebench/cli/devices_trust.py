"""``edgebench devices trust``: learn a device's host key."""

from __future__ import annotations

import click

from edgebench import profiles
from edgebench.cli.output import ProfileName, confirm
from edgebench.core import Device


@click.command("trust")
@click.argument("device", type=ProfileName("devices"))
def trust(device: str) -> None:
    """Show a device's host key and, if you say so, know it from now on.

    Compare the fingerprint with what the device itself says, for instance on its own screen:
    ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub
    """
    learn(profiles.load_device(device))
    click.echo(f"{device} is trusted: it can be logged in to", err=True)


def learn(device: Device) -> None:
    """Log in once, and ask about each host key on the way that nobody has said to be the right one.

    Raises as ``Session`` and as ``confirm``.
    """
    from edgebench.device.session import Session
    from edgebench.transports.ssh_known import UnknownHostKey

    while True:
        try:
            with Session(device):
                return
        except UnknownHostKey as unknown:
            click.echo(f"{unknown.name} shows {unknown.key.get_name()} {unknown.fingerprint}", err=True)
            hint = f"Answer in a terminal, or write the key into {unknown.file} yourself: ssh-keyscan prints it."
            confirm("Is that its key?", "the key is not trusted", hint)
            unknown.trust()
            click.echo(f"written to {unknown.file}", err=True)
