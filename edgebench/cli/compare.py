"""``edgebench compare``: compare two runs, devices, engines, backends, builds or stores."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from edgebench.cli.selection import open_existing, store_option, terminal, where_options, write
from edgebench.errors import UsageError
from edgebench.judging import metrics
from edgebench.judging.comparison import Comparison
from edgebench.store.filters import Filter
from edgebench.store.records import dumps
from edgebench.store.results import Store


class Share(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.2 only
    """A percentage: ``5%``."""

    name = "percent"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"\s*([0-9]{1,4}(?:\.[0-9]{1,6})?)\s*(%?)\s*", value, re.ASCII)
        if match is None or not match[2]:
            near = f" Did you mean {match[1]}%?" if match else " Write it as 5%."
            self.fail(f"{value!r} is not a percentage.{near}", param, ctx)
        return float(match[1]) / 100


def _metric(ctx: click.Context, param: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    from edgebench.api.sides import check_metrics

    check_metrics(names)
    return names


@click.command()
@click.argument("a")
@click.argument("b")
@where_options
@store_option
@click.option(
    "--metric",
    "names",
    multiple=True,
    callback=_metric,
    metavar="NAME",
    help="Metric to compare; repeatable.  [default: the headline metrics]",
)
@click.option(
    "--fail-above",
    "limit",
    type=Share(),
    help="Exit with code 1 if B is worse than A by more than this percentage, e.g. 5%.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout.")
@click.pass_context
def command(
    ctx: click.Context,
    a: str,
    b: str,
    path: Path,
    where: Filter,
    names: tuple[str, ...],
    limit: float | None,
    as_json: bool,
) -> None:
    """Compare two runs, results, devices, engines, backends, builds or store files.

    An ID may be shortened to a prefix; the name of a run selects the newest run with that name.
    Qualify an argument that is ambiguous: device:local, run:local.

    Only trials with the same model file, quantization, scenario and options are compared. A
    difference that is not statistically significant is reported as "no difference shown". Exit
    codes: 1 if B is worse by more than --fail-above, 2 if no trials are comparable.
    """
    from edgebench.api.sides import resolve
    from edgebench.views import comparison_view

    comparison = resolve(a, b, lambda: _open_store(path), where).compare(names)
    if as_json:
        write(dumps(comparison_view.as_json(comparison), indent=2) + "\n", None)
    else:
        width, _ = terminal()
        write(comparison_view.text(comparison, width=width), None)
    if limit is not None:
        ctx.exit(judge_exit_code(comparison, limit))


def judge_exit_code(comparison: Comparison, limit: float) -> int:
    """The exit code; prints the reasons to stderr."""
    code = 0
    for pair in comparison.pairs:
        changes = [finding.change for finding in pair.findings if finding.change]
        reason = ""
        if pair.a.status != "ok" or pair.b.status != "ok":
            reason = f"{pair.a.id} {pair.a.status}, {pair.b.id} {pair.b.status}"
        elif not changes:
            reasons = "; ".join(dict.fromkeys(finding.why for finding in pair.findings)) or "no metrics were measured"
            reason = f"{pair.a.id} and {pair.b.id}: {reasons}"
        elif all(change.few for change in changes):
            reason = f"{pair.a.id} and {pair.b.id}: too few rounds for a verdict; use --rounds 5 or more"
        if reason:
            click.echo(f"not comparable: {reason}", err=True)
            code = code or 2
        for finding in pair.findings:
            if finding.worse > limit:
                title = metrics.find(finding.name).title
                click.echo(f"{title} of {pair.b.id} is worse by {finding.worse:.1%} (limit {limit:.1%})", err=True)
                code = 1
    return code


@contextmanager
def _open_store(path: Path) -> Iterator[Store]:
    with open_existing(path) as store:
        if store is None:
            raise UsageError("no results to compare yet", "Measure twice, e.g. edgebench run --name before")
        yield store
