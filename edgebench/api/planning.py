"""From names and values, as people give them, to plans: one for each device."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Protocol, TypeVar

from edgebench import engine_options, modelfiles, plugins, profiles
from edgebench.core import Device, LaunchOption, ModelFile, Option, Progress, RpcHost
from edgebench.errors import UsageError
from edgebench.modelfiles.catalogue import Model
from edgebench.plan import Plan, Planned, defaults, ranges, scenario_options, trials

Kind = TypeVar("Kind")

ALL = "all"
"""Stands for every device profile of the folder that is looked in first."""

DeviceLike = str | Path | Device
"""A profile's name or path, or the profile."""
ModelLike = str | Path | Model | ModelFile
"""A profile's name or path, a model's path, the profile, or the model's file."""

Transfer = Callable[[str], AbstractContextManager[Progress]]
"""Opened with what is being transferred, for its progress."""


def silent_transfer(label: str) -> AbstractContextManager[Progress]:
    return nullcontext(lambda done, total: None)


def check_number(name: str, value: object, low: float, high: float = float("inf"), *, whole: bool = False) -> None:
    """Raises ``UsageError`` for another type or a value out of range."""
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise UsageError(f"{name} must be a {'whole ' if whole else ''}number, not {value!r}")
    if not low <= value <= high:
        limits = f"at least {low}" if high == float("inf") else f"between {low} and {high}"
        raise UsageError(f"{name} must be {limits}, not {value!r}")


def check_text(name: str, value: object, *, optional: bool = False) -> None:
    """Raises ``UsageError`` for anything but text, or None where that is allowed."""
    if not isinstance(value, str) and not (optional and value is None):
        raise UsageError(f"{name} must be text, not {value!r}")


@dataclass(frozen=True)
class Conduct:
    """How plans are executed, whatever they measure: see ``Plan`` for each field."""

    rounds: int = 5
    seed: int = 0
    settle: float = 120.0
    wait: float = 0.0
    load_timeout: float = 300.0

    def __post_init__(self) -> None:
        check_number("rounds", self.rounds, 1, 1000, whole=True)
        check_number("seed", self.seed, 0, 2**63 - 1, whole=True)  # engines take -1 for a random one
        check_number("settle", self.settle, 0)
        check_number("wait", self.wait, 0)
        check_number("load_timeout", self.load_timeout, 0.001)

    def applied(self, plan: Plan) -> Plan:
        """A plan that is executed in this way."""
        return replace(
            plan,
            rounds=self.rounds,
            seed=self.seed,
            settle=self.settle,
            wait=self.wait,
            load_timeout=self.load_timeout,
        )


@dataclass(frozen=True)
class RunRequest:
    """What a run is to measure. Empty sequences and None stand for the defaults."""

    devices: Sequence[DeviceLike] = ()
    models: Sequence[ModelLike] = ()
    engine: str | None = None
    backend: str | None = None
    scenarios: Sequence[str] = ()
    options: Mapping[str, Sequence[Option]] = field(default_factory=dict)
    """Values of options of the launch and of the scenarios; several make a sweep."""
    rpc: str = ""
    """Devices or ``HOST:PORT`` addresses that hold a part of the model, separated by commas."""
    load: str = "warm"
    target_ci: float | None = None
    max_rounds: int = 50
    conduct: Conduct = Conduct()

    def __post_init__(self) -> None:
        check_text("engine", self.engine, optional=True)
        check_text("backend", self.backend, optional=True)
        check_text("rpc", self.rpc)
        if self.load not in ("warm", "cold"):
            raise UsageError(f"load must be warm or cold, not {self.load!r}")
        check_number("max_rounds", self.max_rounds, 1, 1000, whole=True)
        if self.target_ci is not None:
            check_number("target_ci", self.target_ci, 1e-6, 1 - 1e-6)


