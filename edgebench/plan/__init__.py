"""From what was asked to the trials, and the order in which they run."""

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
"""Tokens of context where neither the command line nor the profile says: that of 2023."""


def k_per_request(engine: str) -> bool:
    """Whether the number of draft tokens is said with each request."""
    kind = plugins.load("engines", engine)
    return isinstance(kind, SpeculativeEngine) and kind.k_per_request


@dataclass(frozen=True)
class Planned:
    """A trial with everything it needs."""

    trial: Trial
    device: Device
    model: ModelFile
    draft: ModelFile | None = None
    notes: tuple[str, ...] = ()
    """What was changed of what had been asked for."""
    clipped: bool = False
    """Whether a larger context had been asked for than the model has."""
    fault: PartFailed | None = None
    """Why it cannot run: what its scenario or its engine raised by mistake when it was planned."""

    def launch(self, model_path: str, draft_path: str | None = None) -> Launch:
        """How the engine is started for it, with paths on the device."""
        asked, engine = self.trial.options, self.trial.engine
        k, drafting = int(asked.get("k", 0)), None
        if k and not k_per_request(engine):
            p_min = asked.get("p_min")
            method = "" if draft_path is not None else str(asked.get("draft", ""))
            drafting = Drafting(k, method, None if p_min is None else float(p_min))
        rpc, affinity = asked.get("rpc"), asked.get("affinity")
        return Launch(
            model=model_path,
            backend=self.trial.backend,
            options={name: asked[name] for name in engine_options.declared_by(engine) if name in asked},
            draft=draft_path,
            drafting=drafting,
            rpc=None if rpc is None else str(rpc),
            affinity=None if affinity is None else str(affinity),
        )


@dataclass(frozen=True)
class Plan:
    """The trials of one engine on one device, how often they run, and by what chance they are ordered."""

    device: Device
    engine: str
    backend: str
    trials: tuple[Planned, ...]
    rounds: int = 5
    seed: int = 0
    load: Literal["warm", "cold"] = "warm"
    load_timeout: float = 300.0
    """Seconds an engine may take until it answers."""
    target_ci: float | None = None
    """Go on beyond ``rounds`` until half the 95 % interval is at most this share of the median."""
    max_rounds: int = 50
    start_once: bool = False
    """Many short trials on one engine: it is started once for all rounds, and the device is waited
    for before that and not before each trial. Else waiting would take longer than measuring."""
    afterwards: Callable[[Sequence[tuple[Trial, Sequence[Round]]]], FollowUp] | None = None
    """Queries that only the answers of all rounds raise."""
    wait: float = 0.0
    """Seconds to wait for a device that somebody else has."""
    rpc: tuple[Device | str, ...] = ()
    """Other devices that hold parts of the models, or the addresses of RPC servers that run already."""
    settle: float = 120.0
    """Seconds that the device is waited for before each trial, until it is cool and quiet again; with
    0 it is looked at neither before nor after."""

    def order(self, round_index: int) -> list[int]:
        """Indexes of the trials in one round's order: block-randomised by the seed, trials that can
        share an engine process next to each other."""
        draw = random.Random(f"{self.seed}/{round_index}")  # noqa: S311 - reproducible, not secret
        blocks: dict[str, list[int]] = {}
        for index, planned in enumerate(self.trials):
            draft = planned.draft.sha256 if planned.draft else None
            blocks.setdefault(repr(planned.launch(planned.model.sha256, draft)), []).append(index)
        names = list(blocks)
        draw.shuffle(names)
        for name in names:
            draw.shuffle(blocks[name])
        return [index for name in names for index in blocks[name]]


