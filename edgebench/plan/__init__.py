"""Expands requested options to trials, and orders the trials of a round."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from edgebench import engine_options, plugins
from edgebench.core import (
    Capability,
    Device,
    Drafting,
    FollowUp,
    Launch,
    LaunchOption,
    ModelFile,
    Option,
    PreflightCheck,
    Round,
    Scenario,
    SpeculativeEngine,
    Trial,
)
from edgebench.errors import PartFailed, UsageError

CTX = 4096
"""Default context size in tokens, as in the 2023 measurements."""


def k_per_request(engine: str) -> bool:
    """Whether an engine takes the number of draft tokens with each request, not at its start."""
    engine_cls = plugins.load("engines", engine)
    return isinstance(engine_cls, SpeculativeEngine) and engine_cls.k_per_request


@dataclass(frozen=True)
class Planned:
    """A trial with everything it needs."""

    trial: Trial
    device: Device
    model: ModelFile
    draft: ModelFile | None = None
    notes: tuple[str, ...] = ()
    """Differences from the requested options."""
    clipped: bool = False
    """Whether the requested context exceeds the model's."""
    fault: PartFailed | None = None
    """Why it cannot run: an error of its scenario or engine during planning."""

    def launch(self, model_path: str, draft_path: str | None = None) -> Launch:
        """The engine's launch for this trial, with paths on the device."""
        options, engine = self.trial.options, self.trial.engine
        k, drafting = int(options.get("k", 0)), None
        if k and not k_per_request(engine):
            p_min = options.get("p_min")
            method = "" if draft_path is not None else str(options.get("draft", ""))
            drafting = Drafting(k, method, None if p_min is None else float(p_min))
        rpc, affinity = options.get("rpc"), options.get("affinity")
        return Launch(
            model=model_path,
            backend=self.trial.backend,
            options={name: options[name] for name in engine_options.declared_by(engine) if name in options},
            draft=draft_path,
            drafting=drafting,
            rpc=None if rpc is None else str(rpc),
            affinity=None if affinity is None else str(affinity),
        )


@dataclass(frozen=True)
class Plan:
    """The trials of one engine on one device, the number of rounds, and the seed of their order."""

    device: Device
    engine: str
    backend: str
    trials: tuple[Planned, ...]
    rounds: int = 5
    seed: int = 0
    load: Literal["warm", "cold"] = "warm"
    load_timeout: float = 300.0
    """Maximum time for an engine to start, seconds."""
    target_ci: float | None = None
    """Continue after ``rounds`` until half the 95 % interval is at most this share of the median."""
    max_rounds: int = 50
    start_once: bool = False
    """Start the engine once for all rounds, and wait for the device to settle only before that: for many
    short trials, where waiting would take longer than measuring."""
    follow_up: Callable[[Sequence[tuple[Trial, Sequence[Round]]]], FollowUp] | None = None
    """Queries that depend on the replies of all rounds."""
    wait: float = 0.0
    """Maximum time to wait for a device that another process has locked, seconds."""
    rpc: tuple[Device | str, ...] = ()
    """Devices that hold parts of the models, or addresses of running RPC servers."""
    settle: float = 120.0
    """Maximum time to wait for the device to cool down and go idle before each trial, seconds; 0 disables all
    condition checks."""

    def order(self, round_index: int) -> list[int]:
        """Indexes of the trials in one round's order: block-randomised by the seed, trials that can
        share an engine process next to each other."""
        rng = random.Random(f"{self.seed}/{round_index}")  # noqa: S311 - reproducible, not secret
        blocks: dict[str, list[int]] = {}
        for index, planned in enumerate(self.trials):
            draft = planned.draft.sha256 if planned.draft else None
            blocks.setdefault(repr(planned.launch(planned.model.sha256, draft)), []).append(index)
        names = list(blocks)
        rng.shuffle(names)
        for name in names:
            rng.shuffle(blocks[name])
        return [index for name in names for index in blocks[name]]


