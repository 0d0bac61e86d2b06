"""YAML documents that report every mistake with its file, its line and a correction.

A document is read into plain data (YAML 1.2's core types, so ``no`` and ``10:30`` are text) and
validated section by section against dataclasses. Mistakes are collected and raised together.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast, get_args, get_type_hints

import yaml

from edgebench.errors import EdgebenchError, ProfileError
from edgebench.profiles import yaml_tree

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from pydantic_core import ErrorDetails

T = TypeVar("T")

_MISSING = ("missing", "missing_argument")
KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, order=True)
class Mistake:
    """One mistake: its line (from 1), the field as ``transport.port``, the problem and advice."""

    line: int
    field: str
    problem: str
    advice: str = ""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.field, self.problem) if part) + (
            f"; {self.advice}" if self.advice else ""
        )


class Document:
    """One YAML file: its data, and the mistakes in it so far."""

    def __init__(self, path: Path) -> None:
        """Read a file. Raises ``ProfileError`` if it is not valid YAML."""
        self.path = path
        self.mistakes: list[Mistake] = []
        try:
            self._root = yaml_tree.compose(yaml_tree.read_text(path))
            self.data = self._mapping(self._root)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise self._profile_error(
                [Mistake(mark.line + 1 if mark else 1, "", yaml_tree.describe_error(error))]
            ) from error
        except (ValueError, RecursionError, yaml.YAMLError) as error:
            problem = "is nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise self._profile_error([Mistake(1, "", problem)]) from error
        self.raise_mistakes()

    def _value(self, node: yaml.Node, key_path: KeyPath) -> object:
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*key_path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            yaml_tree.checked_scalar(node)
            tag = node.tag.rpartition(":")[2]
            if tag == "bool":
                return node.value.lower() == "true"
            if tag in ("int", "float"):
                return {"int": int, "float": float}[tag](node.value)
            if tag not in ("str", "null"):
                raise yaml.MarkedYAMLError(problem=f"the tag {node.tag} is not allowed", problem_mark=node.start_mark)
            return node.value if tag == "str" else None
        return self._mapping(node, key_path)

    def _mapping(self, node: yaml.Node, key_path: KeyPath = ()) -> dict[str, object]:
        data: dict[str, object] = {}
        for key, value in node.value:
            name = yaml_tree.checked_scalar(key) if isinstance(key, yaml.ScalarNode) else ""
            if not name:
                raise yaml.MarkedYAMLError(problem="a key must be a word", problem_mark=key.start_mark)
            if name in data:
                problem = f"duplicate key, first used on line {self.line((*key_path, name))}"
                self.mistakes.append(Mistake(key.start_mark.line + 1, _format_path((*key_path, name)), problem))
                continue
            data[name] = self._value(value, (*key_path, name))
        return data

    def get(self, *key_path: str) -> object:
        """The value at a key path; None if there is none."""
        value: object = self.data
        for key in key_path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def line(self, key_path: KeyPath) -> int:
        """The line, from 1, of a key path, or of its nearest existing parent."""
        return self._locate(key_path)[1]

    def _locate(self, key_path: KeyPath) -> tuple[int, int]:
        """How many keys of the path exist, and the line of the last of them."""
        node, line = self._root, self._root.start_mark.line
        for depth, part in enumerate(key_path):
            if isinstance(node, yaml.MappingNode):
                entry = next(((key, value) for key, value in node.value if key.value == part), None)
                if entry is None:
                    return depth, line + 1
                node, line = entry[1], entry[0].start_mark.line
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
                line = node.start_mark.line
            else:
                return depth, line + 1
        return len(key_path), line + 1

    def add_mistake(self, key_path: KeyPath, problem: str, advice: str = "") -> None:
        """Add a mistake at a key path."""
        self.mistakes.append(Mistake(self.line(key_path), _format_path(key_path), problem, advice))

    def add_unknown_name(self, key_path: KeyPath, name: str, problem: str, names: Collection[str]) -> str:
        """Add a mistake for an unknown name; returns the closest known name, or an empty string."""
        closest = find_closest_names(name, names)
        choices = f"available: {', '.join(sorted(names))}" if names else ""
        self.add_mistake(key_path, problem, f"did you mean {closest[0]}?" if closest else choices)
        return closest[0] if closest else ""

    def read(
        self,
        target_type: type[T],
        *key_path: str,
        other_keys: Collection[str] = (),
        hidden_fields: Collection[str] = (),
    ) -> T | None:
        """The mapping at a key path as a dataclass; None, with mistakes added, if it is invalid.

        ``other_keys`` are keys of the mapping that other code reads; ``hidden_fields`` are fields of the
        dataclass that a file may not set.
        """
        from pydantic import ValidationError

        data = self.get(*key_path) if key_path else self.data
        if data is None:
            data = {}
        if not isinstance(data, Mapping):
            self.add_mistake(key_path, f"must be a mapping, not {format_value(data)}")
            return None
        values = {key: value for key, value in data.items() if key not in other_keys}
        for key in values.keys() & {*hidden_fields}:
            del values[key]
            self.add_mistake((*key_path, key), "is not known here")
        try:
            parsed = adapter(target_type).validate_json(json.dumps(values), strict=True)  # type: ignore[arg-type]
        except ValidationError as error:
            self._add_errors(target_type, key_path, error.errors(include_url=False), other_keys, hidden_fields)
            return None
        except EdgebenchError as error:
            self.add_mistake(key_path, str(error), error.hint)
            return None
        names = [field.name for field in fields(target_type) if field.init and field.name not in hidden_fields]  # type: ignore[arg-type]
        return target_type(**{name: getattr(parsed, name) for name in names})

    def _add_errors(
        self,
        target_type: type,
        key_path: KeyPath,
        errors: Sequence[ErrorDetails],
        other_keys: Collection[str],
        hidden_fields: Collection[str],
    ) -> None:
        present_keys = {*other_keys}
        by_path: dict[KeyPath, list[ErrorDetails]] = {}
        for error in sorted(errors, key=lambda error: error["type"] in _MISSING):
            error_path = (*key_path, *error["loc"])
            if error["type"] == "unexpected_keyword_argument":
                allowed = ({*field_names(target_type, error["loc"][:-1])} | {*other_keys}) - {*hidden_fields}
                present_keys.add(self.add_unknown_name(error_path, str(error_path[-1]), "is not known here", allowed))
            elif error["type"] not in _MISSING:
                by_path.setdefault(error_path[: self._locate(error_path)[0]], []).append(error)
            elif error_path[-1] not in present_keys:  # else it is present, but misspelt
                self.add_mistake(error_path, "is missing")
        for error_path, group in by_path.items():
            value: object = group[0]["input"]
            if any(e["type"] == "value_error" for e in group):
                self.add_mistake(error_path, group[0]["msg"].removeprefix("Value error, "))
                continue
            expected = " or ".join(
                dict.fromkeys(_describe_expected(error) for error in group if error["type"] != "none_required")
            )
            self.add_mistake(
                error_path, f"must be {expected}, not {format_value(value)}", _quoting_advice(group, value)
            )

    def raise_mistakes(self) -> None:
        """Raise ``ProfileError`` with all mistakes so far, if any."""
        if self.mistakes:
            raise self._profile_error(self.mistakes)

    def _profile_error(self, mistakes: Sequence[Mistake]) -> ProfileError:
        return ProfileError("\n".join(f"{self.path}:{m.line}: {m}" for m in sorted(set(mistakes))))


@cache
def adapter(target_type: type[T]) -> TypeAdapter[T]:
    """pydantic's view of a dataclass, with unknown keys forbidden."""
    from pydantic import ConfigDict, TypeAdapter
    from pydantic.dataclasses import dataclass as pydantic_dataclass

    frozen = vars(target_type)["__dataclass_params__"].frozen
    strict = pydantic_dataclass(target_type, config=ConfigDict(extra="forbid"), frozen=frozen)
    return TypeAdapter(cast("type[T]", strict))


