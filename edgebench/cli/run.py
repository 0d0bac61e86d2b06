"""``edgebench run``: measure models on devices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from edgebench import engine_options, plugins
from edgebench.cli import options, selection
from edgebench.cli.output import ProfileName
from edgebench.cli.output import transfer as transferring
from edgebench.core import Option
from edgebench.errors import UsageError
from edgebench.plan import defaults, scenario_options

if TYPE_CHECKING:
    from edgebench.api import planning

SECTIONS = {
    "Targets": ("--device", "--model", "--engine", "--backend", "--scenario", "--rpc"),
    "Engine options (RANGE: 4, 1,2,4, 1..16 or 1..16+5)": options.launch_flags(),
    "Scenario options (RANGE as above)": None,
    "Measurement": (
        "--rounds",
        "--target-ci",
        "--max-rounds",
        "--load",
        "--load-timeout",
        "--settle",
        "--wait",
        "--seed",
    ),
    "Output": ("--name", "--store", "--json", "--strict", "--write-profile", "--help"),
}


def _scenario_options(command: Callable[..., object]) -> Callable[..., object]:
    """The options of the scenarios, which take ranges. Raises ``UsageError`` for one that an engine also has."""
    launch = engine_options.all_options()
    descriptions: dict[str, str] = {}
    defaults: dict[str, list[str]] = {}
    for name in plugins.names("scenarios"):
        scenario = plugins.load("scenarios", name)
        for key, default in scenario.options.items():
            if key in launch:
                raise UsageError(
                    f"the option {launch[key].option.flag} is declared by the engine {launch[key].engines[0]} of the "
                    f"package {plugins.package('engines', launch[key].engines[0])} and by the scenario {name} of the "
                    f"package {plugins.package('scenarios', name)}",
                    "Uninstall one of the packages, or rename the option in one of them.",
                )
            descriptions[key] = descriptions.get(key) or getattr(scenario, "helps", {}).get(key, "").capitalize()
            defaults.setdefault(key, []).append(
                f"{name}: {','.join(default) if isinstance(default, tuple) else default}"
            )
    helps = {key: f"{descriptions[key]}.  [{'; '.join(defaults[key])}]".lstrip(". ") for key in descriptions}
    for key, text in reversed(helps.items()):
        metavar = "WORD,…" if scenario_options.choices(key) else "RANGE"
        command = click.option("--" + key.replace("_", "-"), key, metavar=metavar, help=text)(command)
    return command


@click.command(cls=options.Sections, sections=SECTIONS, context_settings={"show_default": True})
@click.option(
    "--device",
    "-d",
    "devices",
    multiple=True,
    type=ProfileName("devices"),
    help="Device profile; repeatable. 'all' runs every profile in ./devices in parallel.  [default: local]",
)
@click.option(
    "--model",
    "-m",
    "models",
    multiple=True,
    type=ProfileName("models"),
    help=f"Model profile, GGUF file or folder of MLC weights; repeatable.  [default: {defaults.MODEL}]",
)
@click.option(
    "--engine", type=options.PartName("engines"), help="Engine.  [default: the device profile's, else llama.cpp]"
)
@options.backend_option
@click.option(
    "--scenario",
    "-s",
    "scenarios",
    multiple=True,
    type=options.PartName("scenarios"),
    help="Scenario; repeatable.  [default: throughput]",
)
@options.launch_options(more={"threads": "; auto tries the counts that suit the device's cores, pinned"})
@_scenario_options
@options.conduct_options
@click.option(
    "--load", type=click.Choice(["warm", "cold"]), default="warm", help="State of the page cache before each start."
)
@click.option(
    "--rpc",
    metavar="NAME|HOST:PORT,…",
    help="Devices that hold parts of the model (edgebench starts ggml-rpc-server on each), or addresses of running RPC "
    "servers. --gpu-layers sets the number of layers placed there.  [default: all]",
)
@click.option(
    "--target-ci",
    callback=lambda _context, _option, text: None if text is None else _share(text),
    metavar="SHARE",
    help="Continue after --rounds until the 95% interval of the rate is at most ± SHARE (2% or 0.02), up to "
    "--max-rounds.",
)
@click.option(
    "--max-rounds",
    type=options.Number(1, 1000),
    metavar="N",
    default=50,
    help="Maximum number of rounds with --target-ci.",
)
@click.option("--write-profile", is_flag=True, help="Store the result of --threads auto in the device profile.")
@options.output_options
def command(
    devices: Sequence[str],
    models: Sequence[str],
    engine: str | None,
    backend: str | None,
    scenarios: Sequence[str],
    rpc: str | None,
    write_profile: bool,
    load: str,
    target_ci: float | None,
    max_rounds: int,
    conduct: planning.Conduct,
    output: options.OutputOptions,
    **sweeps: str | None,
) -> int:
    """Measure models on devices.

    Without options, measures this machine with a small model from the Python package registry and
    the bundled llama.cpp server.
    """
    from edgebench.api import planning
    from edgebench.cli import measure, threads

    auto = sweeps.get("threads") == "auto"
    if auto:
        sweeps["threads"] = None
    elif write_profile:
        raise UsageError("--write-profile requires --threads auto", "Add --threads auto.")
    values: dict[str, Sequence[Option]] = dict(options.launch_values(sweeps))
    values |= {
        key: scenario_options.parse(key, text) for key, text in sweeps.items() if text is not None and key not in values
    }
    request = planning.RunRequest(
        devices=devices,
        models=models,
        engine=engine,
        backend=backend,
        scenarios=scenarios,
        options=values,
        rpc=rpc or "",
        load=load,
        target_ci=target_ci,
        max_rounds=max_rounds,
        conduct=conduct,
    )
    selection.check_writable(output.path, output.json_output)
    sweep = threads.ThreadSweep(planning.load_devices(devices or [defaults.DEVICE])) if auto else None
    plans = planning.run_plans(request, transfer=transferring, **({"planner": sweep.trials} if sweep else {}))
    return measure.execute(
        plans, output, next_plans=(lambda print_line: sweep.conclude(write_profile, print_line)) if sweep else None
    )


def _share(text: str) -> float:
    """``2%`` or ``0.02``."""
    number, percent = text.strip().removesuffix("%"), text.strip().endswith("%")
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise UsageError(f"--target-ci must be between 0 and 1, not {text!r}", "Examples: 2%, 0.02.")
    return share


def _refuse_taken_options(flags: Sequence[str]) -> None:
    """Raises ``UsageError`` if a scenario's option has the name of an option of ``run``."""
    for name in plugins.names("scenarios"):
        for key in plugins.load("scenarios", name).options:
            flag = "--" + key.replace("_", "-")
            if flags.count(flag) > 1:
                package = plugins.package("scenarios", name)
                raise UsageError(
                    f"the option {flag} of the scenario {name} of the package {package} is declared twice",
                    f"edgebench run has an option of that name. Rename it, or remove it: pip uninstall {package}",
                )


_refuse_taken_options([flag for param in command.params for flag in param.opts])
