"""What the installed engines declare of themselves: backends and launch options."""

from __future__ import annotations

from difflib import get_close_matches

from edgebench import plugins
from edgebench.errors import UsageError


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
