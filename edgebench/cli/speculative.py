"""``edgebench speculative``: does this draft help this target on this device, at which K, and why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from edgebench import plugins, ranges
from edgebench.cli import options, selection
from edgebench.cli.output import ProfileName
from edgebench.cli.run import DEFAULT_DEVICE, device_of, models_of
from edgebench.core import Device, ModelFile, Option, Record
from edgebench.errors import EngineMissing, UsageError

DEFAULT_TARGET = "smollm2-135m-f16"
DEFAULT_DRAFT = "smollm2-135m-q4_1"
PREFERRED, OTHERWISE = "llama-cpp-python", "llama.cpp"
CONFIRMED = 3
"""Values of K that ``auto`` confirms by measuring."""


@click.command(context_settings={"show_default": True})
@click.option("--device", "-d", default=DEFAULT_DEVICE, type=ProfileName("devices"), help="Profile.")
@click.option("--target", default=DEFAULT_TARGET, type=ProfileName("models"), help="Profile or GGUF file.")
@click.option(
    "--draft",
    "drafts",
    multiple=True,
    type=ProfileName("models"),
    help="Profile or GGUF file; or a way to draft without a model: prompt-lookup (llama-cpp-python), ngram-simple, "
    f"ngram-map-k, ngram-map-k4v (llama.cpp). Again for more rows.  [default: {DEFAULT_DRAFT}]",
)
@click.option("--k", "ks", default="1..16", metavar="RANGE|auto", help="Draft tokens at once; auto: by prediction.")
@click.option("--engine", help=f"[default: {PREFERRED} where the device's Python has it, else {OTHERWISE}]")
@click.option("--backend", help="cpu, cuda, metal, opencl, vulkan.  [default: the device's, else cpu]")
@click.option("--rounds", "-r", type=click.IntRange(1, 1000), default=5, help="Passes over every K and the baseline.")
@click.option("--gpu-layers", metavar="N|all", help="Layers of the target on the GPU.")
@click.option("--draft-gpu-layers", metavar="N|all", help="Layers of the draft on the GPU.")
@click.option("--threads", type=click.IntRange(1), help="Threads of the engine.")
@click.option("--ctx", type=click.IntRange(1), help="Context, tokens.  [default: 4096]")
@click.option("--batch", type=click.IntRange(1), help="Batch, tokens.")
@click.option("--gen-tokens", type=click.IntRange(2), default=192, help="Tokens generated for each figure.")
@click.option("--p-min", type=click.FloatRange(0, 1), default=0.0, help="A draft ends below this probability.")
@click.option("--seed", type=int, default=0, help="Of the order of trials.")
@click.option("--name", default="", help="What to call this run.")
@selection.store_option
@options.json_output
def command(
    device: str,
    target: str,
    drafts: Sequence[str],
    ks: str,
    engine: str | None,
    backend: str | None,
    rounds: int,
    p_min: float,
    seed: int,
    name: str,
    path: Path,
    json_output: str | None,
    **settings: Any,
) -> int:
    """Sweep the number of draft tokens K, with the target alone in every round.

    For each K: tokens/s, the speed-up paired by round, acceptance, and the speed-up that acceptance
    and the measured costs predict. Without options: SmolLM2-135M, F16 with its 4-bit form as draft.
    """
    from edgebench import speculation
    from edgebench.cli import measure
    from edgebench.plan import Plan
    from edgebench.sweep import sweep

    auto = ks == "auto"
    wanted = list(range(1, 17)) if auto else _ks(ks)
    opened = device_of(device)
    kind = engine or str(opened.defaults.get("engine", "")) or _engine(opened)
    (target_file,) = models_of([target], plugins.load("engines", kind).format)
    files = [_draft(draft, kind) for draft in dict.fromkeys(drafts or [DEFAULT_DRAFT])]
    asked = _asked(settings)
    per_request = plugins.load("engines", kind).k_per_request
    if auto and not per_request:
        raise UsageError(
            f"--k auto needs the costs of drafting and verifying, which {kind} does not tell", "Give a range."
        )
    if p_min and not per_request:
        raise UsageError(f"--p-min is not possible with {kind}", "With llama-cpp-python it is.")
    _check_memory(opened, target_file, files, asked)

    def plan(ks: Sequence[int], rounds: int) -> Plan:
        trials = sweep(
            opened,
            target_file,
            files,
            ks,
            engine=kind,
            backend=backend or str(opened.defaults.get("backend", "cpu")),
            asked=asked,
            p_min=p_min,
        )
        return Plan(trials, rounds=rounds, seed=seed, start_once=per_request)

    def confirm(records: Sequence[Record]) -> Sequence[Plan]:
        likely = speculation.likely(records, wanted, CONFIRMED)
        if likely:
            click.echo(f"predicted best: k = {', '.join(map(str, likely))}; measuring these", err=True)
        return [plan(likely, rounds)] if likely else []

    return measure.carry_out(
        [plan(wanted[-1:], 1) if auto else plan(wanted, rounds)],
        path,
        name=name,
        json_output=json_output,
        view="speculative",
        finish=speculation.completed,
        then=confirm if auto else None,
    )


def _ks(text: str) -> list[int]:
    from edgebench.sweep import MOST_K

    try:
        found = [int(k) for k in ranges.parse(text, words=(), least=1)]
    except UsageError as error:
        hint = error.hint
        if error.hint == "Start at 1.":
            hint = "The baseline, k = 0, is always measured: start at 1."
        raise UsageError(f"--k: {error}", hint) from error
    if max(found) > MOST_K:
        raise UsageError(f"--k: {max(found)} draft tokens at once; at most {MOST_K}", f"Such as 1..{MOST_K}.")
    return found


def _draft(name: str, engine: str) -> ModelFile | str:
    from edgebench.speculation import drafts_without_model

    if name in drafts_without_model(engine):
        return name
    (file,) = models_of([name], plugins.load("engines", engine).format)
    return file


def _asked(settings: dict[str, Any]) -> dict[str, Option]:
    asked: dict[str, Option] = {name: value for name, value in settings.items() if value is not None}
    for name in ("gpu_layers", "draft_gpu_layers"):
        if name in asked:
            (asked[name],) = ranges.parse(str(asked[name]), words=["all"], least=0)
    return asked


def _engine(device: Device) -> str:
    """llama-cpp-python where it can run, else llama.cpp; said, as the two differ in what they tell."""
    from edgebench.session import Session

    kind = plugins.load("engines", PREFERRED)
    with Session(device) as session:
        try:
            kind(session, kind.Config(**device.engines.get(PREFERRED, {}))).prepare()
        except EngineMissing as error:
            click.echo(f"note: {error}; using {OTHERWISE}, which starts once for every K", err=True)
            return OTHERWISE
    return PREFERRED


def _check_memory(
    device: Device, target: ModelFile, drafts: Sequence[ModelFile | str], asked: dict[str, Option]
) -> None:
    from edgebench import pairs
    from edgebench.plan import CTX
    from edgebench.session import Session

    ctx = int(asked.get("ctx", device.defaults.get("ctx", CTX)))
    ctx = min(ctx, int(target.facts.get("context_length", ctx)))
    sizes: dict[str, Option] = {**asked, "ctx": ctx}
    parts = {target.name: pairs.needs_bytes(target, sizes, asked.get("gpu_layers"))}
    for draft in drafts:
        if isinstance(draft, ModelFile):
            parts[draft.name] = pairs.needs_bytes(draft, sizes, asked.get("draft_gpu_layers"))
    with Session(device) as session:
        pairs.check_fit(parts, session.facts(), device.name)
