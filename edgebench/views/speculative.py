"""A sweep over draft tokens: one line a K, the target alone first, and the verdict in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from edgebench import speculation
from edgebench.core import Metric, Record
from edgebench.views import units
from edgebench.views.table import failed_and_doubted
from edgebench.views.text import clean

COLUMNS = ("draft", "k", "tokens/s", "ms per token", "speed-up", "predicted", "acceptance", "tokens a check", "memory")


class Speculative:
    """A table in plain text."""

    suffix: ClassVar[str] = ".txt"

    def render(self, records: Sequence[Record]) -> str:
        if not records:
            return "No results.\n"
        rows = [COLUMNS, *(_row(record) for record in records)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
        lines = [_heading(records)]
        for number, row in enumerate(rows):
            cells = [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
            lines.append("  ".join(cells).rstrip())
            if number == 0:
                lines.append("─" * len("  ".join(cells)))
        lines += ["", *(f"{text}" for text in _sentences(records)), *failed_and_doubted(records)]
        return "\n".join(lines) + "\n"


def _heading(records: Sequence[Record]) -> str:
    trial = records[0].trial
    load = next((record.metrics["load_s"] for record in records if "load_s" in record.metrics), None)
    parts = [trial.device, f"target {trial.model}", trial.engine, trial.backend, f"ctx {trial.options.get('ctx')}"]
    if load:
        parts.append(f"load {units.quantity(load.value, load.unit)}")
    return " · ".join(clean(str(part)) for part in parts)


def _row(record: Record) -> tuple[str, ...]:
    metrics, trial = record.metrics, record.trial
    tps = metrics.get("decode_tps")
    mark = "" if record.status == "ok" else f" {record.status}"
    draft = trial.options.get("draft", f"{trial.model} alone")
    return (
        clean(str(draft)) + (" !" if record.doubts else "") + mark,
        str(trial.options.get("k")),
        _plain(tps, 1),
        f"{1000 / tps.value:.1f}" if tps else "–",
        _ratio(metrics.get("speedup")),
        _plain(metrics.get("predicted_speedup"), 2),
        f"{metrics['acceptance'].value:.1%}" if "acceptance" in metrics else "–",
        _plain(metrics.get("tokens_per_verification"), 2),
        _memory(metrics.get("peak_footprint_b")),
    )


def _plain(metric: Metric | None, digits: int) -> str:
    return f"{metric.value:.{digits}f}" if metric else "–"


def _ratio(metric: Metric | None) -> str:
    if metric is None:
        return "–"
    between = f" ({metric.low:.2f}–{metric.high:.2f})" if metric.low is not None and metric.high is not None else ""
    return f"{metric.value:.2f}×{between}"


def _memory(metric: Metric | None) -> str:
    return units.quantity(metric.value, metric.unit) if metric else "–"


def _sentences(records: Sequence[Record]) -> list[str]:
    found = [speculation.verdict(records).text]
    known = speculation.costs(records)
    if known:
        shown = ", ".join(f"{size}: {1e3 * seconds:.1f} ms" for size, seconds in sorted(known.verify_s.items()))
        found.append(f"verifying so many tokens at once takes {shown}")
        if known.draft_s is not None:
            first = known.first_draft_s
            after = f", its first {1e3 * first:.1f} ms" if first is not None else ""
            found.append(f"a step of the draft takes {1e3 * known.draft_s:.1f} ms{after}")
        if known.method:
            found.append(f"how: {known.method}")
    return found