def trials(
    device: Device,
    models: Sequence[ModelFile],
    *,
    engine: str,
    backend: str,
    scenarios: Sequence[str],
    asked: Mapping[str, Sequence[Option]],
) -> tuple[Planned, ...]:
    """Every combination of models, scenarios and the values asked for.

    ``asked`` maps an option to its values; the device's defaults and then the scenario's own fill
    what wasn't asked. A context beyond the model's is cut to the model's, with a note. Raises
    ``UsageError`` for an option that nothing here knows, a context too small for the scenario, or what
    the engine can't do on such a device.
    """
    engine_options.check_backend(engine, backend)
    kinds = {name: plugins.load("scenarios", name) for name in scenarios}
    declared = engine_options.declared_by(engine)
    known = {*declared, *engine_options.UNDECLARED_OPTIONS}
    unknown = set(asked) - known.union(*(scenario.options for scenario in kinds.values()))
    if unknown:
        raise engine_options.missing_error(engine, min(unknown)) or _without(scenarios[0], min(unknown))
    for name, values in asked.items():
        _check_values(declared.get(name), values)
    layers = [name for name, one in declared.items() if one.gpu_only and any(asked.get(name, ()))]
    ignored = f"{' and '.join(layers)} are ignored with --backend cpu"
    notes: tuple[str, ...] = (ignored,) if layers and backend == "cpu" else ()
    defaults = {name: [value] for name, value in device.defaults.items() if name in declared or name == "ctx"}
    unused = [name for name in device.defaults if name not in defaults and name in engine_options.all_options()]
    if unused:
        notes += (f"{device.name}'s defaults for {', '.join(unused)} were not used: {engine} has no such option",)
    planned: dict[str, Planned] = {}
    for model, (name, scenario) in itertools.product(models, kinds.items()):
        _check_capabilities(name, scenario, engine)
        grid: dict[str, Sequence[Option]] = {
            "ctx": [CTX],
            **defaults,
            **{key: value if isinstance(value, tuple) else [value] for key, value in scenario.options.items()},
        }
        ours = {*declared, *engine_options.UNDECLARED_OPTIONS, *scenario.options}
        grid |= {name: values for name, values in asked.items() if name in ours}
        for values in itertools.product(*grid.values()):
            one = _plan_one(device, model, engine, backend, name, dict(zip(grid, values, strict=True)))
            planned.setdefault(repr(one.trial), replace(one, notes=(*one.notes, *notes)))
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
    """Raises ``UsageError`` where the engine lacks what the scenario requires."""
    required: Sequence[Capability] = getattr(scenario, "requires", ())

    def missing(engine: str) -> list[Capability]:
        return [one for one in required if one not in plugins.load("engines", engine).capabilities]

    if required and (lacking := missing(engine)):
        able = [other for other in plugins.names("engines") if not missing(other)]
        raise UsageError(
            f"scenario {name} requires {', '.join(lacking)}, which {engine} does not have",
            f"Engines that have it: {', '.join(able)}; give --engine {able[0]}." if able else "",
        )


def _without(scenario: str, option: str) -> UsageError:
    """Of an option that the scenario doesn't have."""
    having = [name for name in plugins.names("scenarios") if option in plugins.load("scenarios", name).options]
    hint = f"It belongs to {' and '.join(having)}: give --scenario {having[0]}." if having else ""
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
    longest = model.facts.context_length
    if longest is not None and int(options["ctx"]) > longest:
        notes.append(f"a context of {options['ctx']} was asked for; {model.name} has {longest}, so {longest} was used")
        options["ctx"], clipped = longest, True
    fault: PartFailed | None = None
    least = 0
    try:
        scenario = plugins.create("scenarios", name)
        with plugins.boundary("scenarios", name):
            least = int(scenario.needs(options))
    except PartFailed as error:
        fault = error
    if least > int(options["ctx"]):
        raise UsageError(
            f"scenario {name} needs a context of {least} tokens, and it is {options['ctx']}",
            f"Give --ctx {least} or more, or ask for fewer tokens.",
        )
    for launch_option in engine_options.declared_by(engine).values():
        if launch_option.gpu_only and backend == "cpu" and "rpc" not in options:
            options.pop(launch_option.name, None)
        elif launch_option.preset is not None:
            options.setdefault(launch_option.name, launch_option.preset)
    kind = plugins.load("engines", engine)
    if isinstance(kind, PreflightCheck):
        try:
            with plugins.boundary("engines", engine):
                kind.check(device, name, backend, options)
        except PartFailed as error:
            fault = fault or error
    trial = Trial(device.name, model.name, engine, backend, name, options)
    return Planned(trial, device, model, notes=tuple(notes), clipped=clipped, fault=fault)
