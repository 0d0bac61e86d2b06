"""A comparison as text, and as JSON values."""

from __future__ import annotations

from collections.abc import Iterator

from edgebench import metrics
from edgebench.comparison import Comparison, Finding, Pair
from edgebench.core import SCHEMA, Json, Record
from edgebench.records import plain
from edgebench.views import units
from edgebench.views.detail import columns
from edgebench.views.text import clean, describe


def text(comparison: Comparison) -> str:
    """Each pair with its figures, changes, intervals and verdicts; then what had no counterpart."""
    parts = ["\n".join(_pair(pair)) for pair in comparison.pairs]
    for side, records in (("A", comparison.only_a), ("B", comparison.only_b)):
        if records:
            parts.append("\n".join(f"only in {side}: {clean(record.id)} {_named(record)}" for record in records))
    return "\n\n".join(parts) + "\n"


def _named(record: Record) -> str:
    return " · ".join(
        part if name in ("device", "model", "engine", "backend", "scenario") else f"{name} {part}"
        for name, part in describe(record).items()
    )


def _pair(pair: Pair) -> Iterator[str]:
    a, b = describe(pair.a), describe(pair.b)
    same = [name for name in a if a[name] == b.get(name)]
    yield " · ".join(
        a[name] if name in ("device", "model", "engine", "backend", "scenario") else f"{name} {a[name]}"
        for name in same
    )
    for side, record, parts in (("A", pair.a, a), ("B", pair.b, b)):
        own = [f"{name} {part}" for name, part in parts.items() if name not in same]
        name = clean(str(record.run.get("name") or ""))
        yield ", ".join([f"{side}: {record.id}", *([f"run {name}"] if name else []), *own])
        if record.status != "ok":
            why = f": {clean(record.failure.message)}" if record.failure else ""
            yield f"   {record.status}{why}"
        if record.doubts:
            yield f"   doubts: {', '.join(dict.fromkeys(clean(doubt.id) for doubt in record.doubts))}"
    if pair.findings:
        rows = [("", "A", "B", "change", "95 % interval", "verdict"), *map(_row, pair.findings)]
        yield from columns(rows)
        yield "paired by round" if pair.paired else "not paired: the rounds are of different runs"
    for name, (one, other) in pair.differs.items():
        yield f"also differs: {name}: {clean(one)} → {clean(other)}"


def _row(finding: Finding) -> tuple[str, ...]:
    known = metrics.find(finding.name)
    sides = ("–" if value is None else units.quantity(value, known.unit) for value in (finding.a, finding.b))
    change = finding.change
    if change is None:
        return (known.title, *sides, "–", "", finding.why)
    ends = (change.low, change.high)
    interval = " … ".join(_percent(end) for end in ends if end is not None)
    return (known.title, *sides, _percent(change.ratio), interval, verdict(finding))


def verdict(finding: Finding) -> str:
    """``better``, ``worse``, or that no difference was shown."""
    change = finding.change
    if change is None:
        return finding.why
    if change.verdict == "no difference shown":
        few = f" (too few rounds: {change.rounds})" if change.few else ""
        return f"no difference shown{few}"
    better = metrics.find(finding.name).better
    return change.verdict if not better else "better" if change.verdict == better else "worse"


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f} %"


def as_json(comparison: Comparison) -> dict[str, Json]:
    """The same for programs: ratios are b ÷ a, shares are not per cent."""
    return {
        "schema": SCHEMA,
        "comparisons": [
            {
                "trial": plain(pair.a.trial),
                "a": pair.a.id,
                "b": pair.b.id,
                "status": [pair.a.status, pair.b.status],
                "paired": pair.paired,
                "differs": plain(pair.differs),
                "metrics": {finding.name: _finding(finding) for finding in pair.findings},
            }
            for pair in comparison.pairs
        ],
        "only_a": [record.id for record in comparison.only_a],
        "only_b": [record.id for record in comparison.only_b],
    }


def _finding(finding: Finding) -> dict[str, Json]:
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
