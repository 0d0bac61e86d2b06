"""What the installed engines declare of themselves: backends and launch options."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from edgebench import plugins
from edgebench.core import LaunchOption, Option, declared_options
from edgebench.errors import EdgebenchError, UsageError

COMMON = frozenset({"ctx", "draft", "k", "p_min", "rpc", "affinity"})
"""Options of a trial that concern its engine and are not declared by one: ``ctx`` every trial has, the
others are edgebench's own."""
COMMON_TUNING = frozenset({"draft", "k", "p_min", "costs", "rpc", "affinity"})


def all_backends() -> list[str]:
    """The backends of all installed engines, each once, ``cpu`` first."""
    names = {name for engine in plugins.names("engines") for name in plugins.load("engines", engine).backends}
    return sorted(names, key=lambda name: (name != "cpu", name))


def check_backend(engine: str, backend: str) -> None:
    """Raises ``UsageError`` for a backend that the engine does not have, with the closest one."""
    backends = plugins.load("engines", engine).backends
    if backend in backends:
        return
    near = get_close_matches(backend, backends, n=1)
    hint = f"Did you mean {near[0]}?" if near else f"Backends of {engine}: {', '.join(backends)}."
    raise UsageError(f"{engine} has no backend {backend!r}", hint)


def declared(engine: str) -> Mapping[str, LaunchOption]:
    """The launch options of an engine. Raises ``UsageError`` for an engine that declares them wrongly."""
    kind = plugins.load("engines", engine)
    with plugins.attributed("engines", engine, "declares its launch options wrongly"):
        return declared_options(kind.Options)


@dataclass(frozen=True)
class SharedOption:
    """A launch option with the engines that have it."""

    option: LaunchOption
    engines: tuple[str, ...]


def all_options() -> dict[str, SharedOption]:
    """The options of all installed engines that can be given, by name, in the order of their declaration.

    Raises ``UsageError`` where two engines declare one name with different types.
    """
    shared: dict[str, SharedOption] = {}
    for engine in sorted(plugins.names("engines"), key=lambda name: (plugins.package("engines", name), name)):
        for name, one in declared(engine).items():
            if not one.exposed:
                continue
            known = shared.setdefault(name, SharedOption(one, ()))
            if (known.option.type, known.option.words) != (one.type, one.words):
                other = known.engines[0]
                raise UsageError(
                    f"the launch option {one.flag} has two types: one by the engine {other} of the package "
                    f"{plugins.package('engines', other)}, another by the engine {engine} of the package "
                    f"{plugins.package('engines', engine)}",
                    "Uninstall one of the packages, or rename the option in one of them.",
                )
            shared[name] = SharedOption(known.option, (*known.engines, engine))
    return shared


def used(engine: str, log: Sequence[str]) -> dict[str, Option]:
    """The values of launch options that the engine's log says are in use."""
    values = {name: one.read_back(log) for name, one in declared(engine).items() if one.read_back is not None}
    return {name: value for name, value in values.items() if value is not None}


def missing(engine: str, name: str) -> UsageError | None:
    """The error for an option that only other engines have; None where no engine has it."""
    owners = all_options().get(name)
    if owners is None or engine in owners.engines:
        return None
    return UsageError(
        f"{owners.option.flag} is not an option of {engine}", f"Engines with it: {', '.join(owners.engines)}."
    )


def tuning_options() -> frozenset[str]:
    """Options that only change how the work is done, of all engines that can be loaded."""
    return COMMON_TUNING | frozenset(one.name for one in _loadable() if one.tunes)


def gpu_options() -> frozenset[str]:
    """Options that mean nothing to the CPU backend, of all engines that can be loaded."""
    return frozenset(one.name for one in _loadable() if one.gpu_only)


def _loadable() -> Iterator[LaunchOption]:
    """Results are compared without the engines that made them too."""
    for engine in plugins.names("engines"):
        with contextlib.suppress(EdgebenchError):
            yield from declared(engine).values()