class Planner(Protocol):
    """As ``plan.trials``."""

    def __call__(
        self,
        device: Device,
        models: Sequence[ModelFile],
        *,
        engine: str,
        backend: str,
        scenarios: Sequence[str],
        asked: Mapping[str, Sequence[Option]],
    ) -> tuple[Planned, ...]: ...


def run_plans(request: RunRequest, *, transfer: Transfer = silent_transfer, planner: Planner = trials) -> list[Plan]:
    """One plan for each device; models are fetched where they aren't here yet.

    Raises ``UsageError``, ``ProfileError``, ``ModelError``.
    """
    devices = devices_of(request.devices or [defaults.DEVICE])
    members = rpc_members(request.rpc, devices) if request.rpc else ()
    options = dict(request.options)
    if members:
        options["rpc"] = [",".join(one if isinstance(one, str) else one.name for one in members)]
    scenarios = list(dict.fromkeys(request.scenarios)) or [defaults.SCENARIO]
    for scenario in scenarios:
        plugins.load("scenarios", scenario)
    engines = [engine_of(device, request.engine) for device in devices]
    if members and not isinstance(plugins.load("engines", engines[0]), RpcHost):
        able = [name for name in plugins.names("engines") if isinstance(plugins.load("engines", name), RpcHost)]
        raise UsageError(
            f"rpc requires an engine with RPC servers, and {engines[0]} has none",
            f"Engines with RPC servers: {', '.join(able)}." if able else "",
        )
    names = request.models or [defaults.MODEL]
    files = {formats: model_files(names, formats, transfer) for formats in dict.fromkeys(map(model_formats, engines))}
    plans = []
    for device, engine in zip(devices, engines, strict=True):
        backend = backend_of(device, request.backend)
        planned = planner(
            device,
            files[model_formats(engine)],
            engine=engine,
            backend=backend,
            scenarios=scenarios,
            asked=options,
        )
        plan = Plan(
            device,
            engine,
            backend,
            planned,
            load="cold" if request.load == "cold" else "warm",
            target_ci=request.target_ci,
            max_rounds=request.max_rounds,
            rpc=members,
        )
        plans.append(request.conduct.applied(plan))
    return plans


def several(name: str, value: object, *kinds: type[Kind]) -> list[Kind]:
    """One value or several, as a list. Raises ``UsageError`` for none and for a value of another kind."""
    values = [value] if isinstance(value, kinds) or not isinstance(value, Iterable) else list(value)
    if not values:
        raise UsageError(f"{name} is empty: there is nothing to measure", f"Omit {name} for the default.")
    matching = [each for each in values if isinstance(each, kinds)]
    if len(matching) < len(values):
        wrong = next(each for each in values if not isinstance(each, kinds))
        noun = "whole number" if int in kinds else "name"
        raise UsageError(f"{name} must be a {noun} or several of them, not {wrong!r}")
    return matching


def single(name: str, values: Sequence[Kind]) -> Kind:
    """The value of an argument that takes one. Raises ``UsageError`` for several."""
    if len(values) > 1:
        raise UsageError(f"{name} takes one value, and {len(values)} are given", "Give one.")
    return values[0]


def devices_as_named(name: str, value: object) -> list[DeviceLike]:
    """One device or several, as a list. Raises ``UsageError``."""
    return several(name, value, str, Path, Device)


def models_as_named(name: str, value: object) -> list[ModelLike]:
    """One model or several, as a list. Raises ``UsageError``."""
    return several(name, value, str, Path, Model, ModelFile)


def devices_of(names: Sequence[DeviceLike]) -> list[Device]:
    """Devices by their profiles' names or paths, each once. Raises ``ProfileError``."""
    devices: dict[str, Device] = {}
    for device in _expanded(names):
        opened = device if isinstance(device, Device) else profiles.load_device(str(device))
        devices.setdefault(opened.name, opened)
    return list(devices.values())


def _expanded(names: Sequence[DeviceLike]) -> Iterator[DeviceLike]:
    for name in names:
        yield from profiles.own("devices") if name == ALL else [name]


def engine_of(device: Device, engine: str | None) -> str:
    return engine or str(device.defaults.get("engine", defaults.ENGINE))


