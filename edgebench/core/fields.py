"""Objects of JSON documents, read field by field with the expected types."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from functools import cache
from typing import TypeVar, get_args, get_origin, get_type_hints

from edgebench.core.values import Option

Value = TypeVar("Value")


class Fields:
    """The fields of a JSON object; a field is removed from ``rest`` when it is read with the expected type.

    A value that is not an object has no fields. Never raises: a field of another type is absent and stays in ``rest``.
    """

    def __init__(self, document: object) -> None:
        self.rest: dict[str, object] = dict(document) if isinstance(document, Mapping) else {}
        """Fields that were not read."""

    def into(self, form: Callable[..., Value]) -> Value:
        """A dataclass with each field read by its type; the remaining fields become its ``extra``, if it has one."""
        readers, has_extra = _readers(form)
        # Skip absent fields: records have a third of the fields, and a page may have thousands of records.
        values = {name: readers[name](self, name) for name in list(self.rest) if name in readers}
        return form(**values, extra=self.rest) if has_extra else form(**values)

    def take(self, name: str, value_type: type[Value]) -> Value | None:
        value = self.rest.get(name)
        if not isinstance(value, value_type) or isinstance(value, bool):
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
        """A nested object; without fields if it is absent."""
        return Fields(self.mapping(name))

    def numbers(self, name: str) -> dict[str, float]:
        return self._object(name, (int, float))

    def texts(self, name: str) -> dict[str, str]:
        return self._object(name, (str,))

    def scalars(self, name: str) -> dict[str, Option]:
        return self._object(name, (bool, int, float, str))

    def objects(self, name: str) -> tuple[Mapping[str, object], ...]:
        value = self.rest.get(name)
        if not isinstance(value, list | tuple) or not value or not all(isinstance(item, Mapping) for item in value):
            return ()
        del self.rest[name]
        return tuple(value)

    def parts(self, name: str, form: type[Value]) -> tuple[Value, ...]:
        """The objects of an array as dataclasses; empty if one has fields that the dataclass lacks."""
        value = self.rest.get(name)
        if not isinstance(value, list | tuple) or not value or not all(isinstance(item, Mapping) for item in value):
            return ()
        parts = tuple(Fields(item).into(form) for item in value)
        if any(flat(part) != _filled(item) for part, item in zip(parts, value, strict=True)):
            return ()
        del self.rest[name]
        return parts

    def part(self, name: str, form: type[Value]) -> Value | None:
        """An object as a dataclass; None if it has fields that the dataclass lacks."""
        value = self.rest.get(name)
        if not isinstance(value, Mapping):
            return None
        part = Fields(value).into(form)
        if flat(part) != _filled(value):
            return None
        del self.rest[name]
        return part

    def pairs(self, name: str) -> tuple[tuple[float, float], ...]:
        value = self.rest.get(name)
        if not isinstance(value, list | tuple) or not value or not all(map(_is_pair, value)):
            return ()
        del self.rest[name]
        return tuple((first, second) for first, second in value)

    def _array(self, name: str, item_type: type[Value]) -> tuple[Value, ...]:
        value = self.rest.get(name)
        if not isinstance(value, list | tuple) or not value or not all(type(item) is item_type for item in value):
            return ()
        del self.rest[name]
        return tuple(value)

    def _object(self, name: str, types: tuple[type[Value], ...]) -> dict[str, Value]:
        value = self.rest.get(name)
        if not isinstance(value, Mapping) or not value or not all(type(item) in types for item in value.values()):
            return {}
        del self.rest[name]
        return dict(value)


def _filled(value: Mapping[str, object]) -> dict[str, object]:
    return {name: entry for name, entry in value.items() if entry is not None and entry not in ([], {})}


def flat(part: object) -> dict[str, object]:
    """The fields of a dataclass that are neither None nor empty, as values of a JSON document.

    The fields in ``extra`` are on the same level.
    """
    values = dict(vars(part))
    extra: Mapping[str, object] = values.pop("extra", {})
    values_known = {
        name: _plain(value) for name, value in values.items() if value is not None and value not in ((), {})
    }
    return {**values_known, **extra}


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return flat(value) if is_dataclass(value) else value


def _is_pair(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(type(number) in (int, float) for number in value)


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
def _readers(form: Callable[..., object]) -> tuple[Mapping[str, Callable[[Fields, str], object]], bool]:
    """The reader of each field of a dataclass, and whether it has an ``extra``."""
    hints = get_type_hints(form)
    return {name: _reader(hint) for name, hint in hints.items() if name != "extra"}, "extra" in hints


def _reader(hint: object) -> Callable[[Fields, str], object]:
    if reader := _READERS.get(hint):
        return reader
    part = get_args(hint)[0]
    if get_origin(hint) is tuple:
        return lambda fields, name: fields.parts(name, part)
    return lambda fields, name: fields.part(name, part)
