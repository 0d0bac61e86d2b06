"""Records as Parquet: the rows and columns of the CSV, each column of one type.

Requires a data-frame library that writes Parquet (polars, pyarrow or pandas), used through narwhals.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from io import BytesIO
from typing import Literal

from edgebench.core import Option, Record
from edgebench.errors import UsageError
from edgebench.views.csv import table

_LIBRARIES: tuple[Literal["polars", "pyarrow", "pandas"], ...] = ("polars", "pyarrow", "pandas")


def parquet(records: Iterable[Record]) -> bytes:
    """The file's content. Raises ``UsageError`` if no library for Parquet is installed."""
    library = next((name for name in _LIBRARIES if find_spec(name)), None)
    if library is None:
        raise UsageError("Parquet export requires polars, pyarrow or pandas", "Install one: pip install polars")
    import narwhals

    header, rows = table(records)
    columns: list[list[Option | None]] = [[] for _ in header]
    for row in rows:
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    frame = narwhals.from_dict(dict(zip(header, map(_alike, columns), strict=True)), backend=library)
    target = BytesIO()
    frame.write_parquet(target)
    return target.getvalue()


def _alike(values: list[Option | None]) -> list[Option | None]:
    """Values of one type: integers become floats next to floats; other mixed types become text."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) < 2:
        return values
    if kinds == {int, float}:
        return [None if value is None else float(value) for value in values]
    return [None if value is None else str(value) for value in values]