def trials(
    device: Device,
    models: Sequence[ModelFile],
    *,
    engine: str,
    backend: str,
    scenarios: Sequence[str],
    options: Mapping[str, Sequence[Option]],
) -> tuple[Planned, ...]:
    """Every combination of models, scenarios and option values.

    ``options`` maps an option to its values; the device's defaults and then the scenario's own apply to
    the others. A context beyond the model's is reduced to it, with a note. Raises ``UsageError`` for an
    unknown option, a context too small for the scenario, or a capability that the engine lacks.
    """
    engine_options.check_backend(engine, backend)
    scenario_classes = {name: plugins.load("scenarios", name) for name in scenarios}
    declared = engine_options.declared_by(engine)
    scenario_options = (scenario.options for scenario in scenario_classes.values())
    unknown = set(options) - {*declared, *engine_options.UNDECLARED_OPTIONS}.union(*scenario_options)
    if unknown:
        raise engine_options.missing_error(engine, min(unknown)) or _unknown_option(scenarios[0], min(unknown))
    for name, values in options.items():
        _check_values(declared.get(name), values)
    layers = [name for name, option in declared.items() if option.gpu_only and any(options.get(name, ()))]
    ignored = f"{' and '.join(layers)} are ignored with --backend cpu"
    notes: tuple[str, ...] = (ignored,) if layers and backend == "cpu" else ()
    defaults = {name: [value] for name, value in device.defaults.items() if name in declared or name == "ctx"}
    unused = [name for name in device.defaults if name not in defaults and name in engine_options.all_options()]
    if unused:
        notes += (f"{device.name}'s defaults for {', '.join(unused)} were not used: {engine} has no such option",)
    planned: dict[str, Planned] = {}
    for model, (name, scenario) in itertools.product(models, scenario_classes.items()):
        _check_capabilities(name, scenario, engine)
        grid: dict[str, Sequence[Option]] = {
            "ctx": [CTX],
            **defaults,
            **{key: value if isinstance(value, tuple) else [value] for key, value in scenario.options.items()},
        }
        valid_names = {*declared, *engine_options.UNDECLARED_OPTIONS, *scenario.options}
        grid |= {name: values for name, values in options.items() if name in valid_names}
        for values in itertools.product(*grid.values()):
            trial_plan = _plan_one(device, model, engine, backend, name, dict(zip(grid, values, strict=True)))
            planned.setdefault(repr(trial_plan.trial), replace(trial_plan, notes=(*trial_plan.notes, *notes)))
    return tuple(planned.values())


def _check_values(option: LaunchOption | None, values: Sequence[Option]) -> None:
    """Raises ``UsageError`` for a value that the option does not take."""
    if option is None:
        return
    try:
        for value in values:
            option.check(value)
    except ValueError as error:
        raise UsageError(f"{option.flag} {error}") from error


def _check_capabilities(name: str, scenario: type[Scenario], engine: str) -> None:
    """Raises ``UsageError`` if the engine lacks a capability that the scenario requires."""
    required: Sequence[Capability] = getattr(scenario, "requires", ())

    def missing(engine: str) -> list[Capability]:
        return [capability for capability in required if capability not in plugins.load("engines", engine).capabilities]

    if required and (lacks := missing(engine)):
        engines = [candidate for candidate in plugins.names("engines") if not missing(candidate)]
        raise UsageError(
            f"scenario {name} requires {', '.join(lacks)}, which {engine} does not have",
            f"Supported by {', '.join(engines)}; use --engine {engines[0]}." if engines else "",
        )


def _unknown_option(scenario: str, option: str) -> UsageError:
    """The error for an option that the scenario does not have."""
    scenarios = [name for name in plugins.names("scenarios") if option in plugins.load("scenarios", name).options]
    hint = f"It belongs to {' and '.join(scenarios)}: use --scenario {scenarios[0]}." if scenarios else ""
    return UsageError(f"scenario {scenario} has no option --{option.replace('_', '-')}", hint)


def _plan_one(
    device: Device,
    model: ModelFile,
    engine: str,
    backend: str,
    name: str,
    options: dict[str, Option],
) -> Planned:
    notes = []
    clipped = False
    max_context = model.facts.context_length
    if max_context is not None and int(options["ctx"]) > max_context:
        notes.append(
            f"a context of {options['ctx']} was requested; {model.name} has {max_context}, so {max_context} was used"
        )
        options["ctx"], clipped = max_context, True
    fault: PartFailed | None = None
    required_ctx = 0
    try:
        scenario = plugins.create("scenarios", name)
        with plugins.boundary("scenarios", name):
            required_ctx = int(scenario.needs(options))
    except PartFailed as error:
        fault = error
    if required_ctx > int(options["ctx"]):
        raise UsageError(
            f"scenario {name} requires a context of {required_ctx} tokens, but it is {options['ctx']}",
            f"Use --ctx {required_ctx} or more, or request fewer tokens.",
        )
    for launch_option in engine_options.declared_by(engine).values():
        if launch_option.gpu_only and backend == "cpu" and "rpc" not in options:
            options.pop(launch_option.name, None)
        elif launch_option.preset is not None:
            options.setdefault(launch_option.name, launch_option.preset)
    engine_cls = plugins.load("engines", engine)
    if isinstance(engine_cls, PreflightCheck):
        try:
            with plugins.boundary("engines", engine):
                engine_cls.check(device, name, backend, options)
        except PartFailed as error:
            fault = fault or error
    trial = Trial(device.name, model.name, engine, backend, name, options)
    return Planned(trial, device, model, notes=tuple(notes), clipped=clipped, fault=fault)
