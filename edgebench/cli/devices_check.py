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

    Engines that the profile does not list are optional: they are marked "--" and do not affect the exit code.
    """
    from edgebench.device import checks
    from edgebench.views.text import clean, lines

    results = []
    for result in checks.run_checks(profiles.load_device(device)):
        results.append(result)
        if not as_json:
            mark = "ok " if result.ok else "NO " if result.is_required else "-- "
            click.echo(f"{mark} {result.name}: {lines(result.message)}")
            if result.advice:
                click.echo(f"    {clean(result.advice)}")
    if as_json:
        print_json({"device": device, "checks": [result.document() for result in results]})
    ctx.exit(next((result.exit_code for result in results if result.is_required and not result.ok), 0))
