"""``edgebench devices``: list device profiles and show one.

Further commands are listed in ``MORE`` and have a module each.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import click

from edgebench import plugins, profiles
from edgebench.cli import Group
from edgebench.cli.output import ProfileName, json_option, print_facts, print_json, print_table
from edgebench.core import Device
from edgebench.errors import EdgebenchError, ProfileError

DEVICE = ProfileName("devices")

MODULE_COMMANDS = ("init", "trust", "check", "setup", "clean")
"""Commands that connect to a device; each is in its own module, imported when it is called."""


class Devices(Group):
    """The group, including the commands in ``MORE``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *MODULE_COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in MODULE_COMMANDS:
            command: click.Command = getattr(import_module(f"edgebench.cli.devices_{cmd_name}"), cmd_name)
            return command
        return super().get_command(ctx, cmd_name)


@click.group(cls=Devices)
def command() -> None:
    """Manage devices."""


@command.command("list")
@click.option("--probe", is_flag=True, help="Connect to each device and report whether it is reachable.")
@json_option
@click.pass_context
def list_(ctx: click.Context, probe: bool, as_json: bool) -> None:
    """List device profiles."""
    devices, errors = [], []
    for path in profiles.names("devices").values():
        try:
            devices.append(profiles.load_device(str(path)))
        except ProfileError as error:
            errors.append(error)
    reachability = _probe(devices) if probe else {}
    if as_json:
        print_json(
            {"devices": [{**_summary(d), **({"reached": reachability[d.name]} if probe else {})} for d in devices]}
        )
    else:
        rows = [
            (d.name, d.system, str(d.transport["kind"]), ", ".join(d.engines), reachability.get(d.name, d.description))
            for d in devices
        ]
        print_table(("DEVICE", "SYSTEM", "TRANSPORT", "ENGINES", "REACHABLE" if probe else "DESCRIPTION"), rows)
    for message in errors:
        click.echo(f"edgebench: {message}", err=True)
    ctx.exit(ProfileError.exit_code if errors else 0)


@command.command()
def schema() -> None:
    """Print the JSON Schema of device profiles."""
    from edgebench import schemas

    click.echo(schemas.to_text(schemas.device()), nl=False)


@command.command()
@click.argument("device", type=DEVICE)
@json_option
def show(device: str, as_json: bool) -> None:
    """Show a device profile with defaults applied."""
    profile = profiles.load_device(device)
    if as_json:
        print_json({"device": _summary(profile)})
        return
    workspace = profile.workspace or f"{_default_workspace(profile)} ({profile.system} default)"
    lines = {"name": profile.name, "description": profile.description, "system": profile.system}
    lines |= {"transport": _settings(profile.transport), "workspace": workspace}
    lines |= {f"engine {name}": _settings(settings) or "auto-detected" for name, settings in profile.engines.items()}
    lines |= {"defaults": _settings(profile.defaults) or "none", "profile": str(profile.source)}
    print_facts(lines)


def _probe(devices: Sequence[Device]) -> dict[str, str]:
    """Name → ``yes`` or the reason why not; probed in parallel."""
    from concurrent.futures import ThreadPoolExecutor

    def probe_device(device: Device) -> str:
        try:
            with Session(device):
                return "yes"
        except EdgebenchError as error:
            return f"no: {error}"

    from edgebench.device.session import Session

    with ThreadPoolExecutor(max(1, len(devices))) as pool:
        return dict(zip([device.name for device in devices], pool.map(probe_device, devices), strict=True))


def _summary(device: Device) -> dict[str, object]:
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
