"""JSON Schemas of device and model profiles, for editors: made from the classes that check them.

`edgebench devices schema` prints one with the settings of every plugin installed; those of the
program itself lie in ``docs/schemas``.
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
    shape = _form(Device, without=("source",))
    properties = shape["properties"]
    properties["system"]["enum"] = ["auto", *plugins.names("systems")]
    properties["transport"] = {"oneOf": [_transport(name) for name in plugins.names("transports")]}
    engines = {name: _form(plugins.load("engines", name).Config) for name in plugins.names("engines")}
    properties["engines"] = {"type": "object", "properties": engines, "additionalProperties": False}
    properties["defaults"] = _defaults()
    properties["defaults"]["properties"]["engine"] = {"enum": plugins.names("engines")}
    properties["defaults"]["properties"]["backend"] = {"enum": engine_options.all_backends()}
    return {"$schema": DIALECT, "title": "edgebench device profile", **shape}


def model() -> Schema:
    """The schema of a model profile."""
    shape = _form(ModelProfile)
    gguf = _form(GgufEntry)
    gguf["properties"] |= {name: {"type": "string"} if name in PLAIN else _form(form) for name, form in SOURCES.items()}
    gguf["oneOf"] = [{"required": [name]} for name in SOURCES]
    shape["properties"] |= {"gguf": gguf, "mlc": _form(MlcEntry)}
    shape["anyOf"] = [{"required": ["gguf"]}, {"required": ["mlc"]}]
    return {"$schema": DIALECT, "title": "edgebench model profile", **shape}


def printed(schema: Schema) -> str:
    """A schema as it is written to a file."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _defaults() -> Schema:
    shape = _form(profiles.defaults_cls())
    for name, shared in engine_options.all_options().items():
        option, value = shared.option, shape["properties"][name]
        value["description"] = option.help
        for part in value.get("anyOf", ()):
            if part.get("type") in ("integer", "number"):
                limits = {"minimum": option.minimum, "maximum": option.maximum}
                part.update((side, limit) for side, limit in limits.items() if limit is not None)
    return shape


def _transport(name: str) -> Schema:
    shape = _form(plugins.load("transports", name).Config)
    shape["properties"] = {"kind": {"const": name}, **shape["properties"]}
    shape["required"] = ["kind", *shape.get("required", [])]
    return shape


def _form(form: type, without: Collection[str] = ()) -> Schema:
    """A dataclass as a schema, its fields' docstrings as their descriptions."""
    shape: Schema = adapter(form).json_schema()
    shape = _inlined(shape, shape.get("$defs", {}))
    properties = {name: value for name, value in shape.get("properties", {}).items() if name not in without}
    for name, text in field_docs(form).items():
        if name in properties:
            properties[name]["description"] = text
    for value in properties.values():
        value.pop("title", None)
    shape = {"type": "object", "properties": properties, "additionalProperties": False}
    needed = [name for name in required_fields(form) if name not in without]
    return shape | ({"required": needed} if needed else {})


def _inlined(part: Any, definitions: Schema) -> Any:
    """The same schema with every reference replaced by what it stands for."""
    if isinstance(part, list):
        return [_inlined(item, definitions) for item in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        return _inlined(definitions[part["$ref"].rpartition("/")[2]], definitions)
    return {name: _inlined(value, definitions) for name, value in part.items() if name != "$defs"}


def field_docs(form: type) -> dict[str, str]:
    """The text that stands under each field of a class and of those it is made from, as one line."""
    docs: dict[str, str] = {}
    for base in reversed([one for one in form.__mro__ if is_dataclass(one)]):
        with contextlib.suppress(OSError):  # made by a function: it has no source
            docs |= _own_field_docs(base)
    return docs


def _own_field_docs(form: type) -> dict[str, str]:
    body = ast.parse(textwrap.dedent(inspect.getsource(form))).body[0]
    assert isinstance(body, ast.ClassDef)
    docs = {}
    for field, after in zip(body.body, body.body[1:], strict=False):
        match field, after:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                docs[name] = " ".join(text.replace("``", "`").split())
    return docs
