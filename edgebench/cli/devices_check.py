"""``edgebench devices check``: check that a device has everything a run needs."""

from __future__ import annotations

import click

from edgebench import profiles
from edgebench.cli.output import ProfileName, json_option, print_json


@click.command("check", short_help="Check that a device is ready for a run.")
@click.argument("device", type=ProfileName("devices"))
@json_option
@click.pass_context
def check(ctx: click.Context, device: str, as_json: bool) -> None:
    """Check everything a run needs, and suggest a fix for each failed check.

    Engines that are missing from the profile are optional: they are marked -- and don't affect the exit code.
    """
    from edgebench.device import checks
    from edgebench.views.text import clean, lines

    found = []
    for one in checks.run(profiles.load_device(device)):
        found.append(one)
        if not as_json:
            mark = "ok " if one.ok else "NO " if one.needed else "-- "
            click.echo(f"{mark} {one.name}: {lines(one.said)}")
            if one.advice:
                click.echo(f"    {clean(one.advice)}")
    if as_json:
        print_json({"device": device, "checks": [vars(one) for one in found]})
    ctx.exit(next((one.exit_code for one in found if one.needed and not one.ok), 0))
