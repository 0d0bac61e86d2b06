"""Records as JSON and back: the one place. Nothing that isn't a finite number is ever written."""

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

Kind = TypeVar("Kind")


def to_json(record: Record, *, samples: bool = True) -> dict[str, object]:
    """A record as plain JSON values. Metrics and samples that aren't finite are left out."""
    made: dict[str, object] = {
        "facts": plain(record.facts.document()),
        "metrics": {name: plain(metric) for name, metric in record.metrics.items() if _finite(metric.value)},
        "rounds": [round_to_json(one, samples=samples) for one in record.rounds],
    }
    return {"schema": record.schema, **_document(record, made)}


def round_to_json(one: Round, *, samples: bool = True) -> dict[str, object]:
    """A round as plain JSON values."""
    # Said field by field: there are hundreds of thousands, and what is general takes four times as long.
    kept = [
        {"name": sample.name, "value": sample.value, "at": sample.at, "labels": dict(sample.labels)}
        for sample in (one.samples if samples else ())
        if _finite(sample.value) and _finite(sample.at)
    ]
    made: dict[str, object] = {
        "metrics": {name: float(value) for name, value in one.metrics.items() if _finite(value)},
        "turns": [turn_to_json(turn) for turn in one.turns],
        "notes": plain(flat(one.notes)),
        "samples": kept,
    }
    document = _document(one, made)
    return document if samples else {name: value for name, value in document.items() if name != "samples"}


def _document(value: object, made: Mapping[str, object]) -> dict[str, object]:
    """A dataclass as plain JSON values, some of which are made already."""
    kind: type = type(value)
    names = (name for name in _fields(kind) if name != "schema")
    return {name: made[name] if name in made else plain(getattr(value, name)) for name in names}


def turn_to_json(turn: Turn) -> dict[str, object]:
    """A turn as plain JSON values; what could not be had is left out."""
    fields = {name: plain(getattr(turn, name)) for name in _fields(Turn)}
    fields["token_times"] = [at for at in turn.token_times if _finite(at)]
    return {name: value for name, value in fields.items() if value is not None} | {"depth": turn.depth}


def plain(value: object) -> object:
    """Dataclasses, mappings and sequences as JSON values; NaN and infinities become null."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    kind: type = type(value)
    if names := _fields(kind):
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Iterable):
        # Most lists are readings: asked here, they cost no call each.
        return [item if type(item) is float and math.isfinite(item) else plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


@cache
def _fields(kind: type) -> tuple[str, ...]:
    """The fields of a dataclass; of anything else none."""
    return tuple(field.name for field in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else ()


def _finite(value: float) -> bool:
    return math.isfinite(value)


def dumps(value: object, *, indent: int | None = None) -> str:
    """JSON text; ``ValueError`` rather than a NaN."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)


def document(records: Iterable[Record], *, samples: bool = False) -> dict[str, object]:
    """The JSON document that ``--json`` prints; its schema is ``docs/schemas/records.json``."""
    return {"schema": SCHEMA, "records": [to_json(record, samples=samples) for record in records]}


@cache
def _adapter(kind: Callable[..., Kind]) -> TypeAdapter[Kind]:
    from pydantic import TypeAdapter

    return TypeAdapter(cast("type[Kind]", kind))


def from_json(value: Json) -> Record:
    """The record of a JSON value. Raises ``StoreError`` that names the place of what is wrong."""
    schema = value.get("schema") if isinstance(value, Mapping) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise StoreError(
            f"a record has schema {schema}, this edgebench reads up to {SCHEMA}",
            "It was made by a newer edgebench: update this one.",
        )
    if schema == 1:
        value = {**value, "schema": SCHEMA, "rounds": [_upgraded(one) for one in value.get("rounds") or ()]}
    if isinstance(value, Mapping) and isinstance(value.get("facts"), Mapping):
        value = {**value, "facts": Facts.from_document(value["facts"])}
    return _validated(Record, value, "record")


def round_from_json(value: object) -> Round:
    """The round of a JSON value, of this schema or an earlier one. Raises ``StoreError``."""
    return _validated(Round, _upgraded(value), "round")


_RENAMED = {"asked_tokens": "requested_tokens", "speculative": "speculation", "parting": "divergence"}
"""Keys of a turn in schema 1, and what they are called since."""


def _upgraded(value: Json) -> Json:
    """A round of any schema in the form of this one; what isn't a round at all is left to validation."""
    if not isinstance(value, Mapping):
        return value
    if isinstance(value.get("notes"), Mapping):
        value = {**value, "notes": RoundNotes.from_document(value["notes"])}
    turns = value.get("turns")
    if not isinstance(turns, Sequence) or isinstance(turns, str):
        return value
    return {**value, "turns": [_upgraded_turn(turn) if isinstance(turn, Mapping) else turn for turn in turns]}


def _upgraded_turn(turn: Mapping[str, Json]) -> dict[str, object]:
    known = _fields(Turn)
    upgraded = {_RENAMED.get(name, name): value for name, value in turn.items()}
    counts = upgraded.get("speculation")
    if isinstance(counts, Mapping) and ("draft_ms" in counts or "verify_ms" in counts):
        seconds = {f"{name[:-3]}_s": value / 1e3 for name, value in counts.items() if name in ("draft_ms", "verify_ms")}
        upgraded["speculation"] = {name: value for name, value in counts.items() if not name.endswith("_ms")} | seconds
    return {name: value for name, value in upgraded.items() if name in known}


def _validated(kind: Callable[..., Kind], value: object, what: str) -> Kind:
    from pydantic import ValidationError

    try:
        adapter: TypeAdapter[Kind] = _adapter(kind)
        return adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or what
        raise StoreError(f"not a {what} of edgebench: {place}: {first['msg']}") from error


def schema() -> dict[str, object]:
    """The JSON Schema of ``document``: the text of ``docs/schemas/records.json``."""
    record = _adapter(Record).json_schema(mode="serialization", ref_template="#/$defs/{model}")
    definitions = record.pop("$defs")
    for kind in (Record, Metric):
        # Written always, even where the dataclass has a default.
        body = record if kind is Record else definitions[kind.__name__]
        body["required"] = [field.name for field in dataclasses.fields(kind)]
    for facts in (DeviceFacts, EngineFacts, ModelFacts, Facts, RoundNotes):
        # What has no field of its own stands beside what has one.
        del definitions[facts.__name__]["properties"]["extra"]
        definitions[facts.__name__]["additionalProperties"] = True
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
