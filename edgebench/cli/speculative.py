"""``edgebench speculative``: does this draft help this target on this device, at which K, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from edgebench.cli import options, selection
from edgebench.cli.output import ProfileName, transfer
from edgebench.core import Option
from edgebench.errors import UsageError
from edgebench.plan import defaults

if TYPE_CHECKING:
    from edgebench.api import planning

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
    help="Engine.  [default: the device's, else llama-cpp-python if its Python has it, else llama.cpp]",
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
    from edgebench.api import drafting, planning
    from edgebench.cli import measure
    from edgebench.judging import speculation

    selection.can_keep(outcome.path, outcome.json_output)
    request = drafting.SpeculativeRequest(
        planning.single("device", planning.devices_of([device])),
        target,
        list(dict.fromkeys(drafts or [defaults.DRAFT])),
        ks,
        engine,
        backend,
        _asked(gen_tokens, settings),
        p_min,
        how,
    )
    prepared = request.prepare(transfer)
    return measure.execute(
        [prepared.first],
        outcome,
        view="speculative",
        finish=speculation.completed,
        next_plans=prepared.next_plans,
    )


def _asked(gen_tokens: int, settings: Mapping[str, str | None]) -> dict[str, Option]:
    asked: dict[str, Option] = {"gen_tokens": gen_tokens}
    for name, values in options.launch_values(settings).items():
        if len(values) > 1:
            flag = "--" + name.replace("_", "-")
            raise UsageError(f"{flag}: a sweep over draft tokens takes one value, not {settings[name]}", "Give one.")
        asked[name] = values[0]
    return asked
