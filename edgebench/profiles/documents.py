"""YAML documents whose every mistake is named with its file, its line and what would be right.

A document is read into plain data (YAML 1.2's core types, so ``no`` and ``10:30`` are text) and
checked section by section against dataclasses. Mistakes are gathered, not thrown one by one.
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

Form = TypeVar("Form")
Kind = TypeVar("Kind")

_MISSING = ("missing", "missing_argument")
Place = tuple[str | int, ...]


@dataclass(frozen=True, order=True)
class Mistake:
    """One mistake: its line (from 1), the field as ``transport.port``, what is wrong, what is right."""

    line: int
    field: str
    wrong: str
    right: str = ""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.field, self.wrong) if part) + (f"; {self.right}" if self.right else "")


class Document:
    """One YAML file: its data, and the mistakes found in it so far."""

    def __init__(self, path: Path) -> None:
        """Read it. Raises ``ProfileError`` where it cannot be read as YAML at all."""
        self.path = path
        self.mistakes: list[Mistake] = []
        try:
            self._root = yaml_tree.compose(yaml_tree.text(path))
            self.data = self._mapping(self._root)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise self._refusal([Mistake(mark.line + 1 if mark else 1, "", yaml_tree.words(error))]) from error
        except (ValueError, RecursionError, yaml.YAMLError) as error:
            words = "is nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise self._refusal([Mistake(1, "", words)]) from error
        self.settle()

    def _value(self, node: yaml.Node, place: Place) -> object:
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*place, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            yaml_tree.checked(node)
            kind = node.tag.rpartition(":")[2]
            if kind == "bool":
                return node.value.lower() == "true"
            if kind in ("int", "float"):
                return {"int": int, "float": float}[kind](node.value)
            if kind not in ("str", "null"):
                raise yaml.MarkedYAMLError(problem=f"the tag {node.tag} is not allowed", problem_mark=node.start_mark)
            return node.value if kind == "str" else None
        return self._mapping(node, place)

    def _mapping(self, node: yaml.Node, place: Place = ()) -> dict[str, object]:
        data: dict[str, object] = {}
        for key, value in node.value:
            name = yaml_tree.checked(key) if isinstance(key, yaml.ScalarNode) else ""
            if not name:
                raise yaml.MarkedYAMLError(problem="a key must be a word", problem_mark=key.start_mark)
            if name in data:
                line = self.line((*place, name))
                self.mistakes.append(
                    Mistake(
                        key.start_mark.line + 1, _dotted((*place, name)), f"duplicate key, first used on line {line}"
                    )
                )
                continue
            data[name] = self._value(value, (*place, name))
        return data

    def get(self, *place: str) -> object:
        """The value at a place; None where there is none."""
        value: object = self.data
        for part in place:
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    def line(self, place: Place) -> int:
        """The line, from 1, of a place; of the nearest thing around it where it isn't there."""
        return self._find(place)[1]

    def _find(self, place: Place) -> tuple[int, int]:
        """How many parts of the place are really there, and the line of the last of them."""
        node, line = self._root, self._root.start_mark.line
        for depth, part in enumerate(place):
            if isinstance(node, yaml.MappingNode):
                pair = next(((k, v) for k, v in node.value if k.value == part), None)
                if pair is None:
                    return depth, line + 1
                node, line = pair[1], pair[0].start_mark.line
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
                line = node.start_mark.line
            else:
                return depth, line + 1
        return len(place), line + 1

    def mistake(self, place: Place, wrong: str, right: str = "") -> None:
        """Note a mistake at a place."""
        self.mistakes.append(Mistake(self.line(place), _dotted(place), wrong, right))

    def unknown(self, place: Place, name: str, wrong: str, known: Collection[str]) -> str:
        """Note a name that isn't one of those known, and return the near one, if there is any."""
        near = nearest(name, known)
        choices = f"available: {', '.join(sorted(known))}" if known else ""
        self.mistake(place, wrong, f"did you mean {near[0]}?" if near else choices)
        return near[0] if near else ""

    def read(
        self, form: type[Form], *place: str, others: Collection[str] = (), hidden: Collection[str] = ()
    ) -> Form | None:
        """The mapping at a place as a dataclass; its mistakes are noted, and None is returned then.

        ``others`` are keys of the mapping that somebody else reads; ``hidden`` are fields of the
        dataclass that a file may not set.
        """
        from pydantic import ValidationError

        data = self.get(*place) if place else self.data
        if data is None:
            data = {}
        if not isinstance(data, Mapping):
            self.mistake(place, f"must be a mapping, not {shown(data)}")
            return None
        own = {key: value for key, value in data.items() if key not in others}
        for key in own.keys() & {*hidden}:
            del own[key]
            self.mistake((*place, key), "is not known here")
        try:
            checked = adapter(form).validate_json(json.dumps(own), strict=True)  # type: ignore[arg-type]
        except ValidationError as error:
            self._note(form, place, error.errors(include_url=False), others, hidden)
            return None
        except EdgebenchError as error:
            self.mistake(place, str(error), error.hint)
            return None
        names = [f.name for f in fields(form) if f.init and f.name not in hidden]  # type: ignore[arg-type]
        return form(**{name: getattr(checked, name) for name in names})

    def _note(
        self, form: type, place: Place, errors: Sequence[ErrorDetails], others: Collection[str], hidden: Collection[str]
    ) -> None:
        meant = {*others}
        by_place: dict[Place, list[ErrorDetails]] = {}
        for error in sorted(errors, key=lambda error: error["type"] in _MISSING):
            at = (*place, *error["loc"])
            if error["type"] == "unexpected_keyword_argument":
                known = ({*field_names(form, error["loc"][:-1])} | {*others}) - {*hidden}
                meant.add(self.unknown(at, str(at[-1]), "is not known here", known))
            elif error["type"] not in _MISSING:
                by_place.setdefault(at[: self._find(at)[0]], []).append(error)
            elif at[-1] not in meant:  # else it is there, misspelt
                self.mistake(at, "is missing")
        for at, group in by_place.items():
            value: object = group[0]["input"]
            if any(e["type"] == "value_error" for e in group):
                self.mistake(at, group[0]["msg"].removeprefix("Value error, "))
                continue
            expected = " or ".join(
                dict.fromkeys(_expected(error) for error in group if error["type"] != "none_required")
            )
            self.mistake(at, f"must be {expected}, not {shown(value)}", _quoting(group, value))

    def settle(self) -> None:
        """Raise ``ProfileError`` with every mistake noted so far, if there are any."""
        if self.mistakes:
            raise self._refusal(self.mistakes)

    def _refusal(self, mistakes: Sequence[Mistake]) -> ProfileError:
        return ProfileError("\n".join(f"{self.path}:{m.line}: {m}" for m in sorted(set(mistakes))))


