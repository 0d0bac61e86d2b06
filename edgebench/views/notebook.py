"""Records in a notebook's cell: an HTML table with remarks, and a chart of the decode rates."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape

from edgebench.core import MetricDefinition, Record
from edgebench.views import units
from edgebench.views.charts import Spec, theme
from edgebench.views.charts.bars import decode
from edgebench.views.fields import marks
from edgebench.views.headline import measured_metrics, metric_cell
from edgebench.views.table import remarks
from edgebench.views.text import clean, describe, split_varying

MAX_ROWS = 60
"""Maximum rows of a table, because notebooks store their output."""


def table_html(records: Sequence[Record]) -> str:
    """A table for each scenario. Every text in it is escaped: names of devices and models are data."""
    if not records:
        return "<p>No results.</p>"
    scenarios: dict[str, list[Record]] = {}
    for record in records[-MAX_ROWS:]:
        scenarios.setdefault(record.trial.scenario, []).append(record)
    parts = [_table(group) for group in scenarios.values()]
    if len(records) > MAX_ROWS:
        parts.append(f"<p>{units.count_noun(len(records) - MAX_ROWS, 'earlier result')} not shown</p>")
    parts += [f"<p>{escape(line.strip())}</p>" for line, _ in remarks(records[-MAX_ROWS:], lambda record: record.id)]
    return "\n".join(parts)


def chart(records: Sequence[Record]) -> Spec | None:
    """Bars of the decode rates as a Vega-Lite specification; None if no record has one."""
    figure = decode(list(records))
    if figure is None:
        return None
    return theme.for_picture([panel.spec for panel in figure.panels], [panel.title for panel in figure.panels])


def mime_type(spec: Spec) -> str:
    """The MIME type of a Vega-Lite specification of this version in notebooks."""
    version = re.search(r"/v(\d+)", str(spec.get("$schema")))
    return f"application/vnd.vegalite.v{version[1] if version else 5}+json"


def chart_html(spec: Spec) -> str:
    """The chart as a static image."""
    import vl_convert

    svg = b64encode(vl_convert.vegalite_to_svg(spec).encode()).decode()
    return f'<img alt="Decode rates" src="data:image/svg+xml;base64,{svg}">'


def _table(records: Sequence[Record]) -> str:
    all_parts = [describe(record) for record in records]
    differ, common = split_varying(all_parts)
    metrics = measured_metrics(records)
    mark_texts = [", ".join(clean(mark) for mark in marks(record)) for record in records]
    heads = ["result", *differ, *(entry.column for entry in metrics), *(["doubts"] if any(mark_texts) else [])]
    rows = []
    for record, parts, mark in zip(records, all_parts, mark_texts, strict=True):
        texts = [record.id, *(parts.get(name, "") for name in differ)]
        cells = [*map(_cell, texts), *(_figure_cell(record, entry) for entry in metrics)]
        rows.append(_row([*cells, *([_cell(mark)] if any(mark_texts) else [])]))
    caption = " · ".join(f"{name} {text}" for name, text in common.items())
    head = _row(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = "\n".join(rows)
    return f"<table>\n<caption>{escape(caption)}</caption>\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _row(cells: Iterable[str]) -> str:
    return f"<tr>{''.join(cells)}</tr>"


def _cell(text: str) -> str:
    return f"<td>{escape(clean(text))}</td>"


def _figure_cell(record: Record, entry: MetricDefinition) -> str:
    value, interval = metric_cell(record, entry)
    return f"<td>{escape(value)}{f' <small>{escape(interval)}</small>' if interval else ''}</td>"
