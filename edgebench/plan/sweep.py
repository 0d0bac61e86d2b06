"""The plan of a sweep over the number of draft tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from edgebench import engine_options, plan, plugins
from edgebench.core import Device, ModelFile, Option, SpeculativeEngine, Trial
from edgebench.errors import UsageError
from edgebench.modelfiles import pairs
from edgebench.plan import Planned

MOST_K = 64
BASELINE = "none"
"""The option ``draft`` of the target alone."""


def sweep(
    device: Device,
    target: ModelFile,
    drafts: Sequence[ModelFile | str],
    ks: Sequence[int],
    *,
    engine: str,
    backend: str,
    asked: Mapping[str, Option],
    p_min: float = 0.0,
) -> tuple[Planned, ...]:
    """The target alone, and every draft at every K. Raises ``UsageError`` for a pair that can't work.

    A draft is a model's file or one of the engine's ways to draft without a model.
    """
    kind = plugins.load("engines", engine)
    if not isinstance(kind, SpeculativeEngine):
        kinds = {name: plugins.load("engines", name) for name in plugins.names("engines")}
        able = [name for name, other in kinds.items() if isinstance(other, SpeculativeEngine)]
        raise UsageError(f"{engine} does not decode speculatively", f"Engines that do: {', '.join(able)}.")
    per_request = kind.k_per_request
    files = _models(drafts)
    pairs.check_rolls_back(target)
    notes = tuple(note for file in files for note in pairs.check(target, file))
    common: dict[str, Sequence[Option]] = {name: [value] for name, value in asked.items()}
    (baseline,) = plan.trials(device, [target], engine=engine, backend=backend, scenarios=["speculative"], asked=common)
    own: dict[str, Option] = {"k": 0, "draft": BASELINE}
    if files and backend != "cpu" and "draft_gpu_layers" in engine_options.declared_by(engine):
        own["draft_gpu_layers"] = baseline.trial.options.get("draft_gpu_layers", "all")
    if p_min and not files:
        raise UsageError("--p-min needs a draft model: nothing else is ever unsure", "Leave it out, or name one.")
    trial = replace(baseline.trial, options={**baseline.trial.options, **own})
    together = files[0] if files and per_request else None
    baseline = replace(baseline, trial=trial, draft=together, notes=(*baseline.notes, *notes))
    planned = [baseline]
    for draft in drafts:
        file = draft if isinstance(draft, ModelFile) else together
        name = draft.name if isinstance(draft, ModelFile) else draft
        for k in ks:
            its: dict[str, Option] = {"k": k, "draft": name}
            if p_min and isinstance(draft, ModelFile):
                its["p_min"] = p_min
            trial = replace(baseline.trial, options={**baseline.trial.options, **its})
            said = () if per_request else _batch(trial)
            planned.append(replace(baseline, trial=trial, draft=file, notes=(*baseline.notes, *said)))
    if files and not per_request and "speculation-costs" in plugins.load("engines", engine).capabilities:
        planned.append(_alone(baseline, files[0]))
    return tuple(planned)


def _models(drafts: Sequence[ModelFile | str]) -> list[ModelFile]:
    """The draft models among the drafts: none or one."""
    files = [draft for draft in drafts if isinstance(draft, ModelFile)]
    if len(files) > 1:
        raise UsageError("only one draft model per sweep", "Drafts without a model can be combined with it.")
    return files


def _batch(trial: Trial) -> tuple[str, ...]:
    batch, k = int(trial.options.get("batch") or 0), int(trial.options["k"])
    if not batch or k < batch:
        return ()
    return (f"a batch of {batch} holds no verification of {k + 1} tokens: for k = {k} the logical batch is {k + 1}",)


def _alone(baseline: Planned, draft: ModelFile) -> Planned:
    """The draft as a target of its own: what one of its steps takes, where an engine doesn't say."""
    options = {name: value for name, value in baseline.trial.options.items() if name != "gpu_layers"}
    if "draft_gpu_layers" in options:
        options["gpu_layers"] = options["draft_gpu_layers"]
    trial = replace(baseline.trial, model=draft.name, options=options)
    return replace(baseline, trial=trial, model=draft, notes=())
