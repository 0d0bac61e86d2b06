"""Plans for ``edgebench.speculative``: a sweep over draft models and values of K."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from edgebench import plugins
from edgebench.api import planning
from edgebench.api.planning import Conduct, ModelLike, Transfer, check_number, check_text, silent_transfer, single
from edgebench.bench.executor import NextPlans
from edgebench.core import Device, DeviceFacts, ModelFile, Option, Record, SpeculativeEngine
from edgebench.errors import EngineMissing, UsageError
from edgebench.plan import Plan, k_per_request, ranges
from edgebench.plan.sweep import MAX_K, sweep

PREFERRED, FALLBACK = "llama-cpp-python", "llama.cpp"
AUTO = "auto"
"""Value of K that requests a prediction."""
AUTO_K = range(1, 17)
MAX_CONFIRMED = 3
"""Values of K that ``auto`` confirms by measuring."""


@dataclass(frozen=True)
class SpeculativeRequest:
    """A sweep as requested. None stands for the default."""

    device: Device
    target: ModelLike
    drafts: Sequence[ModelLike]
    k: str
    """A range, or ``auto``."""
    engine: str | None = None
    backend: str | None = None
    options: Mapping[str, Option] = field(default_factory=dict)
    p_min: float = 0.0
    conduct: Conduct = field(default_factory=Conduct)

    def prepare(self, transfer: Transfer = silent_transfer) -> PreparedSweep:
        """Query the device, choose the engine, fetch the models, and check that target and draft are compatible.

        Raises ``UsageError``, ``ProfileError``, ``ModelError``, ``DeviceRefused``, ``DeviceLost``.
        """
        check_text("engine", self.engine, optional=True)
        check_text("backend", self.backend, optional=True)
        check_number("p_min", self.p_min, 0, 1)
        check_number("gen_tokens", self.options.get("gen_tokens", 2), 2, whole=True)
        auto = self.k == AUTO
        lengths = list(AUTO_K) if auto else draft_lengths(self.k)
        engine, facts, notes = _select_engine(self.device, self.engine, auto, self.p_min)
        drafts = tuple(resolve_draft(draft, engine, transfer) for draft in self.drafts)
        request = SweepRequest(
            self.device,
            engine,
            planning.choose_backend(self.device, self.backend),
            single("target", planning.model_files([self.target], planning.model_formats(engine), transfer)),
            drafts,
            self.options,
            self.p_min,
            self.conduct,
            notes,
        )
        first = request.plan(lengths[-1:], rounds=1) if auto else request.plan(lengths)
        _check_memory(first, facts)
        return PreparedSweep(request, tuple(lengths), auto, first)


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
    conduct: Conduct = field(default_factory=Conduct)
    notes: tuple[str, ...] = ()
    """Deviations from the request."""

    def plan(self, ks: Sequence[int], *, rounds: int | None = None) -> Plan:
        """The target alone and these K, for ``rounds`` if given. Raises ``UsageError`` for an incompatible pair."""
        from edgebench.bench.divergence import explain_divergence

        trials = sweep(
            self.device,
            self.target,
            self.drafts,
            ks,
            engine=self.engine,
            backend=self.backend,
            options=self.options,
            p_min=self.p_min,
        )
        trials = tuple(replace(trial, notes=(*trial.notes, *self.notes)) for trial in trials)
        has_k_per_request = k_per_request(self.engine)
        plan = Plan(
            self.device, self.engine, self.backend, trials, start_once=has_k_per_request, follow_up=explain_divergence
        )
        return (replace(self.conduct, rounds=rounds) if rounds else self.conduct).apply_to(plan)


@dataclass(frozen=True)
class PreparedSweep:
    """A validated sweep, and its first plan."""

    request: SweepRequest
    lengths: tuple[int, ...]
    auto: bool
    first: Plan

    def next_plans(self, announce: Callable[[str], None] = lambda text: None) -> NextPlans | None:
        """With ``auto``: the planner of the values of K that the records of a long draft predict to be best."""
        if not self.auto:
            return None

        def plans(records: Sequence[Record]) -> Sequence[Plan]:
            from edgebench.judging import speculation

            likely = speculation.predict_best_lengths(records, self.lengths, MAX_CONFIRMED)
            if likely:
                announce(f"predicted best: k = {', '.join(map(str, likely))}; measuring these")
            return [self.request.plan(likely)] if likely else []

        return plans


def _select_engine(
    device: Device, engine: str | None, auto: bool, p_min: float
) -> tuple[str, DeviceFacts, tuple[str, ...]]:
    """The engine, the device's facts, and notes.

    Without a name: llama-cpp-python if it is installed, else llama.cpp, with a note because the two differ
    in what they report. Raises ``UsageError`` for features that the engine lacks.
    """
    from edgebench.device.engines import create_engine
    from edgebench.device.session import Session

    name, notes = engine or str(device.defaults.get("engine", "")), tuple[str, ...]()
    if name:
        _check_able(name, auto, p_min)
    with Session(device) as session:
        if not name:
            try:
                create_engine(session, PREFERRED).prepare()
                name = PREFERRED
            except EngineMissing as error:
                name = FALLBACK
                notes = (f"{error}; falling back to {name}, which starts once per K",)
        _check_able(name, auto, p_min)
        return name, session.facts(), notes


def _check_able(engine: str, auto: bool, p_min: float) -> None:
    kind = plugins.load("engines", engine)
    if auto and "speculation-costs" not in kind.capabilities:
        raise UsageError(f"k = auto requires verification costs, which {engine} does not report", "Use a range.")
    if p_min and not (isinstance(kind, SpeculativeEngine) and kind.ends_drafts):
        raise UsageError(f"{engine} does not support p_min", f"{PREFERRED} and {FALLBACK} do.")
    if auto and p_min and not k_per_request(engine):
        raise UsageError(
            f"k = auto cannot be combined with p_min on {engine}, which does not report acceptance by position",
            f"Use a range, or the engine {PREFERRED}.",
        )


def _check_memory(plan: Plan, facts: DeviceFacts) -> None:
    """Raises ``ModelError`` for a pair that does not fit into the device's memory."""
    from edgebench.modelfiles import pairs

    largest = max(plan.trials, key=lambda planned: planned.draft is not None)
    options = largest.trial.options
    parts = {largest.model.name: pairs.memory_split(plan.engine, largest.model, options, options.get("gpu_layers"))}
    if largest.draft:
        parts[largest.draft.name] = pairs.memory_split(
            plan.engine, largest.draft, options, options.get("draft_gpu_layers")
        )
    pairs.check_fit(parts, facts, plan.device, plan.backend)


