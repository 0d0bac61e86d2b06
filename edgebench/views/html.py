"""The page: one self-contained file that loads nothing and runs nothing but its own script."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, ClassVar

from edgebench.core import Record
from edgebench.judging import metrics
from edgebench.judging.readings import metric
from edgebench.profiles.references import Reference
from edgebench.version import __version__
from edgebench.views import charts, reference_comparison
from edgebench.views.charts import Figure, Panel, theme
from edgebench.views.headline import capitalized, measured_metrics
from edgebench.views.library import library
from edgebench.views.report_data import ROWS, Digest
from edgebench.views.rows import Logs, TableRow, details, table
from edgebench.views.summary import explain_no_summary, summarize
from edgebench.views.units import count_noun

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

DETAILS = 250
"""Records whose facts, rounds and logs a page holds."""
LINES = 100
"""Lines of a figure's table."""
SUMMARIES = 1
"""Workloads whose summary is on the first screen."""
STILL_WIDTH = 640
"""Pixels of the still picture that stands in where scripts don't run."""


_UNDER_WAY = {"running": "still running"}


@dataclass(frozen=True)
class Choice:
    """A filter of the table: a field of its rows with more than one value."""

    title: str
    name: str
    every: str
    options: tuple[str, ...]


class Html:
    """The view: a page without a reference and without a server behind it."""

    suffix: ClassVar[str] = ".html"

    def render(self, records: Sequence[Record]) -> str:
        return page(records)


def page(
    records: Iterable[Record] | Digest,
    *,
    reference: Reference | None = None,
    logs: Logs = lambda id: (),
    live: str = "",
    empty: str = "",
) -> str:
    """The page's text.

    ``reference`` is put beside the records; ``logs`` gives the engine's own words. ``live`` is the
    data's version where a server stands behind the page. ``empty`` says why there are no records.
    """
    digest = records if isinstance(records, Digest) else Digest(records)
    figures = charts.figures(digest.newest)
    text = _template("page.html").render(
        heading=heading(digest),
        overview=overview(digest),
        empty=empty,
        summaries=(summaries := summarize(digest.newest)),
        no_summary="" if summaries else explain_no_summary(digest.newest),
        max_summaries=SUMMARIES,
        more_summaries=count_noun(len(summaries) - SUMMARIES, "more kind") + " of work",
        **_results_context(digest, logs),
        **_reference_context(reference, digest.newest),
        **_figure_context(figures, live),
        version=__version__,
        generated=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    )
    return text


def _results_context(digest: Digest, logs: Logs) -> dict[str, object]:
    """What the template says of the table and of the single records."""
    records = digest.records
    groups = table(records, digest.newest, max_rows=ROWS, details=DETAILS)
    rows = [row for group in groups for row in group.rows]
    columns = measured_metrics(records)
    record_details = list(details(records, groups, logs))
    cut = (
        f"Here are {len(rows)} of {digest.total} records: the newest of each configuration first. "
        "`edgebench report --format csv` has all."
    )
    left_out = f"{len(record_details)} of {digest.total} are here; `edgebench results show ID` has any other."
    return {
        "groups": groups,
        "columns": columns,
        "capitalized": capitalized,
        "labels": {entry.name: capitalized(entry.column) for entry in columns},
        "choices": choices(rows),
        "earlier": sum(row.earlier for row in rows),
        "search_text": search_text,
        "rows": {row.id for row in rows},
        "detailed": {row.id for row in rows if row.detailed},
        "details": record_details,
        "cut": cut if len(rows) < digest.total else "",
        "left_out": left_out if len(record_details) < digest.total else "",
        "glossary": glossary(records),
    }


def _reference_context(reference: Reference | None, newest: Sequence[Record]) -> dict[str, object]:
    """What the template says of published figures."""
    return {
        "reference": reference,
        "comparison_parts": reference_comparison.compare_rows(reference, newest) if reference else [],
        "unmatched": len(reference_comparison.unmatched(reference, newest)) if reference else 0,
    }


def _figure_context(figures: Sequence[Figure], live: str) -> dict[str, object]:
    """The figures, and everything that the browser runs."""
    styles, script = _styles(), _text("page.js")
    drawing = library() if figures or live else ""
    return {
        "figures": figures,
        "max_lines": LINES,
        "still": (lambda panel: "") if live else still,
        "specs": _json({"specs": _specs(figures), "config": theme.config(page=True)}),
        "css": _safe(styles),
        "script": _safe(script),
        "library": _safe(drawing),
        "policy": policy(styles, [script, drawing], live=bool(live)),
        "live": live,
    }


