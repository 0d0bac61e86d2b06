"""A comparison as text, and as JSON values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING

from edgebench.core import SCHEMA
from edgebench.judging import metrics
from edgebench.judging.comparison import Comparison, Finding, Pair, comparison_key, find_differences
from edgebench.store.records import to_plain
from edgebench.views import units
from edgebench.views.fields import outcome
from edgebench.views.text import clean, describe, text_console, trim

if TYPE_CHECKING:
    from rich.table import Table as Grid


MAX_UNMATCHED = 5
"""Maximum number of listed results without a counterpart, per side."""


def text(comparison: Comparison, *, width: int | None = None) -> str:
    """Each pair with its figures, changes, intervals and verdicts; then results without a counterpart.

    ``width``: columns of the terminal; None: unlimited.
    """
    from rich.text import Text

    out = StringIO()
    console = text_console(out, width=width)
    for pair in comparison.pairs:
        for part in _pair(pair):
            console.print(Text(part) if isinstance(part, str) else part)
        console.print()
    for side, records in (("A", comparison.only_a), ("B", comparison.only_b)):
        for record in records[:MAX_UNMATCHED]:
            console.print(Text(f"only in {side}: {clean(record.id)} {_join_parts(describe(record))}"))
        if records[MAX_UNMATCHED:]:
            console.print(Text(f"only in {side}: {len(records) - MAX_UNMATCHED} more; --json lists all"))
    return trim(out).rstrip("\n") + "\n"


def _join_parts(parts: Mapping[str, str]) -> str:
    plain = ("device", "model", "engine", "backend", "scenario")
    return " · ".join(part if name in plain else f"{name} {part}" for name, part in parts.items())


def _pair(pair: Pair) -> Iterator[str | Grid]:
    a, b = describe(pair.a), describe(pair.b)
    same = {name: part for name, part in a.items() if part == b.get(name)}
    yield _join_parts(same)
    for side, record, parts in (("A", pair.a, a), ("B", pair.b, b)):
        differing_parts = [f"{name} {part}" for name, part in parts.items() if name not in same]
        name = clean(str(record.run.get("name") or ""))
        yield ", ".join([f"{side}: {record.id}", *([f"run {name}"] if name else []), *differing_parts])
        if record.status != "ok":
            reason = f": {clean(record.failure.message)}" if record.failure else ""
            yield f"   {outcome(record)}{reason}"
        if record.doubts:
            yield f"   doubts: {', '.join(dict.fromkeys(clean(doubt.id) for doubt in record.doubts))}"
    if pair.findings:
        yield _grid(pair.findings)
        yield "paired by round" if pair.paired else "not paired: the rounds are of different runs"
    for name, (value_a, value_b) in pair.differs.items():
        yield f"also differs: {name}: {clean(value_a)} → {clean(value_b)}"


def _grid(findings: Sequence[Finding]) -> Grid:
    """A row for each metric, with the 95 % interval below each change."""
    from rich import box
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    grid.add_column("", overflow="fold")
    for name in ("A", "B", "change\n95 % interval"):
        grid.add_column(name, justify="right", no_wrap=True)
    grid.add_column("verdict", overflow="fold", min_width=13)
    for finding in findings:
        grid.add_row(*map(Text, _row(finding)))
    return grid


def _row(finding: Finding) -> tuple[str, ...]:
    entry = metrics.find(finding.name)
    sides = ("–" if value is None else units.quantity(value, entry.unit) for value in (finding.a, finding.b))
    change = finding.change
    if change is None:
        return (entry.title, *sides, "–", finding.why)
    change_text = _percent(change.ratio)
    if change.low is not None and change.high is not None:
        change_text += f"\n{_percent(change.low).removesuffix(' %')} … {_percent(change.high)}"
    return (entry.title, *sides, change_text, verdict(finding))


def verdict(finding: Finding) -> str:
    """``better``, ``worse``, ``no difference shown``, or the reason why there is no comparison."""
    change = finding.change
    if change is None:
        return finding.why
    if change.verdict == "no difference shown":
        few = f" (too few rounds: {change.rounds})" if change.few else ""
        return f"no difference shown{few}"
    better = metrics.find(finding.name).better
    return change.verdict if better == "none" else "better" if change.verdict == better else "worse"


def _percent(ratio: float) -> str:
    return f"{round(100 * (ratio - 1), 1) + 0.0:+.1f} %"  # + 0.0: avoids -0.0


def _differences(pair: Pair) -> object:
    differences = find_differences(comparison_key(pair.a), comparison_key(pair.b))
    return to_plain({**differences, **pair.differs})


def as_json(comparison: Comparison) -> dict[str, object]:
    """The comparison as JSON values; ratios are b ÷ a, in base units."""
    return {
        "schema": SCHEMA,
        "comparisons": [
            {
                "trial": to_plain(pair.a.trial),
                "a": pair.a.id,
                "b": pair.b.id,
                "status": [pair.a.status, pair.b.status],
                "paired": pair.paired,
                "differs": _differences(pair),
                "metrics": {finding.name: _finding(finding) for finding in pair.findings},
            }
            for pair in comparison.pairs
        ],
        "only_a": [record.id for record in comparison.only_a],
        "only_b": [record.id for record in comparison.only_b],
    }


def _finding(finding: Finding) -> dict[str, object]:
    change = finding.change
    return {
        "unit": metrics.find(finding.name).unit,
        "a": finding.a,
        "b": finding.b,
        "ratio": change.ratio if change else None,
        "low": change.low if change else None,
        "high": change.high if change else None,
        "rounds": change.rounds if change else 0,
        "verdict": verdict(finding),
    }
