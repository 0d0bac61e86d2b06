"""From names and values, as people give them, to plans: one for each device."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgebench import modelfiles, plugins, profiles
from edgebench.core import Device, ModelFile, Option, Progress, RpcHost
from edgebench.errors import UsageError
from edgebench.plan import Plan, Planned, defaults, k_per_request, ranges, trials
from edgebench.plan.sweep import MOST_K, sweep

ALL = "all"
"""Stands for every device profile of the folder that is looked in first."""

Transfer = Callable[[str], AbstractContextManager[Progress]]
"""Opened with what is being transferred, for its progress."""


def silent_transfer(label: str) -> AbstractContextManager[Progress]:
    return nullcontext(lambda done, total: None)


def _check_number(name: str, value: object, low: float, high: float = float("inf"), *, whole: bool = False) -> None:
    """Raises ``UsageError`` for another type or a value out of range."""
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise UsageError(f"{name} must be a {'whole ' if whole else ''}number, not {value!r}")
    if not low <= value <= high:
        limits = f"at least {low:g}" if high == float("inf") else f"between {low:g} and {high:g}"
        raise UsageError(f"{name} must be {limits}, not {value!r}")


@dataclass(frozen=True)
class Conduct:
    """How plans are executed, whatever they measure: see ``Plan`` for each field."""

    rounds: int = 5
    seed: int = 0
    settle: float = 120.0
    wait: float = 0.0
    load_timeout: float = 300.0

    def __post_init__(self) -> None:
        _check_number("rounds", self.rounds, 1, 1000, whole=True)
        _check_number("seed", self.seed, -(2**63), 2**63, whole=True)
        _check_number("settle", self.settle, 0)
        _check_number("wait", self.wait, 0)
        _check_number("load_timeout", self.load_timeout, 0.001)

    def fields(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class RunRequest:
    """What a run is to measure. Empty sequences and None stand for the defaults."""

    devices: Sequence[str | Device] = ()
    models: Sequence[str | Path | ModelFile] = ()
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
        if self.load not in ("warm", "cold"):
            raise UsageError(f"load must be warm or cold, not {self.load!r}")
        _check_number("max_rounds", self.max_rounds, 1, 1000, whole=True)
        if self.target_ci is not None:
            _check_number("target_ci", self.target_ci, 1e-6, 1 - 1e-6)


Planner = Callable[..., tuple[Planned, ...]]
"""As ``plan.trials``."""


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
            f"--rpc requires an engine with RPC servers (engine is {engines[0]})",
            f"Give --engine {' or '.join(able)}." if able else "",
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
        plans.append(
            Plan(
                device,
                engine,
                backend,
                planned,
                load="cold" if request.load == "cold" else "warm",
                target_ci=request.target_ci,
                max_rounds=request.max_rounds,
                rpc=members,
                **request.conduct.fields(),
            )
        )
    return plans


@dataclass(frozen=True)
class SweepRequest:
    """A sweep over the number of draft tokens on one device."""

    device: Device
    engine: str
    backend: str
    target: ModelFile
    drafts: tuple[ModelFile | str, ...]
    options: Mapping[str, Option] = field(default_factory=dict)
    p_min: float = 0.0
    conduct: Conduct = Conduct()

    def plan(self, ks: Sequence[int], **changed: Any) -> Plan:
        """The target alone and these K. Raises ``UsageError`` for a pair that cannot work."""
        from edgebench.bench.divergence import explain_divergence

        planned = sweep(
            self.device,
            self.target,
            self.drafts,
            ks,
            engine=self.engine,
            backend=self.backend,
            asked=self.options,
            p_min=self.p_min,
        )
        once = k_per_request(self.engine)
        fields = {**self.conduct.fields(), **changed}
        return Plan(
            self.device, self.engine, self.backend, planned, start_once=once, afterwards=explain_divergence, **fields
        )


def devices_of(names: Sequence[str | Device]) -> list[Device]:
    """Devices by their profiles' names or paths, each once. Raises ``ProfileError``."""
    devices: dict[str, Device] = {}
    for device in _expanded(names):
        opened = device if isinstance(device, Device) else profiles.load_device(device)
        devices.setdefault(opened.name, opened)
    return list(devices.values())