def resolve_draft(name: ModelLike, engine: str, transfer: Transfer = silent_transfer) -> ModelFile | str:
    """A draft model's file, or one of the engine's drafting methods without a model. Raises ``UsageError``."""
    from edgebench.judging.metrics.speculation import drafts_without_model

    if not isinstance(name, str):
        (file,) = planning.model_files([name], planning.model_formats(engine), transfer)
        return file
    methods = drafts_without_model(engine)
    if name in methods:
        return name
    if any(name in drafts_without_model(engine_name) for engine_name in plugins.names("engines")):
        hint = f"Methods of {engine}: {', '.join(methods)}." if methods else "It requires a draft model."
        raise UsageError(f"{engine} has no drafting method {name!r}", hint)
    (file,) = planning.model_files([name], planning.model_formats(engine), transfer)
    return file


def draft_lengths(text: str) -> list[int]:
    """The values of K of a range such as ``1..16``. Raises ``UsageError``."""
    try:
        values = [int(k) for k in ranges.parse(text, words=(), minimum=1)]
    except UsageError as error:
        hint = error.hint
        if error.hint == "Start at 1.":
            hint = "The baseline, k = 0, is always measured: start at 1."
        elif error.hint.startswith("Write "):
            hint = f"{error.hint[:-1]}; or auto, alone."
        raise UsageError(f"k: {error}", hint) from error
    if max(values) > MAX_K:
        raise UsageError(f"k: at most {MAX_K} draft tokens per step, not {max(values)}", f"Example: 1..{MAX_K}.")
    return values