def heading(digest: Digest) -> str:
    """What the page is about, in a few words."""
    devices, models = sorted(digest.devices), sorted(digest.models)
    if not digest.total:
        return "edgebench: no results yet"
    model_text = models[0] if len(models) == 1 else f"{len(models)} models"
    return f"{model_text} on {devices[0] if len(devices) == 1 else f'{len(devices)} devices'}"


def overview(digest: Digest) -> str:
    """How much was measured, and when."""
    if not digest.total:
        return "edgebench report"
    first, last = digest.days or ("", "")
    parts = [
        count_noun(digest.total, "record"),
        count_noun(len(digest.newest), "configuration"),
        *(f"{count} {_UNDER_WAY.get(status, status)}" for status, count in digest.outcomes.items() if status != "ok"),
        f"{digest.doubtful} with doubts" if digest.doubtful else "",
        f"measured {first}" + (f" to {last}" if first != last else "") if first else "",
    ]
    return " · ".join(part for part in parts if part)


def choices(rows: Sequence[TableRow]) -> list[Choice]:
    """The filters that can tell rows apart."""
    filters = []
    for name in ("device", "model", "engine", "backend", "scenario"):
        values = tuple(sorted({str(getattr(row, name)) for row in rows}))
        if len(values) > 1:
            filters.append(Choice(name.capitalize(), name, f"All {name}s", values))
    return filters


def search_text(row: TableRow) -> str:
    """What the search box looks in."""
    parts = [row.device, row.model, row.engine, row.backend, row.scenario, row.settings, row.outcome, row.reason]
    return " ".join([*parts, *(id for id, _ in row.doubts)]).lower()


def glossary(records: Sequence[Record]) -> list[tuple[str, str]]:
    """The definitions of the metrics that the table and the figures show."""
    in_figures = {"j_per_token", "mbu", "acceptance", "speedup", "predicted_speedup"}
    return [
        (entry.title, f"{entry.definition.rstrip('.')}." + (f" Source: {entry.source}." if entry.source else ""))
        for entry in metrics.definitions().values()
        if (entry.headline or entry.name in in_figures) and any(metric(record, entry.name) for record in records)
    ]


def policy(styles: str, scripts: Sequence[str], *, live: bool) -> str:
    """The Content-Security-Policy: exactly these scripts and styles; nothing else, from nowhere."""

    def mark(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    allowed = " ".join(mark(text) for text in scripts if text)
    connect = "'self'" if live else "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src {mark(styles)}; connect-src {connect}; "
        "base-uri 'none'; form-action 'none'"
    )


def still(panel: Panel) -> Markup:
    """The panel as an SVG that needs no script, in the page's colours."""
    import vl_convert

    look = theme.config(page=True)
    look["legend"]["columns"] = theme.columns([panel.spec], STILL_WIDTH)
    spec = {**panel.spec, "width": STILL_WIDTH, "config": look}
    return _safe(vl_convert.vegalite_to_svg(spec))


def _specs(figures: Sequence[Figure]) -> dict[str, object]:
    specs: dict[str, object] = {}
    for figure in figures:
        for number, panel in enumerate(figure.panels):
            spec = theme.for_page(panel.spec)
            description = f"{figure.title}: {panel.title}. The table below it says the same."
            specs[f"{figure.id}-{number}"] = {**spec, "description": description}
    return specs


def _styles() -> str:
    def block(colours: Mapping[str, str]) -> str:
        return " ".join(f"--{name}: {value};" for name, value in colours.items())

    light, dark = block(theme.LIGHT), block(theme.DARK)
    print_light = f"@media print {{ :root {{ color-scheme: light; {light} }} }}"
    dark_mode = f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}"
    return f":root {{ {light} }}\n{dark_mode}\n{print_light}\n{_text('page.css')}"


@cache
def _text(name: str) -> str:
    return (files("edgebench.views") / name).read_text("utf-8")


@cache
def _template(name: str) -> Template:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("edgebench", "views"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def _safe(text: str) -> Markup:
    """Text of this program's own (never of a device), put in as it is."""
    from markupsafe import Markup

    return Markup(text)  # noqa: S704


def _json(value: object) -> Markup:
    """JSON that no HTML parser can leave."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return _safe(text)