def backend_of(device: Device, backend: str | None) -> str:
    return (backend or str(device.defaults.get("backend", "cpu"))).lower()


def model_formats(engine: str) -> tuple[str, ...]:
    """The model formats that an engine reads. Raises ``UsageError`` for an unknown engine."""
    return plugins.load("engines", engine).formats


def model_files(
    names: Sequence[ModelLike], formats: Sequence[str], transfer: Transfer = silent_transfer
) -> list[ModelFile]:
    """Models by profile or path, fetched where they aren't here yet, each once.

    Raises ``ModelError``, ``ProfileError``, and ``UsageError`` where two different files have one name.
    """
    files: dict[str, ModelFile] = {}
    for source, name in {_source(name): name for name in names}.items():
        if isinstance(name, ModelFile):
            file = name
        else:
            with transfer(f"getting {name.name if isinstance(name, Model) else source}") as progress:
                file = modelfiles.resolve(source, formats=formats, progress=progress)
        other = files.setdefault(file.name, file)
        if other.sha256 != file.sha256:  # their results could not be told apart
            raise UsageError(
                f"two different models are called {file.name}: {other.path} and {file.path}",
                "Rename one of the files, or give it a profile.",
            )
    return list(files.values())


def _source(name: ModelLike) -> str:
    """What a model is resolved by."""
    if isinstance(name, Model):
        return str(name.profile)
    return str(name.path) if isinstance(name, ModelFile) else str(name)


def option_values(name: str, value: object) -> list[Option]:
    """The values of an option of the launch or a scenario: one, several, or those of a range such as ``"1..8"``.

    Raises ``UsageError``.
    """
    launch, of_scenario = _launch_option(name), scenario_options.exists(name)
    if launch is None and not of_scenario:
        raise _unknown_option(name)
    if isinstance(value, str):
        return list(ranges.parse_option(launch, value) if launch else scenario_options.parse(name, value))
    listed = list(value) if isinstance(value, Iterable) else [value]
    values = [each for each in listed if isinstance(each, bool | int | float | str)]
    if not values or len(values) < len(listed):
        raise UsageError(f"{name} must be a value, a range such as '1..8' or a sequence of values, not {value!r}")
    for each in values if of_scenario else ():
        scenario_options.check(name, each)
    return values


def _launch_option(name: str) -> LaunchOption | None:
    """The option as an engine declares it, exposed on the command line or not."""
    declared = (engine_options.declared(engine).get(name) for engine in plugins.names("engines"))
    return next((option for option in declared if option), None)


def _unknown_option(name: str) -> UsageError:
    scenarios = [plugins.load("scenarios", scenario).options for scenario in plugins.names("scenarios")]
    known = [*engine_options.all_options(), *(option for options in scenarios for option in options)]
    near = get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]}?" if near else "`edgebench run --help` lists the options."
    return UsageError(f"no engine and no scenario has an option {name!r}", hint)


def rpc_members(text: str, heads: Sequence[Device]) -> tuple[Device | str, ...]:
    """The devices and addresses of ``rpc``. Raises ``UsageError``, ``ProfileError``."""
    words = [word.strip() for word in text.split(",")]
    members = tuple(word if re.fullmatch(r"[^\s/]+:\d{1,5}", word) else profiles.load_device(word) for word in words)
    for address in (one for one in members if isinstance(one, str)):
        if not 0 < int(address.rpartition(":")[2]) < 65536:
            raise UsageError(
                f"rpc: the port of {address} must be between 1 and 65535", "Write HOST:PORT, such as 10.0.0.7:50052."
            )
    if len(heads) > 1:
        raise UsageError(f"rpc takes one device, the head, and {len(heads)} are given", "Give one.")
    names = [head.name for head in heads] + [one if isinstance(one, str) else one.name for one in members]
    if len(set(names)) < len(names):
        raise UsageError("rpc repeats a device, or names the head", "Each device holds one part.")
    return members
