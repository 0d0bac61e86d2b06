"""Plugins: transports, systems, engines, probes, scenarios, views and metrics, registered by entry point.

A plugin is one file and one entry-point line, in this package or in another:

    [options.entry_points]
    edgebench.probes =
        fan = my_package.fan:Fan

Any error while another package's plugin is imported or created becomes a ``PartFailed`` (a
``UsageError``) that names the package; errors of edgebench's own plugins remain tracebacks. While a
plugin is in use, ``guard`` and ``boundary`` do the same for every plugin, so that an error ends one
trial only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from functools import cache, wraps
from importlib.metadata import EntryPoint, entry_points
from typing import Literal, NoReturn, TypeVar, cast, overload

from edgebench.core import Engine, MetricDefinition, Probe, Scenario, System, Transport, View
from edgebench.errors import EdgebenchError, PartFailed, UsageError

PluginGroup = Literal["transports", "systems", "engines", "probes", "scenarios", "views", "metrics"]

_ROLES: Mapping[PluginGroup, type] = {
    "transports": Transport,
    "systems": System,
    "engines": Engine,
    "probes": Probe,
    "scenarios": Scenario,
    "views": View,
    "metrics": MetricDefinition,
}


def names(group: PluginGroup) -> list[str]:
    """The names of all plugins in a group, sorted; nothing is imported."""
    return sorted(_entry_points(group))


def package(group: PluginGroup, name: str) -> str:
    """The name of the package that provides a plugin."""
    return _package(_entry_points(group)[name][0])


@overload
def load(group: Literal["transports"], name: str) -> type[Transport]: ...
@overload
def load(group: Literal["systems"], name: str) -> type[System]: ...
@overload
def load(group: Literal["engines"], name: str) -> type[Engine]: ...
@overload
def load(group: Literal["probes"], name: str) -> type[Probe]: ...
@overload
def load(group: Literal["scenarios"], name: str) -> type[Scenario]: ...
@overload
def load(group: Literal["views"], name: str) -> type[View]: ...
@overload
def load(group: Literal["metrics"], name: str) -> MetricDefinition | Sequence[MetricDefinition]: ...
def load(group: PluginGroup, name: str) -> type | MetricDefinition | Sequence[MetricDefinition]:
    """A plugin's class; for ``metrics`` the definitions themselves.

    Raises ``UsageError`` for an unknown name (with the closest match), for a name that two packages
    provide, and for another package's plugin that cannot be imported or lacks a part of its role.
    """
    from difflib import get_close_matches

    available = _entry_points(group)
    if name not in available:
        closest = get_close_matches(name, available, n=1)
        hint = f"Did you mean {closest[0]}?" if closest else f"Available {group}: {', '.join(sorted(available))}."
        raise UsageError(f"no {group[:-1]} named {name!r}", hint)
    point, *others = available[name]
    if others:
        packages = [_package(other) for other in available[name]]
        raise UsageError(
            f"the {group[:-1]} {name} is provided by {len(packages)} packages: {', '.join(sorted(packages))}",
            f"Keep one of them: pip uninstall {next(provider for provider in packages if provider != 'edgebench')}",
        )
    with attribute_errors(group, name, "cannot be loaded"):
        plugin = cast(type, point.load())
        _require(plugin, _class_variables(_ROLES[group]))
    return plugin


@overload
def create(group: Literal["transports"], name: str, *, config: Mapping[str, object]) -> Transport: ...
@overload
def create(group: Literal["systems"], name: str) -> System: ...
@overload
def create(group: Literal["engines"], name: str, device: object, /, *, config: Mapping[str, object]) -> Engine: ...
@overload
def create(group: Literal["probes"], name: str) -> Probe: ...
@overload
def create(group: Literal["scenarios"], name: str) -> Scenario: ...
@overload
def create(group: Literal["views"], name: str) -> View: ...
def create(group: PluginGroup, name: str, *arguments: object, config: Mapping[str, object] | None = None) -> object:
    """An instance of a plugin; ``config`` has the fields of its ``Config``.

    Raises ``UsageError`` as ``load`` does, and if another package's plugin cannot be created.
    """
    plugin = cast(Callable[..., object], load(group, name))
    with attribute_errors(group, name, "cannot be created"):
        if config is not None:
            arguments = (*arguments, plugin.Config(**config))  # type: ignore[attr-defined]
        part = plugin(*arguments)
        _require(part, _methods(_ROLES[group]))
    return part


@contextlib.contextmanager
def attribute_errors(group: PluginGroup, name: str, problem: str) -> Iterator[None]:
    """Turn any exception of another package's plugin into a ``UsageError`` that names the package.

    ``EdgebenchError`` passes unchanged, and so does every exception of edgebench's own plugins, which is
    a defect of the program.
    """
    try:
        yield
    except EdgebenchError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - named with its package
        _raise_attributed(group, name, problem, error)


@contextlib.contextmanager
def boundary(group: PluginGroup, name: str) -> Iterator[None]:
    """Turn unexpected exceptions of a plugin in use into ``PartFailed``.

    Unlike ``attribute_errors`` also for edgebench's own plugins, so that a defect ends one trial only.
    """
    try:
        yield
    except EdgebenchError:
        raise
    except Exception as error:
        raise fault(group, name, error) from error


def fault(group: PluginGroup, name: str, error: Exception) -> PartFailed:
    """The error that names the plugin that raised ``error``."""
    package = _package(_entry_points(group)[name][0]) if name in _entry_points(group) else "edgebench"
    return PartFailed(f"the {group[:-1]} {name} of the package {package} raised", error)


def misuse(group: PluginGroup, name: str, problem: str) -> PartFailed:
    """The error for a value from a plugin that violates its contract."""
    return fault(group, name, TypeError(problem))


Part = TypeVar("Part")


def guard(group: PluginGroup, name: str, part: Part) -> Part:
    """Wrap a part in ``boundary``: every method call, every attribute, every step of its generators.

    All public attributes are available as properties, so that a runtime-checkable protocol sees the same
    capabilities as on the part itself.
    """
    properties = {attribute: _member(attribute) for attribute in dir(part) if not attribute.startswith("_")}
    guarded_cls = cast(Callable[..., object], type(part.__class__.__name__, (_Guarded,), properties))
    return cast(Part, guarded_cls(group, name, part))


class _Guarded:
    """A part with its boundary."""

    def __init__(self, group: PluginGroup, name: str, part: object) -> None:
        self._part = part
        self._boundary: Boundary = lambda: boundary(group, name)


def _member(attribute: str) -> property:
    def get(guarded: _Guarded) -> object:
        with guarded._boundary():
            value: object = getattr(guarded._part, attribute)
        return _method(value, guarded._boundary) if callable(value) and not isinstance(value, type) else value

    return property(get)


Steps = Generator[object, object, object]
Boundary = Callable[[], contextlib.AbstractContextManager[None]]


def _method(method: Callable[..., object], enter_boundary: Boundary) -> Callable[..., object]:
    @wraps(method)
    def call(*args: object, **keywords: object) -> object:
        with enter_boundary():
            result = method(*args, **keywords)
        return _steps(cast(Steps, result), enter_boundary) if isinstance(result, Iterator) else result

    return call


def _steps(steps: Steps, enter_boundary: Boundary) -> Steps:
    with enter_boundary():
        return (yield from steps)


def _raise_attributed(group: PluginGroup, name: str, problem: str, error: BaseException) -> NoReturn:
    package = _package(_entry_points(group)[name][0])
    if package == "edgebench":
        raise error
    hint = f"Fix it, or remove it: pip uninstall {package}"
    raise PartFailed(
        f"the {group[:-1]} {name} of the package {package} {problem}:", error, hint, located=False
    ) from error


@cache
def _entry_points(group: PluginGroup) -> dict[str, list[EntryPoint]]:
    points: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=f"edgebench.{group}"):
        points.setdefault(point.name, []).append(point)
    return points


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "edgebench"


def _class_variables(role: type) -> list[str]:
    return [name for name, hint in role.__annotations__.items() if str(hint).startswith("ClassVar")]


def _methods(role: type) -> list[str]:
    return [name for name, value in vars(role).items() if callable(value) and not name.startswith("_")]


def _require(part: object, members: Collection[str]) -> None:
    missing = [name for name in members if not hasattr(part, name)]
    if missing:
        raise AttributeError(f"it has no {', '.join(missing)}")
