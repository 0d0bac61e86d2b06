"""``edgebench speculative``: measure whether a draft speeds up a target on a device, at which K, and why."""

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
@click.option("--device", "-d", default=defaults.DEVICE, type=ProfileName("devices"), help="Device profile.")
@click.option(
    "--target", default=defaults.TARGET, type=ProfileName("models"), help="Target model: profile or GGUF file."
)
@click.option(
    "--draft",
    "drafts",
    multiple=True,
    type=ProfileName("models"),
    help="Draft model (profile or GGUF file), or a method without a model: prompt-lookup (llama-cpp-python), "
    f"ngram-simple, ngram-map-k, ngram-map-k4v (llama.cpp); repeatable.  [default: {defaults.DRAFT}]",
)
@click.option(
    "--k",
    "ks",
    default="1..16",
    metavar="RANGE|auto",
    help="Number of draft tokens per step (4, 1,2,4, 1..16, 1..16+5); auto predicts the best values and measures them.",
)
@click.option(
    "--engine",
    type=options.PartName("engines"),
    help="Engine.  [default: the device profile's, else llama-cpp-python if installed on the device, else llama.cpp]",
)
@options.backend_option
@options.launch_options(drafting=True)
@click.option(
    "--gen-tokens", metavar="N", type=options.Number(2), default=192, help="Tokens to generate per measurement."
)
@click.option(
    "--p-min",
    metavar="P",
    type=click.FloatRange(0, 1),
    default=0.0,
    help="Minimum probability of the draft's most likely token; the draft ends below it.",
)
@options.conduct_options
@options.output_options
def command(
    device: str,
    target: str,
    drafts: Sequence[str],
    ks: str,
    engine: str | None,
    backend: str | None,
    p_min: float,
    gen_tokens: int,
    conduct: planning.Conduct,
    output: options.OutputOptions,
    **settings: str | None,
) -> int:
    """Sweep the number of draft tokens K, with the target alone in every round.

    Reports for each K the decode rate, the speed-up paired by round, the acceptance, and the speed-up
    predicted from acceptance and measured costs. Without options, the target is SmolLM2-135M in F16
    and the draft is the same model in 4 bits.
    """
    from edgebench.api import drafting, planning
    from edgebench.cli import measure
    from edgebench.judging import speculation

    selection.check_writable(output.path, output.json_output)
    request = drafting.SpeculativeRequest(
        planning.single("device", planning.load_devices([device])),
        target,
        list(dict.fromkeys(drafts or [defaults.DRAFT])),
        ks,
        engine,
        backend,
        _single_values(gen_tokens, settings),
        p_min,
        conduct,
    )
    prepared = request.prepare(transfer)
    return measure.execute(
        [prepared.first],
        output,
        view="speculative",
        finish=speculation.complete_sweep,
        next_plans=prepared.next_plans,
    )


def _single_values(gen_tokens: int, settings: Mapping[str, str | None]) -> dict[str, Option]:
    single: dict[str, Option] = {"gen_tokens": gen_tokens}
    for name, values in options.launch_values(settings).items():
        if len(values) > 1:
            flag = "--" + name.replace("_", "-")
            raise UsageError(f"{flag} must be a single value in a sweep over K, not {settings[name]}")
        single[name] = values[0]
    return single
