"""The plan of a sweep over the number of draft tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from edgebench import engine_options, plan, plugins
from edgebench.core import Device, ModelFile, Option, SpeculativeEngine, Trial
from edgebench.errors import UsageError
from edgebench.modelfiles import pairs
from edgebench.plan import Planned

MAX_K = 64
BASELINE = "none"
"""Value of the option ``draft`` for the target alone."""


def sweep(
    device: Device,
    target: ModelFile,
    drafts: Sequence[ModelFile | str],
    ks: Sequence[int],
    *,
    engine: str,
    backend: str,
    options: Mapping[str, Option],
    p_min: float = 0.0,
) -> tuple[Planned, ...]:
    """The target alone, and every draft at every K. Raises ``UsageError`` for an incompatible pair.

    A draft is a model's file or one of the engine's ways to draft without a model.
    """
    engine_cls = plugins.load("engines", engine)
    if not isinstance(engine_cls, SpeculativeEngine):
        engine_classes = {name: plugins.load("engines", name) for name in plugins.names("engines")}
        speculative = [name for name, candidate in engine_classes.items() if isinstance(candidate, SpeculativeEngine)]
        raise UsageError(f"{engine} does not decode speculatively", f"Engines that do: {', '.join(speculative)}.")
    per_request = engine_cls.k_per_request
    files = _models(drafts)
    pairs.check_rolls_back(target)
    notes = tuple(note for draft_file in files for note in pairs.check(target, draft_file))
    common: dict[str, Sequence[Option]] = {name: [value] for name, value in options.items()}
    (baseline,) = plan.trials(
        device, [target], engine=engine, backend=backend, scenarios=["speculative"], options=common
    )
    baseline_options: dict[str, Option] = {"k": 0, "draft": BASELINE}
    if files and backend != "cpu" and "draft_gpu_layers" in engine_options.declared_by(engine):
        baseline_options["draft_gpu_layers"] = baseline.trial.options.get("draft_gpu_layers", "all")
    if p_min and not files:
        raise UsageError("--p-min requires a draft model", "Omit it, or pass --draft MODEL.")
    trial = replace(baseline.trial, options={**baseline.trial.options, **baseline_options})
    shared_draft = files[0] if files and per_request else None
    baseline = replace(baseline, trial=trial, draft=shared_draft, notes=(*baseline.notes, *notes))
    planned = [baseline]
    for draft in drafts:
        draft_file = draft if isinstance(draft, ModelFile) else shared_draft
        name = draft.name if isinstance(draft, ModelFile) else draft
        for k in ks:
            draft_options: dict[str, Option] = {"k": k, "draft": name}
            if p_min and isinstance(draft, ModelFile):
                draft_options["p_min"] = p_min
            trial = replace(baseline.trial, options={**baseline.trial.options, **draft_options})
            batch_notes = () if per_request else _batch_notes(trial)
            planned.append(replace(baseline, trial=trial, draft=draft_file, notes=(*baseline.notes, *batch_notes)))
    if files and not per_request and "speculation-costs" in plugins.load("engines", engine).capabilities:
        planned.append(_draft_alone(baseline, files[0]))
    return tuple(planned)


def _models(drafts: Sequence[ModelFile | str]) -> list[ModelFile]:
    """The draft models among the drafts: none or one."""
    files = [draft for draft in drafts if isinstance(draft, ModelFile)]
    if len(files) > 1:
        raise UsageError("only one draft model per sweep", "Drafts without a model can be combined with it.")
    return files


def _batch_notes(trial: Trial) -> tuple[str, ...]:
    batch, k = int(trial.options.get("batch") or 0), int(trial.options["k"])
    if not batch or k < batch:
        return ()
    return (f"a verification of {k + 1} tokens exceeds the batch of {batch}: for k = {k} the logical batch is {k + 1}",)


def _draft_alone(baseline: Planned, draft: ModelFile) -> Planned:
    """The draft as a target of its own, to measure its step time if the engine does not report it."""
    options = {name: value for name, value in baseline.trial.options.items() if name != "gpu_layers"}
    if "draft_gpu_layers" in options:
        options["gpu_layers"] = options["draft_gpu_layers"]
    trial = replace(baseline.trial, model=draft.name, options=options)
    return replace(baseline, trial=trial, model=draft, notes=())
