"""Objects of JSON documents, read by the types that are expected of their fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from functools import cache
from typing import TypeVar, get_args, get_origin, get_type_hints

from edgebench.core.values import Option

Kind = TypeVar("Kind")


class Fields:
    """The fields of a JSON object, taken one after the other where they have the type that is expected.

    What is no object has no fields. Nothing raises: a field of another type is absent, and stays in ``rest``.
    """

    def __init__(self, document: object) -> None:
        self.rest: dict[str, object] = dict(document) if isinstance(document, Mapping) else {}
        """Fields that were not taken."""

    def into(self, kind: Callable[..., Kind]) -> Kind:
        """A dataclass, each of its fields read by its type; what remains becomes its ``extra``, if it has one."""
        readers, has_extra = _readers(kind)
        # What is absent needs no reader: records have a third of the fields, and pages thousands of records.
        values = {name: readers[name](self, name) for name in list(self.rest) if name in readers}
        return kind(**values, extra=self.rest) if has_extra else kind(**values)

    def take(self, name: str, kind: type[Kind]) -> Kind | None:
        value = self.rest.get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            return None
        del self.rest[name]
        return value

    def text(self, name: str) -> str | None:
        return self.take(name, str)

    def integer(self, name: str) -> int | None:
        return self.take(name, int)

    def number(self, name: str) -> float | None:
        whole = self.take(name, int)
        return self.take(name, float) if whole is None else whole

    def flag(self, name: str) -> bool | None:
        value = self.rest.get(name)
        if not isinstance(value, bool):
            return None
        del self.rest[name]
        return value

    def items(self, name: str) -> tuple[object, ...]:
        """The elements of an array."""
        value = self.rest.get(name)
        if not isinstance(value, list | tuple) or not value:
            return ()
        del self.rest[name]
        return tuple(value)

    def names(self, name: str) -> tuple[str, ...]:
        return self._array(name, str)

    def integers(self, name: str) -> tuple[int, ...]:
        return self._array(name, int)

    def mapping(self, name: str) -> Mapping[str, object]:
        value = self.rest.get(name)
        if not isinstance(value, Mapping) or not value:
            return {}
        del self.rest[name]
        return value

    def fields(self, name: str) -> Fields:
        """An object in this one; without fields where there is none."""
        return Fields(self.mapping(name))

    def numbers(self, name: str) -> dict[str, float]:
        return self._object(name, (int, float))

    def texts(self, name: str) -> dict[str, str]:
        return self._object(name, (str,))

    def scalars(self, name: str) -> dict[str, Option]:
        return self._object(name, (bool, int, float, str))

    def objects(self, name: str) -> tuple[Mapping[str, object], ...]:
        value = self.rest.get(name)
        if not isinstance(value, list | tuple) or not value or not all(isinstance(one, Mapping) for one in value):
            return ()
        del self.rest[name]
        return tuple(value)

    def parts(self, name: str, kind: type[Kind]) -> tuple[Kind, ...]:
        """The objects of an array as dataclasses; absent where one of them holds more than the dataclass."""
        value = self.rest.get(name)
        if not isinstance(value, list | tuple) or not value or not all(isinstance(one, Mapping) for one in value):
            return ()
        parts = tuple(Fields(one).into(kind) for one in value)
        if any(flat(part) != _filled(one) for part, one in zip(parts, value, strict=True)):
            return ()
        del self.rest[name]
        return parts

    def part(self, name: str, kind: type[Kind]) -> Kind | None:
        """An object as a dataclass; absent where it holds more than the dataclass."""
        value = self.rest.get(name)
        if not isinstance(value, Mapping):
            return None
        part = Fields(value).into(kind)
        if flat(part) != _filled(value):
            return None
        del self.rest[name]
        return part

    def pairs(self, name: str) -> tuple[tuple[float, float], ...]:
        value = self.rest.get(name)
        if not isinstance(value, list | tuple) or not value or not all(map(_is_pair, value)):
            return ()
        del self.rest[name]
        return tuple((one, other) for one, other in value)

    def _array(self, name: str, kind: type[Kind]) -> tuple[Kind, ...]:
        value = self.rest.get(name)
        if not isinstance(value, list | tuple) or not value or not all(type(one) is kind for one in value):
            return ()
        del self.rest[name]
        return tuple(value)

    def _object(self, name: str, kinds: tuple[type[Kind], ...]) -> dict[str, Kind]:
        value = self.rest.get(name)
        if not isinstance(value, Mapping) or not value or not all(type(one) in kinds for one in value.values()):
            return {}
        del self.rest[name]
        return dict(value)


def _filled(value: Mapping[str, object]) -> dict[str, object]:
    return {name: one for name, one in value.items() if one is not None and one not in ([], {})}


def flat(part: object) -> dict[str, object]:
    """The fields of a dataclass that are known, as a JSON document has them: not None and not empty.

    What is in ``extra`` lies beside them.
    """
    values = dict(vars(part))
    extra: Mapping[str, object] = values.pop("extra", {})
    known = {name: _plain(value) for name, value in values.items() if value is not None and value not in ((), {})}
    return {**known, **extra}


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return flat(value) if is_dataclass(value) else value


def _is_pair(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(type(one) in (int, float) for one in value)


_READERS: Mapping[object, Callable[[Fields, str], object]] = {
    bool | None: Fields.flag,
    float | None: Fields.number,
    int | None: Fields.integer,
    str | None: Fields.text,
    tuple[int, ...]: Fields.integers,
    tuple[str, ...]: Fields.names,
    tuple[tuple[float, float], ...]: Fields.pairs,
    tuple[Mapping[str, object], ...]: Fields.objects,
    Mapping[str, Option]: Fields.scalars,
    Mapping[str, float]: Fields.numbers,
    Mapping[str, str]: Fields.texts,
}


@cache
def _readers(kind: Callable[..., object]) -> tuple[Mapping[str, Callable[[Fields, str], object]], bool]:
    """How each field of a dataclass is read, and whether it has an ``extra``."""
    hints = get_type_hints(kind)
    return {name: _reader(hint) for name, hint in hints.items() if name != "extra"}, "extra" in hints


def _reader(hint: object) -> Callable[[Fields, str], object]:
    if reader := _READERS.get(hint):
        return reader
    part = get_args(hint)[0]
    if get_origin(hint) is tuple:
        return lambda fields, name: fields.parts(name, part)
    return lambda fields, name: fields.part(name, part)
