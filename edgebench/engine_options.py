"""Backends and launch options that the installed engines declare."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from edgebench import plugins
from edgebench.core import LaunchOption, Option, declared_options
from edgebench.errors import EdgebenchError, UsageError

UNDECLARED_OPTIONS = frozenset({"ctx", "draft", "k", "p_min", "rpc", "affinity"})
"""Engine options of a trial that no engine declares: every trial has ``ctx``, the others are edgebench's
own."""
UNDECLARED_TUNING_OPTIONS = frozenset({"draft", "k", "p_min", "costs", "rpc", "affinity"})


def all_backends() -> list[str]:
    """The backends of all installed engines, each once, ``cpu`` first."""
    names = {name for engine in plugins.names("engines") for name in plugins.load("engines", engine).backends}
    return sorted(names, key=lambda name: (name != "cpu", name))


def check_backend(engine: str, backend: str) -> None:
    """Raise ``UsageError`` with the closest name for a backend that the engine does not have."""
    backends = plugins.load("engines", engine).backends
    if backend in backends:
        return
    closest = get_close_matches(backend, backends, n=1)
    hint = f"Did you mean {closest[0]}?" if closest else f"Backends of {engine}: {', '.join(backends)}."
    raise UsageError(f"{engine} has no backend {backend!r}", hint)


def declared_by(engine: str) -> Mapping[str, LaunchOption]:
    """The launch options of an engine. Raises ``UsageError`` if its declaration is invalid."""
    engine_cls = plugins.load("engines", engine)
    with plugins.attribute_errors("engines", engine, "has an invalid declaration of launch options"):
        return declared_options(engine_cls.Options)


@dataclass(frozen=True)
class SharedOption:
    """A launch option with the engines that have it."""

    option: LaunchOption
    engines: tuple[str, ...]


def all_options() -> dict[str, SharedOption]:
    """The exposed options of all installed engines, by name, in the order of declaration.

    Raises ``UsageError`` if two engines declare one name with different types.
    """
    options: dict[str, SharedOption] = {}
    for engine in sorted(plugins.names("engines"), key=lambda name: (plugins.package("engines", name), name)):
        for name, option in declared_by(engine).items():
            if not option.exposed:
                continue
            shared_option = options.setdefault(name, SharedOption(option, ()))
            if (shared_option.option.type, shared_option.option.words) != (option.type, option.words):
                other_engine = shared_option.engines[0]
                raise UsageError(
                    f"the launch option {option.flag} has two types: one by the engine {other_engine} of the package "
                    f"{plugins.package('engines', other_engine)}, another by the engine {engine} of the package "
                    f"{plugins.package('engines', engine)}",
                    "Uninstall one of the packages, or rename the option in one of them.",
                )
            options[name] = SharedOption(shared_option.option, (*shared_option.engines, engine))
    return options


def read_back(engine: str, log: Sequence[str]) -> dict[str, Option]:
    """The values of launch options in use according to the engine's log."""
    options = declared_by(engine).items()
    values = {name: option.read_back(log) for name, option in options if option.read_back is not None}
    return {name: value for name, value in values.items() if value is not None}


def missing_error(engine: str, name: str) -> UsageError | None:
    """The error for an option that only other engines have; None if no engine has it."""
    owners = all_options().get(name)
    if owners is None or engine in owners.engines:
        return None
    return UsageError(
        f"{owners.option.flag} is not an option of {engine}", f"Engines with it: {', '.join(owners.engines)}."
    )


def tuning_options() -> frozenset[str]:
    """Options that only change how the work is done, of all engines that can be loaded."""
    return UNDECLARED_TUNING_OPTIONS | frozenset(option.name for option in _loadable_options() if option.tunes)


def gpu_options() -> frozenset[str]:
    """Options that the CPU backend ignores, of all engines that can be loaded."""
    return frozenset(option.name for option in _loadable_options() if option.gpu_only)


def _loadable_options() -> Iterator[LaunchOption]:
    """Options of all engines that can be loaded: results can also be compared without their engines."""
    for engine in plugins.names("engines"):
        with contextlib.suppress(EdgebenchError):
            yield from declared_by(engine).values()
