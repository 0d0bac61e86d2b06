"""``edgebench devices``: what devices there are and what is known of them.

A further command is one more file: its module's ``command``, named in ``MORE``.
"""

from __future__ import annotations

from importlib import import_module

import click

from edgebench import plugins, profiles
from edgebench.cli import Group
from edgebench.cli.output import ProfileName, json_option, print_facts, print_json, print_table
from edgebench.core import Device, Json
from edgebench.errors import ProfileError

DEVICE = ProfileName("devices")

MORE: dict[str, str] = {}
"""Commands that live in a module of their own, imported when they are called."""


class Devices(Group):
    """The group, with the commands of ``MORE`` among its own."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *MORE]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in MORE:
            command: click.Command = import_module(MORE[cmd_name]).command
            return command
        return super().get_command(ctx, cmd_name)


@click.group(cls=Devices)
def command() -> None:
    """Devices: those there are profiles of."""


@command.command("list")
@json_option
@click.pass_context
def list_(ctx: click.Context, as_json: bool) -> None:
    """List the devices there are profiles of."""
    found, broken = [], []
    for path in profiles.names("devices").values():
        try:
            found.append(profiles.load_device(str(path)))
        except ProfileError as error:
            broken.append(error)
    if as_json:
        print_json({"devices": [_summary(device) for device in found]})
    else:
        rows = [(d.name, d.system, d.transport["kind"], ", ".join(d.engines), d.description) for d in found]
        print_table(("DEVICE", "SYSTEM", "OVER", "ENGINES", ""), rows)
    for mistakes in broken:
        click.echo(f"edgebench: {mistakes}", err=True)
    ctx.exit(ProfileError.exit_code if broken else 0)


@command.command()
def schema() -> None:
    """Print the JSON Schema of these profiles, for editors."""
    from edgebench import schemas

    click.echo(schemas.printed(schemas.device()), nl=False)


@command.command()
@click.argument("device", type=DEVICE)
@json_option
def show(device: str, as_json: bool) -> None:
    """Show a device's profile as it is understood."""
    found = profiles.load_device(device)
    if as_json:
        print_json({"device": _summary(found)})
        return
    workspace = found.workspace or f"{_default_workspace(found)} (the default of {found.system})"
    lines = {"name": found.name, "description": found.description, "system": found.system}
    lines |= {"transport": _settings(found.transport), "workspace": workspace}
    lines |= {f"engine {name}": _settings(settings) or "as it is found" for name, settings in found.engines.items()}
    lines |= {"defaults": _settings(found.defaults) or "none", "profile": str(found.source)}
    print_facts(lines)


def _summary(device: Device) -> dict[str, Json]:
    return {**vars(device), "workspace": device.workspace or _default_workspace(device), "source": str(device.source)}


def _default_workspace(device: Device) -> str | None:
    if device.system not in plugins.names("systems"):
        return None
    workspace: str = plugins.load("systems", device.system).default_workspace
    return workspace


def _settings(settings: object) -> str:
    import yaml

    text = yaml.safe_dump(settings, default_flow_style=True, allow_unicode=True, width=10**6, sort_keys=False)
    return text.strip().removeprefix("{").removesuffix("}")
