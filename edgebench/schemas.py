"""JSON Schemas of device and model profiles, for editors: generated from the classes that validate them.

`edgebench devices schema` prints one with the options of all installed plugins; those of edgebench's
own plugins are in ``docs/schemas``.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import json
import textwrap
from collections.abc import Collection
from dataclasses import is_dataclass
from typing import Any

from edgebench import engine_options, plugins, profiles
from edgebench.core import Device
from edgebench.modelfiles.catalogue import PLAIN, SOURCES, GgufEntry, MlcEntry, ModelProfile
from edgebench.profiles.documents import adapter, required_fields

Schema = dict[str, Any]

DIALECT = "http://json-schema.org/draft-07/schema#"


def device() -> Schema:
    """The schema of a device profile."""
    shape = _dataclass_schema(Device, excluded=("source",))
    properties = shape["properties"]
    properties["system"]["enum"] = ["auto", *plugins.names("systems")]
    properties["transport"] = {"oneOf": [_transport(name) for name in plugins.names("transports")]}
    engines = {name: _dataclass_schema(plugins.load("engines", name).Config) for name in plugins.names("engines")}
    properties["engines"] = {"type": "object", "properties": engines, "additionalProperties": False}
    properties["defaults"] = _defaults()
    properties["defaults"]["properties"]["engine"] = {"enum": plugins.names("engines")}
    properties["defaults"]["properties"]["backend"] = {"enum": engine_options.all_backends()}
    return {"$schema": DIALECT, "title": "edgebench device profile", **shape}


def model() -> Schema:
    """The schema of a model profile."""
    shape = _dataclass_schema(ModelProfile)
    gguf = _dataclass_schema(GgufEntry)
    gguf["properties"] |= {
        name: {"type": "string"} if name in PLAIN else _dataclass_schema(cls) for name, cls in SOURCES.items()
    }
    gguf["oneOf"] = [{"required": [name]} for name in SOURCES]
    shape["properties"] |= {"gguf": gguf, "mlc": _dataclass_schema(MlcEntry)}
    shape["anyOf"] = [{"required": ["gguf"]}, {"required": ["mlc"]}]
    return {"$schema": DIALECT, "title": "edgebench model profile", **shape}


def to_text(schema: Schema) -> str:
    """A schema as text for a file."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _defaults() -> Schema:
    shape = _dataclass_schema(profiles.defaults_cls())
    for name, shared_option in engine_options.all_options().items():
        option, value = shared_option.option, shape["properties"][name]
        value["description"] = option.help
        for part in value.get("anyOf", ()):
            if part.get("type") in ("integer", "number"):
                limits = {"minimum": option.minimum, "maximum": option.maximum}
                part.update((side, limit) for side, limit in limits.items() if limit is not None)
    return shape


def _transport(name: str) -> Schema:
    shape = _dataclass_schema(plugins.load("transports", name).Config)
    shape["properties"] = {"kind": {"const": name}, **shape["properties"]}
    shape["required"] = ["kind", *shape.get("required", [])]
    return shape


def _dataclass_schema(cls: type, excluded: Collection[str] = ()) -> Schema:
    """A dataclass as a schema, its fields' docstrings as their descriptions."""
    shape: Schema = adapter(cls).json_schema()
    shape = _inline_refs(shape, shape.get("$defs", {}))
    properties = {name: value for name, value in shape.get("properties", {}).items() if name not in excluded}
    for name, text in field_docs(cls).items():
        if name in properties:
            properties[name]["description"] = text
    for value in properties.values():
        value.pop("title", None)
    shape = {"type": "object", "properties": properties, "additionalProperties": False}
    required = [name for name in required_fields(cls) if name not in excluded]
    return shape | ({"required": required} if required else {})


def _inline_refs(part: Any, definitions: Schema) -> Any:
    """A schema with every reference replaced by its definition."""
    if isinstance(part, list):
        return [_inline_refs(item, definitions) for item in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        return _inline_refs(definitions[part["$ref"].rpartition("/")[2]], definitions)
    return {name: _inline_refs(value, definitions) for name, value in part.items() if name != "$defs"}


def field_docs(cls: type) -> dict[str, str]:
    """The docstring of each field of a dataclass and its ancestors, as one line each."""
    docs: dict[str, str] = {}
    for base in reversed([ancestor for ancestor in cls.__mro__ if is_dataclass(ancestor)]):
        with contextlib.suppress(OSError):  # made by make_dataclass, which has no source
            docs |= _own_field_docs(base)
    return docs


def _own_field_docs(cls: type) -> dict[str, str]:
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    docs = {}
    for field, statement in zip(body.body, body.body[1:], strict=False):
        match field, statement:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                docs[name] = " ".join(text.replace("``", "`").split())
    return docs
