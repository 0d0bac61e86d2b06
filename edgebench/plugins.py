"""Finding the parts: transports, systems, engines, probes, scenarios and views by entry point.

A part is one file and one entry-point line, in this package or in somebody else's:

    [options.entry_points]
    edgebench.probes =
        fan = my_package.fan:Fan
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from edgebench.errors import UsageError

Kind = Literal["transports", "systems", "engines", "probes", "scenarios", "views"]


@cache
def _found(kind: Kind) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"edgebench.{kind}")}


def names(kind: Kind) -> list[str]:
    """The names of all parts of a kind, sorted; nothing is imported."""
    return sorted(_found(kind))


def load(kind: Kind, name: str) -> Any:
    """The part itself (a class). Raises ``UsageError`` for an unknown name, with the near one, and for
    somebody else's part that cannot be imported."""
    from difflib import get_close_matches

    found = _found(kind)
    if name not in found:
        near = get_close_matches(name, found, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(sorted(found))}."
        raise UsageError(f"no {kind[:-1]} is called {name!r}", hint)
    try:
        return found[name].load()
    except Exception as error:
        package = found[name].dist
        if package is None or package.name == "edgebench":
            raise
        raise UsageError(
            f"the {kind[:-1]} {name} of the package {package.name} cannot be loaded: {type(error).__name__}: {error}",
            f"Correct it, or do without: pip uninstall {package.name}",
        ) from error
