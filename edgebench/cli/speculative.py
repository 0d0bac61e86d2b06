"""``edgebench speculative``: does this draft help this target on this device, at which K, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from edgebench import plugins
from edgebench.cli import options, selection
from edgebench.cli.output import ProfileName, transfer
from edgebench.core import Device, DeviceFacts, Option, Record
from edgebench.errors import EngineMissing, UsageError
from edgebench.plan import defaults, k_per_request

if TYPE_CHECKING:
    from edgebench.api import planning
    from edgebench.plan import Plan

PREFERRED, OTHERWISE = "llama-cpp-python", "llama.cpp"
CONFIRMED = 3
"""Values of K that ``auto`` confirms by measuring."""


SECTIONS = {
    "Targets": ("--device", "--target", "--draft", "--k", "--p-min", "--gen-tokens", "--engine", "--backend"),
    "Engine options": None,
    "Measurement": ("--rounds", "--load-timeout", "--settle", "--wait", "--seed"),
    "Output": ("--name", "--store", "--json", "--strict", "--help"),
}


@click.command(cls=options.Sections, sections=SECTIONS, context_settings={"show_default": True})
@click.option("--device", "-d", default=defaults.DEVICE, type=ProfileName("devices"), help="Profile.")
@click.option("--target", default=defaults.TARGET, type=ProfileName("models"), help="Profile or GGUF file.")
@click.option(
    "--draft",
    "drafts",
    multiple=True,
    type=ProfileName("models"),
    help="Profile or GGUF file; or a way to draft without a model: prompt-lookup (llama-cpp-python), ngram-simple, "
    f"ngram-map-k, ngram-map-k4v (llama.cpp). Repeatable.  [default: {defaults.DRAFT}]",
)
@click.option("--k", "ks", default="1..16", metavar="RANGE|auto", help="Draft tokens at once; auto: by prediction.")
@click.option(
    "--engine",
    type=options.PartName("engines"),
    help=f"Engine.  [default: {PREFERRED} where the device's Python has it, else {OTHERWISE}]",
)
@options.backend
@options.launch(drafting=True)
@click.option(
    "--gen-tokens", metavar="N", type=options.Number(2), default=192, help="Tokens generated for each figure."
)
@click.option(
    "--p-min",
    metavar="P",
    type=click.FloatRange(0, 1),
    default=0.0,
    help="A draft ends where its likeliest token is below this.",
)
@options.how
@options.outcome
def command(
    device: str,
    target: str,
    drafts: Sequence[str],
    ks: str,
    engine: str | None,
    backend: str | None,
    p_min: float,
    gen_tokens: int,
    how: planning.Conduct,
    outcome: options.Outcome,
    **settings: str | None,
) -> int:
    """Sweep the number of draft tokens K, with the target alone in every round.

    For each K: tokens/s, the speed-up paired by round, acceptance, and the speed-up that acceptance
    and the measured costs predict. Without options: SmolLM2-135M, F16 with its 4-bit form as draft.
    """
    from edgebench.api import planning
    from edgebench.cli import measure
    from edgebench.judging import speculation

    auto, wanted = ks == "auto", _ks(ks)
    asked = _asked(gen_tokens, settings)
    (opened,) = planning.devices_of([device])
    kind, facts = _look(opened, engine, auto, p_min)
    selection.can_keep(outcome.path, outcome.json_output)
    files = tuple(planning.draft_of(draft, kind, transfer) for draft in dict.fromkeys(drafts or [defaults.DRAFT]))
    (target_file,) = planning.model_files([target], planning.model_formats(kind), transfer)
    used = planning.backend_of(opened, backend)
    sweep = planning.SweepRequest(opened, kind, used, target_file, files, asked, p_min, how)
    first = sweep.plan(wanted[-1:], rounds=1) if auto else sweep.plan(wanted)
    _check_memory(first, facts)
    return measure.execute(
        [first],
        outcome,
        view="speculative",
        finish=speculation.completed,
        next_plans=(lambda say: _confirming(sweep, wanted, say)) if auto else None,
    )


def _confirming(
    sweep: planning.SweepRequest, wanted: Sequence[int], say: Callable[[str], None]
) -> Callable[[Sequence[Record]], Sequence[Plan]]:
    """The plan that a long draft's records make likely."""
    from edgebench.judging import speculation

    def plans(records: Sequence[Record]) -> Sequence[Plan]:
        likely = speculation.likely(records, wanted, CONFIRMED)
        if likely:
            say(f"predicted best: k = {', '.join(map(str, likely))}; measuring these")
        return [sweep.plan(likely)] if likely else []

    return plans


def _ks(text: str) -> list[int]:
    from edgebench.api import planning

    return list(range(1, 17)) if text == "auto" else planning.draft_lengths(text)


def _asked(gen_tokens: int, settings: Mapping[str, str | None]) -> dict[str, Option]:
    asked: dict[str, Option] = {"gen_tokens": gen_tokens}
    for name, values in options.launch_values(settings).items():
        if len(values) > 1:
            flag = "--" + name.replace("_", "-")
            raise UsageError(f"{flag}: a sweep over draft tokens takes one value, not {settings[name]}", "Give one.")
        asked[name] = values[0]
    return asked


def _look(device: Device, engine: str | None, auto: bool, p_min: float) -> tuple[str, DeviceFacts]:
    """The engine, and what the device says of itself.

    Without a name: llama-cpp-python where it can run, else llama.cpp; said, as the two differ in
    what they tell. Raises ``UsageError`` for what an engine cannot do.
    """
    from edgebench.device.session import Session

    kind = engine or str(device.defaults.get("engine", ""))
    if kind:
        _check_able(kind, auto, p_min)
    with Session(device) as session:
        if not kind:
            try:
                plugins.create("engines", PREFERRED, session, config=device.engines.get(PREFERRED, {})).prepare()
                kind = PREFERRED
            except EngineMissing as error:
                kind = OTHERWISE
                click.echo(f"note: {error}; using {kind}, which starts once for every K", err=True)
        _check_able(kind, auto, p_min)
        return kind, session.facts()


def _check_able(engine: str, auto: bool, p_min: float) -> None:
    kind = plugins.load("engines", engine)
    if auto and "speculation-costs" not in kind.capabilities:
        raise UsageError(f"--k auto needs the costs of verifying, which {engine} does not tell", "Give a range.")
    if p_min and not getattr(kind, "ends_drafts", False):
        raise UsageError(
            f"--p-min is not possible with {engine}: it takes no such threshold",
            f"{PREFERRED} and {OTHERWISE} do.",
        )
    if auto and p_min and not k_per_request(engine):
        raise UsageError(
            f"--k auto cannot predict with --p-min on {engine}, which does not tell acceptance by position",
            f"Give a range, or --engine {PREFERRED}.",
        )


def _check_memory(plan: Plan, facts: DeviceFacts) -> None:
    from edgebench.modelfiles import pairs

    most = max(plan.trials, key=lambda planned: planned.draft is not None)
    options = most.trial.options
    parts = {most.model.name: pairs.needs_bytes(plan.engine, most.model, options, options.get("gpu_layers"))}
    if most.draft:
        parts[most.draft.name] = pairs.needs_bytes(plan.engine, most.draft, options, options.get("draft_gpu_layers"))
    pairs.check_fit(parts, facts, plan.device, plan.backend)
