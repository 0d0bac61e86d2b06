"""The report as Markdown, for a README or an issue: the answer, the table, the pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgebench.judging.workload import group_by_workload
from edgebench.profiles.references import Reference
from edgebench.views.charts import Figure
from edgebench.views.headline import capitalized
from edgebench.views.markdown import escaped, explained, grid
from edgebench.views.reference_comparison import Part, beside
from edgebench.views.report_data import Digest
from edgebench.views.rows import ranked
from edgebench.views.summary import Answer, answers, nothing
from edgebench.views.text import clean


def article(digest: Digest, pictures: Sequence[tuple[Figure, str]], reference: Reference | None) -> str:
    """The text; ``pictures`` are the figures with the names of their files beside it."""
    newest, shown = digest.newest, digest.records
    said = [_answer(answer) for answer in answers(newest)] or [escaped(nothing(newest))]
    parts = ["# Results", *filter(None, said)]
    for kind, group in group_by_workload(shown):
        parts += [f"## {escaped(kind.title)}", "\n".join(grid(ranked(group)))]
    parts += ["\n".join(explained(shown))] if explained(shown) else []
    if len(shown) < digest.total:
        parts.append(f"Here are {len(shown)} of {digest.total} records; `edgebench report --format csv` has all.")
    if reference:
        parts.append(_reference(reference, beside(reference, newest)))
    for figure, name in pictures:
        notes = [f"- {escaped(note)}" for note in figure.notes]
        picture = f"![{escaped(figure.title)}]({name})"
        parts += [
            f"## {escaped(figure.title)}",
            escaped(figure.reading),
            picture,
            *(["\n".join(notes)] if notes else []),
        ]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _answer(answer: Answer) -> str:
    title = escaped(answer.kind.title)
    remarks = [escaped(remark) for remark in answer.remarks]
    if answer.compared == 1:
        values = ", ".join(f"{claim.does} {escaped(claim.value)}" for claim in answer.claims)
        alone = f"{title}: only one configuration was measured: **{escaped(answer.claims[0].name)}** {values}."
        return " ".join([alone, *remarks])
    said = []
    for claim in answer.claims:
        ties = f"; no difference shown to {', '.join(map(escaped, claim.ties))}" if claim.ties else ""
        doubted = f"; doubted: {', '.join(map(escaped, claim.doubts))}" if claim.doubts else ""
        said.append(f"- **{escaped(claim.name)}** {claim.does}: {escaped(claim.value)}{ties}{doubted}.")
    return "\n\n".join([f"{title}:", *(["\n".join(said)] if said else []), *remarks])


def _reference(reference: Reference, parts: Sequence[Part]) -> str:
    said = [f"## Comparison with {escaped(reference.title)}"]
    if reference.otherwise:
        said.append(f"Differences in every row: {escaped('; '.join(reference.otherwise))}.")
    for part in parts:
        said += [f"### {escaped(part.title)}", "\n".join(_part(part))]
        # An indented block: every character stays as it is typed.
        repeats = dict.fromkeys(clean(row.repeat) for row in part.rows if row.repeat)
        if repeats:
            said += ["To repeat these rows:", "\n".join(f"    {command}" for command in repeats)]
    return "\n\n".join(said)


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
        yield _row([escaped(row.what), *map(escaped, row.published), "" if row.own else "not measured"])
        for own in row.own:
            cells = [" ".join(escaped(text) for text in cell if text) for cell in own.cells]
            differs = escaped("; ".join(own.differs)) or "no known differences"
            yield _row([f"→ **{escaped(own.name)}**", *cells, differs])
        if row.more:
            yield _row(
                [f"→ {row.more} more, which differ more from the published method", *("" for _ in part.columns), ""]
            )


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
