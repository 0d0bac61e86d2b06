"""The HTML report: one self-contained file without network access or third-party scripts."""

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
"""Maximum number of records with facts, rounds and logs."""
LINES = 100
"""Maximum lines of a figure's data table."""
SUMMARIES = 1
"""Workloads whose summary is on the first screen."""
STILL_WIDTH = 640
"""Width of the static image shown without scripts, pixels."""


_UNDER_WAY = {"running": "still running"}


@dataclass(frozen=True)
class Choice:
    """A filter of the table: a field of its rows with more than one value."""

    title: str
    name: str
    every: str
    options: tuple[str, ...]


class Html:
    """The view: a page without a reference and without live updates."""

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
    """The page as HTML.

    ``reference``: published results to compare with. ``logs``: the engine's logs of a record. ``live``: the
    version of the data if a server updates the page. ``empty``: the reason why there are no records.
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
        more_summaries=count_noun(len(summaries) - SUMMARIES, "more workload"),
        **_results_context(digest, logs),
        **_reference_context(reference, digest.newest),
        **_figure_context(figures, live),
        version=__version__,
        generated=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    )
    return text


def _results_context(digest: Digest, logs: Logs) -> dict[str, object]:
    """Template variables of the table and of the records' details."""
    records = digest.records
    groups = table(records, digest.newest, max_rows=ROWS, details=DETAILS)
    rows = [row for group in groups for row in group.rows]
    columns = measured_metrics(records)
    record_details = list(details(records, groups, logs))
    cut = (
        f"Showing {len(rows)} of {digest.total} records, the newest of each configuration first. "
        "`edgebench report --format csv` exports all."
    )
    omission = f"{len(record_details)} of {digest.total} are shown; `edgebench results show ID` shows any other."
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
        "omission": omission if len(record_details) < digest.total else "",
        "glossary": glossary(records),
    }


def _reference_context(reference: Reference | None, newest: Sequence[Record]) -> dict[str, object]:
    """Template variables of the comparison with published results."""
    return {
        "reference": reference,
        "comparison_parts": reference_comparison.compare_rows(reference, newest) if reference else [],
        "unmatched": len(reference_comparison.unmatched(reference, newest)) if reference else 0,
    }


def _figure_context(figures: Sequence[Figure], live: str) -> dict[str, object]:
    """Template variables of figures, styles and scripts."""
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
    """Title of the page: models and devices."""
    devices, models = sorted(digest.devices), sorted(digest.models)
    if not digest.total:
        return "edgebench: no results yet"
    model_text = models[0] if len(models) == 1 else f"{len(models)} models"
    return f"{model_text} on {devices[0] if len(devices) == 1 else f'{len(devices)} devices'}"


def overview(digest: Digest) -> str:
    """Numbers of records and configurations, and the dates of measurement."""
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
    """The filters with more than one value."""
    filters = []
    for name in ("device", "model", "engine", "backend", "scenario"):
        values = tuple(sorted({str(getattr(row, name)) for row in rows}))
        if len(values) > 1:
            filters.append(Choice(name.capitalize(), name, f"All {name}s", values))
    return filters


def search_text(row: TableRow) -> str:
    """The text that the search box matches."""
    parts = [row.device, row.model, row.engine, row.backend, row.scenario, row.settings, row.outcome, row.reason]
    return " ".join([*parts, *(id for id, _ in row.doubts)]).lower()


def glossary(records: Sequence[Record]) -> list[tuple[str, str]]:
    """(title, definition) of the metrics in the table and the figures."""
    in_figures = {"j_per_token", "mbu", "acceptance", "speedup", "predicted_speedup"}
    return [
        (entry.title, f"{entry.definition.rstrip('.')}." + (f" Source: {entry.source}." if entry.source else ""))
        for entry in metrics.definitions().values()
        if (entry.headline or entry.name in in_figures) and any(metric(record, entry.name) for record in records)
    ]


def policy(styles: str, scripts: Sequence[str], *, live: bool) -> str:
    """The Content-Security-Policy: allows exactly these scripts and styles."""

    def mark(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    allowed = " ".join(mark(text) for text in scripts if text)
    connect = "'self'" if live else "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src {mark(styles)}; connect-src {connect}; "
        "base-uri 'none'; form-action 'none'"
    )


def still(panel: Panel) -> Markup:
    """The panel as a static SVG in the page's colours."""
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
            description = f"{figure.title}: {panel.title}. The data table below has the same values."
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
    """Trusted text from edgebench itself (never from a device), inserted without escaping."""
    from markupsafe import Markup

    return Markup(text)  # noqa: S704


def _json(value: object) -> Markup:
    """JSON that cannot close the surrounding HTML element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return _safe(text)
