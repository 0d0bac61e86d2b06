"""``edgebench run``: measure models on devices."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import click

from edgebench import plugins
from edgebench.cli import options, selection
from edgebench.cli.output import ALL, ProfileName, transfer
from edgebench.core import Device, ModelFile, Option
from edgebench.errors import UsageError
from edgebench.plan import ranges

DEFAULT_DEVICE = "local"
DEFAULT_MODEL = "smollm2-135m-q4_1"
DEFAULT_ENGINE = "llama.cpp"
DEFAULT_SCENARIO = "throughput"
RPC_ENGINE = "llama.cpp"

SWEEPS = {
    "threads": "Threads of the engine; auto: what this device's cores suggest, each pinned."
    "  [default: the device's, else the engine's]",
    "ctx": "Context, tokens.  [default: the device's, else 4096]",
    "batch": "Batch, tokens.  [default: the device's, else the engine's]",
    "ubatch": "Physical batch, tokens.  [default: as --batch]",
    "gpu_layers": "Layers on the GPU, or all.  [default: the device's, else all]",
}
SECTIONS = {
    "What is measured": ("--device", "--model", "--engine", "--backend", "--scenario", "--rpc"),
    "Settings of the engine; RANGE is 4, 1,2,4, 1..16 or 1..16+5": tuple(
        "--" + key.replace("_", "-") for key in SWEEPS
    ),
    "Settings of the scenario; RANGE is as above": None,
    "How it is measured": (
        "--rounds",
        "--target-ci",
        "--max-rounds",
        "--load",
        "--load-timeout",
        "--settle",
        "--wait",
        "--seed",
    ),
    "What becomes of it": ("--name", "--store", "--json", "--strict", "--write-profile", "--help"),
}


def _words(key: str) -> list[str]:
    """The words that an option of some scenario takes."""
    options = [plugins.load("scenarios", name).options.get(key) for name in plugins.names("scenarios")]
    return [word for words in options if isinstance(words, tuple) for word in words]


def _sweeps(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that take ranges: those of the launch, and each scenario's own."""
    meant: dict[str, str] = {}
    defaults: dict[str, list[str]] = {}
    for name in plugins.names("scenarios"):
        scenario = plugins.load("scenarios", name)
        for key, default in scenario.options.items():
            meant[key] = meant.get(key) or getattr(scenario, "helps", {}).get(key, "").capitalize()
            defaults.setdefault(key, []).append(
                f"{name}: {','.join(default) if isinstance(default, tuple) else default}"
            )
    helps = {
        **SWEEPS,
        **{key: f"{meant[key]}.  [{'; '.join(defaults[key])}]".lstrip(". ") for key in meant if key not in SWEEPS},
    }
    for key, text in reversed(helps.items()):
        metavar = "WORD,…" if _words(key) else "RANGE"
        command = click.option("--" + key.replace("_", "-"), key, metavar=metavar, help=text)(command)
    return command


