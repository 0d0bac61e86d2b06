"""``edgebench devices trust``: add a device's host key to known_hosts."""

from __future__ import annotations

import click

from edgebench import profiles
from edgebench.cli.output import ProfileName, confirm
from edgebench.core import Device


@click.command("trust", short_help="Trust a device's SSH host key.")
@click.argument("device", type=ProfileName("devices"))
def trust(device: str) -> None:
    """Show a device's SSH host key and, on confirmation, add it to known_hosts.

    Compare the fingerprint with the one the device prints on its own console:
    ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub
    """
    confirm_host_keys(profiles.load_device(device))
    click.echo(f"{device} is trusted: login succeeded", err=True)


def confirm_host_keys(device: Device) -> None:
    """Log in once and ask for confirmation of each unknown host key, jump hosts included.

    Raises as ``Session`` and as ``confirm``.
    """
    from edgebench.device.session import Session
    from edgebench.transports.ssh_known import UnknownHostKey

    while True:
        try:
            with Session(device):
                return
        except UnknownHostKey as unknown:
            click.echo(f"{unknown.name}: host key {unknown.key.get_name()} {unknown.fingerprint}", err=True)
            hint = f"Run it in a terminal, or add the key to {unknown.file} yourself (ssh-keyscan prints it)."
            confirm("Trust this key?", "the host key was not added", hint)
            unknown.trust()
            click.echo(f"added to {unknown.file}", err=True)