def _expanded(names: Sequence[str | Device]) -> Iterator[str | Device]:
    for name in names:
        yield from profiles.own("devices") if name == ALL else [name]


def engine_of(device: Device, engine: str | None) -> str:
    return engine or str(device.defaults.get("engine", defaults.ENGINE))


def backend_of(device: Device, backend: str | None) -> str:
    return backend or str(device.defaults.get("backend", "cpu"))


def model_formats(engine: str) -> tuple[str, ...]:
    """The model formats that an engine reads. Raises ``UsageError`` for an unknown engine."""
    return plugins.load("engines", engine).formats


def model_files(
    names: Sequence[str | Path | ModelFile], formats: Sequence[str], transfer: Transfer = silent_transfer
) -> list[ModelFile]:
    """Models by profile or path, fetched where they aren't here yet, each once.

    Raises ``ModelError``, ``ProfileError``, and ``UsageError`` where two different files have one name.
    """
    files: dict[str, ModelFile] = {}
    for name in dict.fromkeys(names):
        if isinstance(name, ModelFile):
            file = name
        else:
            with transfer(f"getting {name}") as progress:
                file = modelfiles.resolve(str(name), formats=formats, progress=progress)
        other = files.setdefault(file.name, file)
        if other.sha256 != file.sha256:  # their results could not be told apart
            raise UsageError(
                f"two different models are called {file.name}: {other.path} and {file.path}",
                "Rename one of the files, or give it a profile.",
            )
    return list(files.values())


def rpc_members(text: str, heads: Sequence[Device]) -> tuple[Device | str, ...]:
    """The devices and addresses of ``--rpc``. Raises ``UsageError``, ``ProfileError``."""
    words = [word.strip() for word in text.split(",")]
    members = tuple(word if re.fullmatch(r"[^\s/]+:\d{1,5}", word) else profiles.load_device(word) for word in words)
    for address in (one for one in members if isinstance(one, str)):
        if not 0 < int(address.rpartition(":")[2]) < 65536:
            raise UsageError(
                f"--rpc: the port of {address} must be between 1 and 65535", "Write HOST:PORT, such as 10.0.0.7:50052."
            )
    if len(heads) > 1:
        raise UsageError("--rpc takes one --device, the head, and several are given", "Give one.")
    names = [head.name for head in heads] + [one if isinstance(one, str) else one.name for one in members]
    if len(set(names)) < len(names):
        raise UsageError("--rpc repeats a device, or names the head", "Each device holds one part.")
    return members


def draft_of(name: str | ModelFile, engine: str, transfer: Transfer = silent_transfer) -> ModelFile | str:
    """A draft model's file, or one of the engine's ways to draft without a model. Raises ``UsageError``."""
    from edgebench.judging.metrics.speculation import drafts_without_model

    if isinstance(name, ModelFile):
        return name
    methods = drafts_without_model(engine)
    if name in methods:
        return name
    if any(name in drafts_without_model(other) for other in plugins.names("engines")):
        hint = f"Without a draft model it has: {', '.join(methods)}." if methods else "It drafts with a model only."
        raise UsageError(f"{engine} has no draft called {name!r}", hint)
    (file,) = model_files([name], model_formats(engine), transfer)
    return file


def draft_lengths(text: str) -> list[int]:
    """The values of K of a range such as ``1..16``. Raises ``UsageError``."""
    try:
        values = [int(k) for k in ranges.parse(text, words=(), least=1)]
    except UsageError as error:
        hint = error.hint
        if error.hint == "Start at 1.":
            hint = "The baseline, k = 0, is always measured: start at 1."
        elif error.hint.startswith("Write "):
            hint = f"{error.hint[:-1]}; or auto, alone."
        raise UsageError(f"--k: {error}", hint) from error
    if max(values) > MOST_K:
        raise UsageError(f"--k: {max(values)} draft tokens at once; at most {MOST_K}", f"Such as 1..{MOST_K}.")
    return values