@click.command(cls=options.Sections, sections=SECTIONS, context_settings={"show_default": True})
@click.option(
    "--device",
    "-d",
    "devices",
    multiple=True,
    type=ProfileName("devices"),
    help="Device profile; again for more; all: those of ./devices, at the same time.  [default: local]",
)
@click.option(
    "--model",
    "-m",
    "models",
    multiple=True,
    type=ProfileName("models"),
    help=f"Model profile, GGUF file or folder of MLC weights; again for more.  [default: {DEFAULT_MODEL}]",
)
@click.option("--engine", type=options.PartName("engines"), help="Engine.  [default: the device's, else llama.cpp]")
@options.backend
@click.option(
    "--scenario",
    "-s",
    "scenarios",
    multiple=True,
    type=options.PartName("scenarios"),
    help="Scenario; again for more.  [default: throughput]",
)
@_sweeps
@options.how
@click.option("--load", type=click.Choice(["warm", "cold"]), default="warm", help="Page cache before each start.")
@click.option(
    "--rpc",
    metavar="NAME|HOST:PORT,…",
    help="Devices that hold a part of the model, each with a ggml-rpc-server for as long as the engine runs; or the "
    "addresses of such servers that run already. --gpu-layers says how many layers go there (default: all).",
)
@click.option(
    "--target-ci",
    callback=lambda _context, _option, text: None if text is None else _share(text),
    metavar="SHARE",
    help="Go on after --rounds until the interval of the rate is this narrow (± 2% or 0.02), at most --max-rounds.",
)
@click.option("--max-rounds", type=options.Number(1, 1000), metavar="N", default=50, help="Where --target-ci gives up.")
@click.option("--write-profile", is_flag=True, help="Keep what --threads auto found in the device's profile.")
@options.outcome
def command(
    devices: Sequence[str],
    models: Sequence[str],
    engine: str | None,
    backend: str | None,
    scenarios: Sequence[str],
    rpc: str | None,
    write_profile: bool,
    load: Any,
    target_ci: float | None,
    max_rounds: int,
    how: Mapping[str, Any],
    outcome: options.Outcome,
    **sweeps: str | None,
) -> int:
    """Measure models on devices.

    Without options: this machine, a small model that comes from the Python package registry, and
    the llama.cpp server that is bundled with edgebench.
    """
    from edgebench.cli import measure, threads
    from edgebench.plan import Plan, trials

    auto = sweeps.get("threads") == "auto"
    if auto:
        sweeps["threads"] = None
    elif write_profile:
        raise UsageError("--write-profile keeps what --threads auto finds", "Give --threads auto too.")
    asked = {key: _values(key, text) for key, text in sweeps.items() if text is not None}
    opened = [device_of(name) for name in dict.fromkeys(_named(devices or [DEFAULT_DEVICE]))]
    helpers = parts_of(rpc, opened) if rpc else ()
    if helpers:
        asked["rpc"] = [",".join(one if isinstance(one, str) else one.name for one in helpers)]
    for scenario in scenarios:
        plugins.load("scenarios", scenario)
    engines = [engine or str(device.defaults.get("engine", DEFAULT_ENGINE)) for device in opened]
    if helpers and engines != [RPC_ENGINE]:
        raise UsageError(
            f"--rpc is a way of {RPC_ENGINE}, and the engine is {engines[0]}", f"Give --engine {RPC_ENGINE}."
        )
    selection.can_keep(outcome.path, outcome.json_output)
    files = {form: models_of(models or [DEFAULT_MODEL], form) for form in dict.fromkeys(map(_form, engines))}
    sweep = threads.Sweep(opened) if auto else None
    plans = [
        Plan(
            (sweep.trials if sweep else trials)(
                device,
                files[_form(used)],
                engine=used,
                backend=backend or str(device.defaults.get("backend", "cpu")),
                scenarios=list(dict.fromkeys(scenarios)) or [DEFAULT_SCENARIO],
                asked=asked,
            ),
            load=load,
            target_ci=target_ci,
            max_rounds=max_rounds,
            rpc=helpers,
            **how,
        )
        for device, used in zip(opened, engines, strict=True)
    ]
    return measure.carry_out(plans, outcome, then=sweep.conclude(write_profile) if sweep else None)


def _share(text: str) -> float:
    """``2%`` or ``0.02``."""
    number, percent = text.strip().removesuffix("%"), text.strip().endswith("%")
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise UsageError(f"--target-ci: {text!r} is no share between 0 and 1", "Give 2% or 0.02.")
    return share


def _values(key: str, text: str) -> Sequence[Option]:
    words = ["all"] if key == "gpu_layers" else _words(key)
    try:
        return ranges.parse(text, words=words, least=0 if key in ("gpu_layers", "depth") else 1)
    except UsageError as error:
        raise UsageError(f"--{key.replace('_', '-')}: {error}", error.hint) from error


def _named(names: Sequence[str]) -> Iterator[str]:
    """With the devices that ``all`` stands for."""
    from edgebench import profiles

    for name in names:
        yield from profiles.own("devices") if name == ALL else [name]


def device_of(name: str) -> Device:
    from edgebench import profiles

    return profiles.load_device(name)


def parts_of(text: str, leads: Sequence[Device]) -> tuple[Device | str, ...]:
    """The devices and addresses of ``--rpc``. Raises ``UsageError``, ``ProfileError``."""
    words = [word.strip() for word in text.split(",")]
    found = tuple(word if re.fullmatch(r"[^\s/]+:\d{1,5}", word) else device_of(word) for word in words)
    for address in (one for one in found if isinstance(one, str)):
        if not 0 < int(address.rpartition(":")[2]) < 65536:
            raise UsageError(
                f"--rpc: {address} has no port from 1 to 65535", "Write HOST:PORT, such as 10.0.0.7:50052."
            )
    names = [lead.name for lead in leads] + [one if isinstance(one, str) else one.name for one in found]
    if len(leads) > 1:
        raise UsageError("with --rpc one device leads, and several are named with --device", "Name one.")
    if len(set(names)) < len(names):
        raise UsageError("--rpc names a device twice, or the one that leads", "Each device holds one part.")
    return found


def _form(engine: str) -> Any:
    """The form of model that an engine takes."""
    return plugins.load("engines", engine).format


def models_of(names: Sequence[str], form: Any) -> list[ModelFile]:
    from edgebench import models

    found: dict[str, ModelFile] = {}
    for name in dict.fromkeys(names):
        with transfer(f"getting {name}") as progress:
            file = models.resolve(name, form=form, progress=progress)
        other = found.setdefault(file.name, file)
        if other.sha256 != file.sha256:  # their results could not be told apart
            raise UsageError(
                f"two different models are called {file.name}: {other.path} and {file.path}",
                "Rename one of the files, or give it a profile.",
            )
    return list(found.values())
