"""Plans from the names and values that a user passes, one for each device."""

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

Value = TypeVar("Value")

ALL = "all"
"""Selects every device profile in the first folder of the search path."""

DeviceLike = str | Path | Device
"""A profile's name or path, or the profile."""
ModelLike = str | Path | Model | ModelFile
"""A profile's name or path, a model's path, the profile, or the model's file."""

Transfer = Callable[[str], AbstractContextManager[Progress]]
"""A context manager that takes a label and provides the progress callback of a transfer."""


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
    """Raises ``UsageError`` for anything but text, or None if ``optional``."""
    if not isinstance(value, str) and not (optional and value is None):
        raise UsageError(f"{name} must be text, not {value!r}")


@dataclass(frozen=True)
class Conduct:
    """Measurement options of every plan; see ``Plan`` for each field."""

    rounds: int = 5
    seed: int = 0
    settle: float = 120.0
    wait: float = 0.0
    load_timeout: float = 300.0

    def __post_init__(self) -> None:
        check_number("rounds", self.rounds, 1, 1000, whole=True)
        check_number("seed", self.seed, 0, 2**63 - 1, whole=True)  # engines use -1 for a random seed
        check_number("settle", self.settle, 0)
        check_number("wait", self.wait, 0)
        check_number("load_timeout", self.load_timeout, 0.001)

    def apply_to(self, plan: Plan) -> Plan:
        """The plan with these options."""
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
    """A run as requested. Empty sequences and None stand for the defaults."""

    devices: Sequence[DeviceLike] = ()
    models: Sequence[ModelLike] = ()
    engine: str | None = None
    backend: str | None = None
    scenarios: Sequence[str] = ()
    options: Mapping[str, Sequence[Option]] = field(default_factory=dict)
    """Values of launch and scenario options; several make a sweep."""
    rpc: str = ""
    """Devices or ``HOST:PORT`` addresses that hold parts of the model, separated by commas."""
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
        options: Mapping[str, Sequence[Option]],
    ) -> tuple[Planned, ...]: ...


def run_plans(request: RunRequest, *, transfer: Transfer = silent_transfer, planner: Planner = trials) -> list[Plan]:
    """One plan for each device; missing models are fetched.

    Raises ``UsageError``, ``ProfileError``, ``ModelError``.
    """
    devices = load_devices(request.devices or [defaults.DEVICE])
    members = rpc_members(request.rpc, devices) if request.rpc else ()
    options = dict(request.options)
    if members:
        options["rpc"] = [",".join(member if isinstance(member, str) else member.name for member in members)]
    scenarios = list(dict.fromkeys(request.scenarios)) or [defaults.SCENARIO]
    for scenario in scenarios:
        plugins.load("scenarios", scenario)
    engines = [choose_engine(device, request.engine) for device in devices]
    if members and not isinstance(plugins.load("engines", engines[0]), RpcHost):
        supporting = [name for name in plugins.names("engines") if isinstance(plugins.load("engines", name), RpcHost)]
        raise UsageError(
            f"rpc requires an engine with RPC servers, and {engines[0]} has none",
            f"Engines with RPC servers: {', '.join(supporting)}." if supporting else "",
        )
    names = request.models or [defaults.MODEL]
    files = {formats: model_files(names, formats, transfer) for formats in dict.fromkeys(map(model_formats, engines))}
    plans = []
    for device, engine in zip(devices, engines, strict=True):
        backend = choose_backend(device, request.backend)
        device_trials = planner(
            device,
            files[model_formats(engine)],
            engine=engine,
            backend=backend,
            scenarios=scenarios,
            options=options,
        )
        plan = Plan(
            device,
            engine,
            backend,
            device_trials,
            load="cold" if request.load == "cold" else "warm",
            target_ci=request.target_ci,
            max_rounds=request.max_rounds,
            rpc=members,
        )
        plans.append(request.conduct.apply_to(plan))
    return plans


def as_list(name: str, value: object, *types: type[Value]) -> list[Value]:
    """One value or several, as a list. Raises ``UsageError`` if it is empty or a value has another type."""
    values = [value] if isinstance(value, types) or not isinstance(value, Iterable) else list(value)
    if not values:
        raise UsageError(f"{name} is empty: there is nothing to measure", f"Omit {name} for the default.")
    valid = [each for each in values if isinstance(each, types)]
    if len(valid) < len(values):
        wrong = next(each for each in values if not isinstance(each, types))
        noun = "whole number" if int in types else "name"
        raise UsageError(f"{name} must be a {noun} or several of them, not {wrong!r}")
    return valid


def single(name: str, values: Sequence[Value]) -> Value:
    """The value of an argument that takes one. Raises ``UsageError`` for several."""
    if len(values) > 1:
        raise UsageError(f"{name} must be a single value, not {len(values)} values")
    return values[0]


def device_list(name: str, value: object) -> list[DeviceLike]:
    """One device or several, as a list. Raises ``UsageError``."""
    return as_list(name, value, str, Path, Device)


