"""Encoding of values in the store: compressed JSON, samples as columns."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable

from edgebench.core import Json, Sample
from edgebench.store import records


def columns(samples: Iterable[Sample]) -> list[list[object]]:
    """Samples by series: ``[[name, labels, [seconds …], [value …]] …]``."""
    series: dict[tuple[str, tuple[tuple[str, str], ...]], tuple[list[float], list[float]]] = {}
    for sample in samples:
        times, values = series.setdefault((sample.name, tuple(sample.labels.items())), ([], []))
        times.append(float(sample.at))
        values.append(float(sample.value))
    rows: list[list[object]] = [[name, dict(labels), *columns] for (name, labels), columns in series.items()]
    return sorted(rows, key=lambda row: (str(row[0]), dumps(row[1])))


def samples(series: Json) -> tuple[Sample, ...]:
    """Samples from ``columns``, sorted by time, then by name and labels."""
    parsed = [
        Sample(name, value, at, labels)
        for name, labels, times, values in series
        for at, value in zip(times, values, strict=True)
        if at is not None and value is not None
    ]
    return tuple(sorted(parsed, key=lambda sample: sample.at))


def dumps(value: object) -> str:
    """Any value of a record as JSON text."""
    return records.dumps(records.to_plain(value))


def pack(value: object) -> bytes:
    """Any value of a record as compressed JSON."""
    return zlib.compress(dumps(value).encode())


def unpack(data: bytes) -> Json:
    """The value that ``pack`` encoded. Raises ``zlib.error`` or ``ValueError``."""
    return json.loads(zlib.decompress(data))