@cache
def adapter(form: type[Kind]) -> TypeAdapter[Kind]:
    """pydantic's view of a dataclass, with unknown keys forbidden."""
    from pydantic import ConfigDict, TypeAdapter
    from pydantic.dataclasses import dataclass as checked

    frozen = vars(form)["__dataclass_params__"].frozen
    strict = checked(form, config=ConfigDict(extra="forbid"), frozen=frozen)
    return TypeAdapter(cast("type[Kind]", strict))


def field_names(form: object, place: Sequence[str | int] = ()) -> list[str]:
    """The names a mapping may have there: the fields of a dataclass, or of one nested in it."""
    for part in place:
        candidates = [form := get_type_hints(form).get(str(part))] if is_dataclass(form) else []
        while candidates:
            form = candidates.pop()
            if is_dataclass(form):
                break
            candidates.extend(get_args(form))
    return [f.name for f in fields(form) if f.init] if is_dataclass(form) else []


def nearest(typed: str, known: Collection[str], most: int = 3) -> list[str]:
    """The names that were meant, perhaps: those that hold what was typed, first those that begin with
    it, the shortest first; else those that begin nearly so. Case and punctuation don't count."""

    def plain(name: str) -> str:
        return "".join(char for char in name.lower() if char.isalnum())

    wanted = plain(typed)
    if len(wanted) < 2:
        return []
    holding = [name for name in known if wanted in plain(name)]
    if holding:
        return sorted(holding, key=lambda name: (not plain(name).startswith(wanted), len(plain(name))))[:most]
    beginnings: dict[str, list[str]] = {}
    for name in known:
        for beginning in {plain(name), plain(name)[: len(wanted) + 1]}:
            beginnings.setdefault(beginning, []).append(name)
    near = get_close_matches(wanted, beginnings, n=most, cutoff=0.65)
    return list(dict.fromkeys(name for beginning in near for name in beginnings[beginning]))[:most]


def required(form: type) -> list[str]:
    """The fields of a dataclass that have no default."""
    named = fields(form) if is_dataclass(form) else ()
    return [f.name for f in named if f.default is MISSING and f.default_factory is MISSING]


def shown(value: object) -> str:
    """A value from a file, fit to be printed: one short line without control characters."""
    text = "nothing" if value is None else repr(value) if not isinstance(value, bool) else str(value).lower()
    return text if len(text) <= 60 else text[:57] + "…"


def _dotted(place: Place) -> str:
    return ".".join(str(part) if str(part).isprintable() else repr(part) for part in place)


def _expected(error: ErrorDetails) -> str:
    context = error.get("ctx", {})
    words = {
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
    return words.get(error["type"], error["msg"])


def _quoting(errors: Sequence[ErrorDetails], value: object) -> str:
    kinds = {error["type"] for error in errors}
    if kinds & {"string_type", "path_type"} and isinstance(value, int | float):
        return "put it in quotes"
    if kinds & {"int_type", "float_type", "bool_type"} and isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return ""
        return "take the quotes away"
    return ""
