"""Launch options of an engine, declared once as the fields of a dataclass.

    @dataclass(frozen=True)
    class Options:
        threads: int | None = option("Number of threads.", minimum=1, flags=("-t", "--threads"))

The type of a field defines its values: ``int``, ``float``, ``str``, ``bool``, and the words of a
``Literal``; ``None`` is the engine's default. These declarations define the options of ``edgebench run``
with their help and sweeps, the defaults of device profiles, the record, what ``compare`` compares, and
the memory estimate.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from edgebench.core.facts import ModelFacts
from edgebench.core.values import Option
from edgebench.errors import UsageError

OptionsT = TypeVar("OptionsT")

MemoryEffect = Literal["none", "grows", "moves"]
"""``grows``: a larger value needs at least as much memory. ``moves``: the value decides where memory is needed."""

ReadBack = Callable[[Sequence[str]], Option | None]
"""A pure parser of the engine's log: the value in use, None if the log does not report it."""

ExtraBytes = Callable[[Option, ModelFacts], float]
"""Additional bytes of memory that a value needs, from the model's header."""


@dataclass(frozen=True)
class LaunchOption:
    """One launch option of an engine."""

    help: str
    name: str = ""
    type: type = str
    words: tuple[str, ...] = ()
    """Words that are valid in addition to values of ``type``."""
    minimum: float | None = None
    maximum: float | None = None
    default: str = ""
    """Default as shown in the help."""
    preset: Option | None = None
    """Value that a trial gets, and its record contains, by default; None: no value."""
    flags: tuple[str, ...] = ()
    """Flags that pass the value to the program; the first one that it supports is used."""
    off_flags: tuple[str, ...] = ()
    """Of a bool: flags that disable it."""
    env: str = ""
    """Environment variable that passes the value."""
    key: str = ""
    """Name of the value in the engine's requests or settings."""
    read_back: ReadBack | None = None
    tunes: bool = True
    """Whether it only tunes how the work is done, so that ``compare`` compares its values; otherwise it is
    part of the workload and must be equal on both sides."""
    memory: MemoryEffect = "none"
    memory_b: ExtraBytes | None = None
    gpu_only: bool = False
    """Whether the CPU backend ignores it."""
    drafting: bool = False
    """Whether it is ignored without a draft model."""
    exposed: bool = True
    """Whether it can be set on the command line and in profiles."""

    @property
    def flag(self) -> str:
        """Its option on the command line of edgebench."""
        return "--" + self.name.replace("_", "-")

    @property
    def metavar(self) -> str:
        if self.type is bool:
            return "on|off"
        return "RANGE" if self.type is int else "WORD,…" if self.words else "VALUE,…"

    def check(self, value: object) -> None:
        """Raises ``ValueError`` that names the valid values."""
        if isinstance(value, str) and value in self.words:
            return
        allowed = (int, float) if self.type is float else (self.type,)
        if not isinstance(value, allowed) or (isinstance(value, bool) and self.type is not bool) or self._only_words:
            raise ValueError(f"must be {self._kind()}, not {value!r}")
        for limit, bound, side in ((self.minimum, -1, "at least"), (self.maximum, 1, "at most")):
            if limit is not None and isinstance(value, int | float) and bound * value > bound * limit:
                raise ValueError(f"must be {side} {limit:g}{self._or_words()}, not {value}")

    @property
    def _only_words(self) -> bool:
        return self.type is str and bool(self.words)

    def _kind(self) -> str:
        if self._only_words:
            return " or ".join(self.words)
        names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
        return names.get(self.type, self.type.__name__) + self._or_words()

    def _or_words(self) -> str:
        return "".join(f" or {word}" for word in self.words)


def option(help: str, *, initial: Option | None = None, **declared: Any) -> Any:
    """A field of an engine's ``Options``; ``declared``: fields of ``LaunchOption``."""
    return field(default=initial, metadata={LaunchOption: LaunchOption(help, **declared)})


def declared_options(form: type) -> Mapping[str, LaunchOption]:
    """The launch options of a dataclass by name. Raises ``TypeError`` for a field of another type."""
    return _declared(form)


@cache
def _declared(form: Any) -> Mapping[str, LaunchOption]:
    hints = get_type_hints(form)
    options: dict[str, LaunchOption] = {}
    for declared_field in fields(form):
        declaration = declared_field.metadata.get(LaunchOption)
        if declaration is None:
            raise TypeError(f"the launch option {declared_field.name} is not declared by option()")
        value_type, words = _values(declared_field.name, hints[declared_field.name])
        options[declared_field.name] = replace(declaration, name=declared_field.name, type=value_type, words=words)
    return options


def _values(name: str, hint: object) -> tuple[type, tuple[str, ...]]:
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    words = tuple(word for part in parts if get_origin(part) is Literal for word in get_args(part))
    types = [part for part in parts if part in (int, float, str, bool)]
    if len(types) > 1 or not (types or words) or not all(isinstance(word, str) for word in words):
        raise TypeError(f"the launch option {name} must be int, float, str, bool or words, not {hint}")
    return (types[0] if types else str), words


def options_as(form: type[OptionsT], options: Mapping[str, Option]) -> OptionsT:
    """The options of a launch as an instance of the engine's dataclass."""
    return form(**{name: options[name] for name in declared_options(form) if name in options})


def arguments(
    options: object, supported_flags: Collection[str] | None = None, program: str = "this engine"
) -> list[str]:
    """The options that are passed as flags, as arguments; ``supported_flags``: None for all.

    Raises ``UsageError`` for a value that the program has no flag for.
    """
    argv: list[str] = []
    for name, declared in declared_options(type(options)).items():
        value = getattr(options, name)
        flags = declared.off_flags if value is False else declared.flags
        if value is None or not flags:
            continue
        flag = next((flag for flag in flags if supported_flags is None or flag in supported_flags), None)
        if flag is None:
            raise UsageError(f"{program} has none of {', '.join(flags)}", f"Omit {declared.flag}.")
        argv += [flag] if isinstance(value, bool) else [flag, str(value)]
    return argv


def environment(options: object) -> dict[str, str]:
    """The options that are passed as environment variables."""
    declared = declared_options(type(options))
    values = {declaration.env: getattr(options, name) for name, declaration in declared.items() if declaration.env}
    return {name: str(value) for name, value in values.items() if value is not None}


def keyed(options: object) -> dict[str, Option]:
    """The options that are passed by name in requests or settings."""
    declared = declared_options(type(options))
    values = {declaration.key: getattr(options, name) for name, declaration in declared.items() if declaration.key}
    return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class NoOptions:
    """The options of an engine that has no launch options."""
