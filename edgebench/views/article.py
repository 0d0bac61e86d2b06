"""The report as Markdown, for a README or an issue: the answer, the table, the pictures."""

from __future__ import annotations

from collections.abc import Sequence

from edgebench.core import Record
from edgebench.references import Reference
from edgebench.views.answer import Answer, answers
from edgebench.views.beside import COLUMNS, Beside, beside
from edgebench.views.charts import Figure
from edgebench.views.markdown import Markdown, escaped
from edgebench.views.reading import latest


def article(records: Sequence[Record], pictures: Sequence[tuple[Figure, str]], reference: Reference | None) -> str:
    """The text; ``pictures`` are the figures with the names of their files beside it."""
    newest = latest(records)
    parts = ["# Results", *(_answer(answer) for answer in answers(newest)), Markdown().render(records)]
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
    if answer.compared == 1:
        (best,) = answer.bests
        values = "; ".join(escaped(claim.value) for claim in best.claims)
        return f"{title}: only one configuration was measured, **{escaped(best.name)}**: {values}."
    said = []
    for best in answer.bests:
        claims = []
        for claim in best.claims:
            ties = f"; no difference shown to {', '.join(map(escaped, claim.ties))}" if claim.ties else ""
            claims.append(f"{claim.does} ({escaped(claim.value)}{ties})")
        doubted = f", with the doubt {', '.join(map(escaped, best.doubts))}" if best.doubts else ""
        said.append(f"**{escaped(best.name)}** {', '.join(claims)}{doubted}.")
    reduced = " Each device, engine and backend at its fastest settings." if answer.reduced else ""
    return f"{title}: {' '.join(said)}{reduced}"


def _reference(reference: Reference, rows: Sequence[Beside]) -> str:
    lines = [f"## Beside: {escaped(reference.title)}", ""]
    lines += [_row(["published, and measured here", *(title for _, title in COLUMNS), "what differs in method"])]
    lines += [_row(["---", *("---:" for _ in COLUMNS), "---"])]
    for row in rows:
        lines.append(_row([escaped(row.what), *map(escaped, row.published), "" if row.own else "not measured here"]))
        for own in row.own:
            cells = [" ".join(escaped(part) for part in cell if part) for cell in own.cells]
            differs = escaped("; ".join(own.differs)) or "nothing that is known"
            lines.append(_row([f"→ **{escaped(own.name)}**", *cells, differs]))
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
