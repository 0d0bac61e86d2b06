"""Conversion of records to JSON and back. Numbers that are not finite are never written."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import PurePath
from typing import TYPE_CHECKING, TypeVar, cast

from edgebench.core import (
    SCHEMA,
    DeviceFacts,
    EngineFacts,
    Facts,
    Json,
    Metric,
    ModelFacts,
    Record,
    Round,
    RoundNotes,
    Turn,
    flat,
)
from edgebench.errors import StoreError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")


def to_json(record: Record, *, samples: bool = True) -> dict[str, object]:
    """A record as plain JSON values. Metrics and samples that are not finite are omitted."""
    converted: dict[str, object] = {
        "facts": to_plain(record.facts.document()),
        "metrics": {name: to_plain(metric) for name, metric in record.metrics.items() if _finite(metric.value)},
        "rounds": [round_to_json(round_, samples=samples) for round_ in record.rounds],
    }
    return {"schema": record.schema, **_document(record, converted)}


def round_to_json(round_: Round, *, samples: bool = True) -> dict[str, object]:
    """A round as plain JSON values."""
    # Written field by field: with hundreds of thousands of samples, generic code takes four times as long.
    samples_json = [
        {"name": sample.name, "value": sample.value, "at": sample.at, "labels": dict(sample.labels)}
        for sample in (round_.samples if samples else ())
        if _finite(sample.value) and _finite(sample.at)
    ]
    converted: dict[str, object] = {
        "metrics": {name: float(value) for name, value in round_.metrics.items() if _finite(value)},
        "turns": [turn_to_json(turn) for turn in round_.turns],
        "notes": to_plain(flat(round_.notes)),
        "samples": samples_json,
    }
    document = _document(round_, converted)
    return document if samples else {name: value for name, value in document.items() if name != "samples"}


def _document(value: object, converted: Mapping[str, object]) -> dict[str, object]:
    """A dataclass as plain JSON values, some of which are already converted."""
    cls: type = type(value)
    names = (name for name in _fields(cls) if name != "schema")
    return {name: converted[name] if name in converted else to_plain(getattr(value, name)) for name in names}


def turn_to_json(turn: Turn) -> dict[str, object]:
    """A turn as plain JSON values; absent values are omitted."""
    fields = {name: to_plain(getattr(turn, name)) for name in _fields(Turn)}
    fields["token_times"] = [at for at in turn.token_times if _finite(at)]
    return {name: value for name, value in fields.items() if value is not None} | {"depth": turn.depth}


def to_plain(value: object) -> object:
    """Dataclasses, mappings and sequences as JSON values; NaN and infinities become null."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    cls: type = type(value)
    if names := _fields(cls):
        return {name: to_plain(getattr(value, name)) for name in names}
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Iterable):
        # Most lists are samples: checked inline, they cost no call each.
        return [item if type(item) is float and math.isfinite(item) else to_plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


@cache
def _fields(cls: type) -> tuple[str, ...]:
    """Names of the fields of a dataclass; empty for any other type."""
    return tuple(field.name for field in dataclasses.fields(cls)) if dataclasses.is_dataclass(cls) else ()


def _finite(value: float) -> bool:
    return math.isfinite(value)


def dumps(value: object, *, indent: int | None = None) -> str:
    """JSON text. Raises ``ValueError`` for NaN."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)


def document(records: Iterable[Record], *, samples: bool = False) -> dict[str, object]:
    """The JSON document that ``--json`` prints; its schema is ``docs/schemas/records.json``."""
    return {"schema": SCHEMA, "records": [to_json(record, samples=samples) for record in records]}


@cache
def _adapter(cls: Callable[..., T]) -> TypeAdapter[T]:
    from pydantic import TypeAdapter

    return TypeAdapter(cast("type[T]", cls))


def from_json(value: Json) -> Record:
    """The record of a JSON value. Raises ``StoreError``, which names the path of the error."""
    schema = value.get("schema") if isinstance(value, Mapping) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise StoreError(
            f"a record has schema {schema}, this edgebench reads up to {SCHEMA}",
            "It was made by a newer edgebench: update this one.",
        )
    if schema == 1:
        value = {**value, "schema": SCHEMA, "rounds": [_upgrade_round(round_) for round_ in value.get("rounds") or ()]}
    if isinstance(value, Mapping) and isinstance(value.get("facts"), Mapping):
        value = {**value, "facts": Facts.from_document(value["facts"])}
    return _validate(Record, value, "record")


def round_from_json(value: object) -> Round:
    """The round of a JSON value, of this schema or an earlier one. Raises ``StoreError``."""
    return _validate(Round, _upgrade_round(value), "round")


_RENAMED_KEYS = {"asked_tokens": "requested_tokens", "speculative": "speculation", "parting": "divergence"}
"""Keys of a turn in schema 1 → their current names."""


def _upgrade_round(value: Json) -> Json:
    """Upgrade a round of any schema to the current one; invalid values are left to validation."""
    if not isinstance(value, Mapping):
        return value
    if isinstance(value.get("notes"), Mapping):
        value = {**value, "notes": RoundNotes.from_document(value["notes"])}
    turns = value.get("turns")
    if not isinstance(turns, Sequence) or isinstance(turns, str):
        return value
    return {**value, "turns": [_upgrade_turn(turn) if isinstance(turn, Mapping) else turn for turn in turns]}


def _upgrade_turn(turn: Mapping[str, Json]) -> dict[str, object]:
    known_keys = _fields(Turn)
    upgraded = {_RENAMED_KEYS.get(name, name): value for name, value in turn.items()}
    counts = upgraded.get("speculation")
    if isinstance(counts, Mapping) and ("draft_ms" in counts or "verify_ms" in counts):
        seconds = {f"{name[:-3]}_s": value / 1e3 for name, value in counts.items() if name in ("draft_ms", "verify_ms")}
        upgraded["speculation"] = {name: value for name, value in counts.items() if not name.endswith("_ms")} | seconds
    return {name: value for name, value in upgraded.items() if name in known_keys}


def _validate(cls: Callable[..., T], value: object, description: str) -> T:
    from pydantic import ValidationError

    try:
        adapter: TypeAdapter[T] = _adapter(cls)
        return adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = ".".join(map(str, first["loc"])) or description
        raise StoreError(f"not a {description} of edgebench: {path}: {first['msg']}") from error


def schema() -> dict[str, object]:
    """The JSON Schema of ``document``: the text of ``docs/schemas/records.json``."""
    record = _adapter(Record).json_schema(mode="serialization", ref_template="#/$defs/{model}")
    definitions = record.pop("$defs")
    for cls in (Record, Metric):
        # Always written, even if the dataclass has a default.
        body = record if cls is Record else definitions[cls.__name__]
        body["required"] = [field.name for field in dataclasses.fields(cls)]
    for facts_cls in (DeviceFacts, EngineFacts, ModelFacts, Facts, RoundNotes):
        # Values without a field are written next to those with one.
        del definitions[facts_cls.__name__]["properties"]["extra"]
        definitions[facts_cls.__name__]["additionalProperties"] = True
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "edgebench records",
        "description": "What `--json` prints and `edgebench results export --format json` writes.",
        "type": "object",
        "required": ["schema", "records"],
        "properties": {
            "schema": {"const": SCHEMA},
            "records": {"type": "array", "items": {"$ref": "#/$defs/Record"}},
        },
        "$defs": {**definitions, "Record": record},
    }