def field_names(target_type: object, key_path: Sequence[str | int] = ()) -> list[str]:
    """The keys that a mapping may have at a path: the fields of a dataclass, or of one nested in it."""
    for key in key_path:
        candidates = [target_type := get_type_hints(target_type).get(str(key))] if is_dataclass(target_type) else []
        while candidates:
            target_type = candidates.pop()
            if is_dataclass(target_type):
                break
            candidates.extend(get_args(target_type))
    return [field.name for field in fields(target_type) if field.init] if is_dataclass(target_type) else []


def find_closest_names(query: str, names: Collection[str], limit: int = 3) -> list[str]:
    """Suggestions for a mistyped name: names that contain ``query`` (prefix matches and short names first),
    else names with a similar beginning. Case and punctuation are ignored."""

    def normalise(name: str) -> str:
        return "".join(char for char in name.lower() if char.isalnum())

    prefix = normalise(query)
    if len(prefix) < 2:
        return []
    containing = [name for name in names if prefix in normalise(name)]
    if containing:
        return sorted(containing, key=lambda name: (not normalise(name).startswith(prefix), len(normalise(name))))[
            :limit
        ]
    beginnings: dict[str, list[str]] = {}
    for name in names:
        for beginning in {normalise(name), normalise(name)[: len(prefix) + 1]}:
            beginnings.setdefault(beginning, []).append(name)
    matches = get_close_matches(prefix, beginnings, n=limit, cutoff=0.65)
    return list(dict.fromkeys(name for beginning in matches for name in beginnings[beginning]))[:limit]


def required_fields(target_type: type) -> list[str]:
    """Names of a dataclass's fields that have no default."""
    dataclass_fields = fields(target_type) if is_dataclass(target_type) else ()
    return [field.name for field in dataclass_fields if field.default is MISSING and field.default_factory is MISSING]


def format_value(value: object) -> str:
    """A value from a file for a message: one short line without control characters."""
    text = "nothing" if value is None else repr(value) if not isinstance(value, bool) else str(value).lower()
    return text if len(text) <= 60 else text[:57] + "…"


def _format_path(key_path: KeyPath) -> str:
    return ".".join(str(key) if str(key).isprintable() else repr(key) for key in key_path)


def _describe_expected(error: ErrorDetails) -> str:
    context = error.get("ctx", {})
    descriptions = {
        "string_type": "text",
        "int_type": "a whole number",
        "int_parsing": "a whole number",
        "float_type": "a number",
        "bool_type": "true or false",
        "dict_type": "a mapping",
        "dataclass_type": "a mapping",
        "tuple_type": "a list",
        "list_type": "a list",
        "path_type": "a path",
        "greater_than_equal": f"at least {context.get('ge')}",
        "greater_than": f"above {context.get('gt')}",
        "less_than_equal": f"at most {context.get('le')}",
        "less_than": f"below {context.get('lt')}",
        "literal_error": str(context.get("expected", "")),
    }
    return descriptions.get(error["type"], error["msg"])


def _quoting_advice(errors: Sequence[ErrorDetails], value: object) -> str:
    error_types = {error["type"] for error in errors}
    if error_types & {"string_type", "path_type"} and isinstance(value, int | float):
        return "put it in quotes"
    if error_types & {"int_type", "float_type", "bool_type"} and isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return ""
        return "remove the quotes"
    return ""
