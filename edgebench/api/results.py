"""Records of one or several runs as a sequence to filter, tabulate, plot and export."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, overload

from edgebench import plugins
from edgebench.core import Option, Record, Streamed
from edgebench.errors import EdgebenchError, UsageError

if TYPE_CHECKING:
    from narwhals.typing import IntoDataFrame

FORMATS = {".html": "html", ".md": "markdown", ".csv": "csv", ".json": "json", ".jsonl": "jsonl", ".txt": "table"}
"""Suffix of a report's file → the view that writes it."""


class Results(Sequence[Record]):
    """An immutable sequence of records; filters and slices return a new one."""

    def __init__(
        self,
        records: Iterable[Record],
        *,
        errors: Iterable[tuple[str, EdgebenchError]] = (),
        logs: Callable[[str], Sequence[str]] | None = None,
    ) -> None:
        self._records = tuple(records)
        self._logs = logs
        self.errors = tuple(errors)
        """(device, error) for each device that an error ended; its records, if any, are included."""

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Results: ...
    def __getitem__(self, index: int | slice) -> Record | Results:
        if isinstance(index, slice):
            return self._with(self._records[index])
        return self._records[index]

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)

    def __add__(self, other: Results) -> Results:
        return Results((*self, *other), errors=(*self.errors, *other.errors), logs=self._logs)

    def __repr__(self) -> str:
        failed = sum(record.status != "ok" for record in self)
        return f"<Results: {len(self)} records{f', {failed} not ok' if failed else ''}>"

    def filter(
        self, predicate: Callable[[Record], bool] | None = None, **criteria: Option | Sequence[Option]
    ) -> Results:
        """The records that the predicate accepts and that match all criteria.

        Criteria are ``device``, ``model``, ``engine``, ``backend``, ``scenario``, ``status`` or an option
        of the trial (``threads=4``); a list accepts any of its values. Raises ``UsageError`` for a
        criterion that no record has.
        """
        for name in criteria:
            if self._records and not any(name in _fields(record) for record in self):
                names = sorted({key for record in self for key in _fields(record)})
                raise UsageError(f"no record has {name!r}", f"Available: {', '.join(names)}.")

        def matches(record: Record) -> bool:
            fields = _fields(record)
            pairs = ((fields.get(name), value) for name, value in criteria.items())
            return all(
                own_value in value if isinstance(value, list | tuple | set) else own_value == value
                for own_value, value in pairs
            )

        return self._with(r for r in self if matches(r) and (predicate is None or predicate(r)))

    def to_dataframe(self) -> IntoDataFrame:
        """A data frame with one row per record: trial, options, metrics (value, ``_low``, ``_high``) and doubts.

        A pandas DataFrame, or a Polars one if pandas is not installed. Raises ``UsageError`` if neither is.
        """
        import narwhals

        backend = next((name for name in ("pandas", "polars") if find_spec(name)), None)
        if backend is None:
            raise UsageError("to_dataframe requires pandas or Polars", "Install one: pip install polars")
        rows = [_row(record) for record in self]
        names = list(dict.fromkeys(name for row in rows for name in row))
        columns = {name: _column([row.get(name) for row in rows]) for name in names}
        native: IntoDataFrame = narwhals.from_dict(columns, backend=import_module(backend)).to_native()
        return native

    def report(self, path: str | Path) -> Path:
        """Write a report in the format of the suffix: html, md, csv, json, jsonl or txt.

        Raises ``UsageError`` for another suffix or a file that cannot be written.
        """
        target = Path(path)
        view = FORMATS.get(target.suffix.lower())
        if view is None:
            raise UsageError(f"unknown report format {target.suffix!r}", f"Known: {', '.join(sorted(FORMATS))}.")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".{target.name}.part")
            with partial.open("w", encoding="utf-8", newline="") as file:
                file.writelines(self._pieces(view))
            partial.replace(target)
        except OSError as error:
            raise UsageError(f"cannot write {target}: {error.strerror}", "Choose another file.") from error
        return target

    def _pieces(self, view: str) -> Iterator[str]:
        if view == "html" and self._logs:
            from edgebench.views.html import page
            from edgebench.views.report_data import Digest

            yield page(Digest(list(self)), logs=self._logs)
            return
        renderer = plugins.create("views", view)
        if isinstance(renderer, Streamed):
            yield from renderer.pieces(self)
        else:
            yield renderer.render(self)

    def _with(self, records: Iterable[Record]) -> Results:
        return Results(records, errors=self.errors, logs=self._logs)

    # --- notebooks -----------------------------------------------------------------------------

    def _repr_html_(self) -> str:
        """A table, and a picture of the decode rates if there are any; all texts are escaped."""
        from edgebench.views import notebook

        chart = notebook.chart(self)
        return notebook.table_html(self) + (f"\n{notebook.chart_html(chart)}" if chart else "")

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, object]:
        """The table as text, the same as HTML with the chart, and the chart as Vega-Lite."""
        from edgebench.views import notebook, table

        bundle: dict[str, object] = {"text/plain": table.draw(self), "text/html": self._repr_html_()}
        if chart := notebook.chart(self):
            bundle[notebook.mime_type(chart)] = chart
        return bundle


def _fields(record: Record) -> dict[str, Option]:
    trial = record.trial
    names = {name: str(getattr(trial, name)) for name in ("device", "model", "engine", "backend", "scenario")}
    return {**trial.options, **names, "status": record.status}


def _row(record: Record) -> dict[str, object]:
    row: dict[str, object] = {"id": record.id, "run": record.run.get("id"), **_fields(record)}
    for name, metric in record.metrics.items():
        row |= {name: metric.value, f"{name}_low": metric.low, f"{name}_high": metric.high}
    return row | {"doubts": " ".join(dict.fromkeys(doubt.id for doubt in record.doubts))}


def _column(values: Sequence[object]) -> list[object]:
    """Values of one type: integers become floats next to floats; other mixed types become text."""
    types = {type(value) for value in values if value is not None}
    if types == {int, float}:
        return [float(value) if isinstance(value, int) else value for value in values]
    if len(types) < 2:
        return list(values)
    return [None if value is None else str(value) for value in values]