def model_list(name: str, value: object) -> list[ModelLike]:
    """One model or several, as a list. Raises ``UsageError``."""
    return as_list(name, value, str, Path, Model, ModelFile)


def load_devices(names: Sequence[DeviceLike]) -> list[Device]:
    """Devices by their profiles' names or paths, each once. Raises ``ProfileError``."""
    devices: dict[str, Device] = {}
    for device in _expand_all(names):
        loaded = device if isinstance(device, Device) else profiles.load_device(str(device))
        devices.setdefault(loaded.name, loaded)
    return list(devices.values())


def _expand_all(names: Sequence[DeviceLike]) -> Iterator[DeviceLike]:
    for name in names:
        yield from profiles.user_profiles("devices") if name == ALL else [name]


def choose_engine(device: Device, engine: str | None) -> str:
    return engine or str(device.defaults.get("engine", defaults.ENGINE))


def choose_backend(device: Device, backend: str | None) -> str:
    return (backend or str(device.defaults.get("backend", "cpu"))).lower()


def model_formats(engine: str) -> tuple[str, ...]:
    """The model formats that an engine reads. Raises ``UsageError`` for an unknown engine."""
    return plugins.load("engines", engine).formats


def model_files(
    names: Sequence[ModelLike], formats: Sequence[str], transfer: Transfer = silent_transfer
) -> list[ModelFile]:
    """Models by profile or path, each once; missing ones are fetched.

    Raises ``ModelError``, ``ProfileError``, and ``UsageError`` if two different files have the same name.
    """
    files: dict[str, ModelFile] = {}
    for source, name in {_model_source(name): name for name in names}.items():
        if isinstance(name, ModelFile):
            file = name
        else:
            with transfer(f"getting {name.name if isinstance(name, Model) else source}") as progress:
                file = modelfiles.resolve(source, formats=formats, progress=progress)
        first = files.setdefault(file.name, file)
        if first.sha256 != file.sha256:  # their results would be indistinguishable
            raise UsageError(
                f"two different models are called {file.name}: {first.path} and {file.path}",
                "Rename one of the files, or give it a profile.",
            )
    return list(files.values())


def _model_source(name: ModelLike) -> str:
    """The profile or path that a model is resolved from."""
    if isinstance(name, Model):
        return str(name.profile)
    return str(name.path) if isinstance(name, ModelFile) else str(name)


def option_values(name: str, value: object) -> list[Option]:
    """The values of a launch or scenario option: one, several, or those of a range such as ``"1..8"``.

    Raises ``UsageError``.
    """
    launch, of_scenario = _launch_option(name), scenario_options.is_option(name)
    if launch is None and not of_scenario:
        raise _unknown_option(name)
    if isinstance(value, str):
        return list(ranges.parse_option(launch, value) if launch else scenario_options.parse(name, value))
    items = list(value) if isinstance(value, Iterable) else [value]
    values = [each for each in items if isinstance(each, bool | int | float | str)]
    if not values or len(values) < len(items):
        raise UsageError(f"{name} must be a value, a range such as '1..8' or a sequence of values, not {value!r}")
    for each in values if of_scenario else ():
        scenario_options.check(name, each)
    return values


def _launch_option(name: str) -> LaunchOption | None:
    """The option as an engine declares it, exposed on the command line or not."""
    declared = (engine_options.declared_by(engine).get(name) for engine in plugins.names("engines"))
    return next((option for option in declared if option), None)


def _unknown_option(name: str) -> UsageError:
    scenarios = [plugins.load("scenarios", scenario).options for scenario in plugins.names("scenarios")]
    names = [*engine_options.all_options(), *(option for options in scenarios for option in options)]
    near = get_close_matches(name, names, n=1)
    hint = f"Did you mean {near[0]}?" if near else "`edgebench run --help` lists the options."
    return UsageError(f"no engine and no scenario has an option {name!r}", hint)


def rpc_members(text: str, heads: Sequence[Device]) -> tuple[Device | str, ...]:
    """The devices and addresses of ``rpc``. Raises ``UsageError``, ``ProfileError``."""
    words = [word.strip() for word in text.split(",")]
    members = tuple(word if re.fullmatch(r"[^\s/]+:\d{1,5}", word) else profiles.load_device(word) for word in words)
    for address in (member for member in members if isinstance(member, str)):
        if not 0 < int(address.rpartition(":")[2]) < 65536:
            raise UsageError(
                f"rpc: the port of {address} must be between 1 and 65535", "Write HOST:PORT, such as 10.0.0.7:50052."
            )
    if len(heads) > 1:
        raise UsageError(f"rpc requires a single device as the head, not {len(heads)}")
    names = [head.name for head in heads] + [member if isinstance(member, str) else member.name for member in members]
    if len(set(names)) < len(names):
        raise UsageError("rpc repeats a device, or contains the head", "Each device holds one part of the model.")
    return members
