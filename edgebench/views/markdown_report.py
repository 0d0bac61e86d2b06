"""The report as Markdown, for a README or an issue: summary, tables and figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgebench.judging.workload import group_by_workload
from edgebench.profiles.references import Reference
from edgebench.views.charts import Figure
from edgebench.views.headline import capitalized
from edgebench.views.markdown import doubt_notes, escape, grid
from edgebench.views.reference_comparison import Part, compare_rows
from edgebench.views.report_data import Digest
from edgebench.views.rows import ranked
from edgebench.views.summary import WorkloadSummary, explain_no_summary, summarize
from edgebench.views.text import clean


def render_report(digest: Digest, pictures: Sequence[tuple[Figure, str]], reference: Reference | None) -> str:
    """The text; ``pictures``: the figures with the names of their files in the same folder."""
    newest, records = digest.newest, digest.records
    summaries = [_summary(summary) for summary in summarize(newest)] or [escape(explain_no_summary(newest))]
    parts = ["# Results", *filter(None, summaries)]
    for workload, group in group_by_workload(records):
        parts += [f"## {escape(workload.title)}", "\n".join(grid(ranked(group)))]
    parts += ["\n".join(doubt_notes(records))] if doubt_notes(records) else []
    if len(records) < digest.total:
        parts.append(f"Showing {len(records)} of {digest.total} records; `edgebench report --format csv` exports all.")
    if reference:
        parts.append(_reference(reference, compare_rows(reference, newest)))
    for figure, name in pictures:
        notes = [f"- {escape(note)}" for note in figure.notes]
        picture = f"![{escape(figure.title)}]({name})"
        parts += [
            f"## {escape(figure.title)}",
            escape(figure.caption),
            picture,
            *(["\n".join(notes)] if notes else []),
        ]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _summary(summary: WorkloadSummary) -> str:
    title = escape(summary.workload.title)
    remarks = [escape(remark) for remark in summary.remarks]
    if summary.compared == 1:
        values = ", ".join(f"{highlight.predicate} {escape(highlight.value)}" for highlight in summary.highlights)
        sentence = f"{title}: only one configuration was measured: **{escape(summary.highlights[0].name)}** {values}."
        return " ".join([sentence, *remarks])
    lines = []
    for highlight in summary.highlights:
        ties = f"; no difference shown to {', '.join(map(escape, highlight.ties))}" if highlight.ties else ""
        doubts = f"; doubts: {', '.join(map(escape, highlight.doubts))}" if highlight.doubts else ""
        lines.append(f"- **{escape(highlight.name)}** {highlight.predicate}: {escape(highlight.value)}{ties}{doubts}.")
    return "\n\n".join([f"{title}:", *(["\n".join(lines)] if lines else []), *remarks])


def _reference(reference: Reference, parts: Sequence[Part]) -> str:
    sections = [f"## Comparison with {escape(reference.title)}"]
    if reference.otherwise:
        sections.append(f"Differences in every row: {escape('; '.join(reference.otherwise))}.")
    for part in parts:
        sections += [f"### {escape(part.title)}", "\n".join(_part(part))]
        # An indented block is displayed verbatim.
        repeats = dict.fromkeys(clean(row.repeat) for row in part.rows if row.repeat)
        if repeats:
            sections += ["To repeat these rows:", "\n".join(f"    {command}" for command in repeats)]
    return "\n\n".join(sections)


def _part(part: Part) -> Iterator[str]:
    yield _row(
        [
            "published and measured",
            *(capitalized(entry.column) for entry in part.columns),
            "differences in method",
        ]
    )
    yield _row(["---", *("---:" for _ in part.columns), "---"])
    for row in part.rows:
        yield _row([escape(row.title), *map(escape, row.published), "" if row.results else "not measured"])
        for result in row.results:
            cells = [" ".join(escape(text) for text in cell if text) for cell in result.cells]
            differs = escape("; ".join(result.differs)) or "no known differences"
            yield _row([f"→ **{escape(result.name)}**", *cells, differs])
        if row.more:
            yield _row(
                [f"→ {row.more} more, which differ more from the published method", *("" for _ in part.columns), ""]
            )


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
