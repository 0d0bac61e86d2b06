"""Device profiles: ``devices/NAME.yaml`` becomes a ``Device``, or every mistake is named.

Profiles are looked for in the current folder, in the user's configuration folder and in the
installed package, in that order, and so are those of models.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, make_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from edgebench import engine_options, plugins
from edgebench.core import Device, LaunchOption
from edgebench.errors import ProfileError, UsageError
from edgebench.profiles.documents import Document, nearest, shown

Kind = Literal["devices", "models", "references"]

SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class _Defaults:
    """What a device's trials are run with where the command line says nothing else."""

    engine: str | None = None
    backend: str | None = None
    """A backend of the engine."""
    power: Literal["mains", "battery"] | None = None
    """The power source its trials want; another one is a reason to wait, and then a doubt."""


@cache
def defaults_form() -> type[_Defaults]:
    """``defaults`` of a profile: with the launch options of all installed engines."""
    options = engine_options.all_options()

    def check(self: object) -> None:
        for name, shared in options.items():
            if (value := getattr(self, name)) is not None:
                try:
                    shared.option.check(value)
                except ValueError as error:
                    raise ValueError(f"{name} {error}") from error

    return make_dataclass(
        "Defaults",
        [(name, _annotation(shared.option), field(default=None)) for name, shared in options.items()],
        bases=(_Defaults,),
        namespace={"__post_init__": check, "__doc__": _Defaults.__doc__},
        frozen=True,
    )


def _annotation(option: LaunchOption) -> Any:
    if not option.words:
        return option.type | None
    words: Any = Literal.__getitem__(option.words)
    return words | None if option.type is str else option.type | words | None


def folders(kind: Kind) -> list[Path]:
    """Where profiles are looked for, first to last."""
    from platformdirs import user_config_path

    package = Path(__file__).parent.parent
    shipped = package / "data" / kind
    # In a checkout (and an editable installation) the data lies beside the package.
    return [Path(kind), user_config_path("edgebench") / kind, shipped if shipped.is_dir() else package.parent / kind]


def names(kind: Kind) -> dict[str, Path]:
    """Every profile there is, by name, sorted; the first folder that has a name wins."""
    found: dict[str, Path] = {}
    for folder in folders(kind):
        try:
            files = sorted(folder.iterdir())
        except OSError:
            continue  # not there, or not for us to read
        for path in files:
            if path.suffix in SUFFIXES and path.is_file():
                found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def own(kind: Kind) -> list[str]:
    """Those of the first folder that has any: one's own, before the examples that ship."""
    found = names(kind)
    for folder in folders(kind):
        if here := [name for name, path in found.items() if path.parent == folder]:
            return here
    return []


def locate(kind: Kind, name_or_path: str) -> Path:
    """The file of a profile. Raises ``ProfileError`` with the near name where there is none."""
    path = Path(name_or_path).expanduser()
    if path.suffix in SUFFIXES:
        if not path.is_file():
            raise ProfileError(
                f"{path}: there is no such file", f"`edgebench {kind} list` shows the profiles there are."
            )
        return path
    found = names(kind)
    if name_or_path not in found:
        near = nearest(name_or_path, found)
        hint = f"Did you mean {' or '.join(near)}? " if near else ""
        raise ProfileError(f"no {kind[:-1]} named {name_or_path!r}", f"{hint}`edgebench {kind} list` shows all.")
    return found[name_or_path]


def named(document: Document) -> str:
    """The profile's name, which must be the file's: profiles are found by their files."""
    name = document.get("name")
    if isinstance(name, str) and name != document.path.stem:
        document.mistake(("name",), f"must be the file's own name, {document.path.stem}, not {shown(name)}")
    return document.path.stem


def load_device(name_or_path: str) -> Device:
    """A device by its profile's name or path. Raises ``ProfileError`` with every mistake in it."""
    document = Document(locate("devices", name_or_path))
    device = document.read(Device, hidden=("source",))
    named(document)
    _check_transport(document)
    _check_engines(document)
    _check_system(document)
    _check_defaults(document)
    document.settle()
    assert device is not None  # or settle would have raised
    engines = {name: settings or {} for name, settings in device.engines.items()}
    defaults = {name: value for name, value in device.defaults.items() if value is not None}
    system = controller_system() if device.system == "auto" else device.system
    return replace(device, system=system, engines=engines, defaults=defaults, source=document.path)


def controller_system() -> str:
    """The system of this machine, by edgebench's name for it."""
    if hasattr(sys, "getandroidapilevel"):
        return "termux"
    return {"darwin": "macos", "win32": "windows"}.get(sys.platform, "linux")


def _check_transport(document: Document) -> None:
    if not isinstance(document.get("transport"), Mapping):
        return  # said already
    kind = document.get("transport", "kind")
    if not isinstance(kind, str):
        right = f"available: {', '.join(plugins.names('transports'))}"
        document.mistake(
            ("transport", "kind"), "is missing" if kind is None else f"must be text, not {shown(kind)}", right
        )
        return
    form = _config(document, "transports", kind, ("transport", "kind"))
    if form is not None:
        document.read(form, "transport", others=("kind",))


def _check_engines(document: Document) -> None:
    engines = document.get("engines")
    for name, settings in engines.items() if isinstance(engines, Mapping) else ():
        form = _config(document, "engines", name, ("engines", name))
        if form is not None and (settings is None or isinstance(settings, Mapping)):
            document.read(form, "engines", name)


def _check_system(document: Document) -> None:
    system = document.get("system")
    known = [*plugins.names("systems"), "auto"]
    if system == "auto" and document.get("transport", "kind") != "local":
        document.mistake(("system",), "auto is for the transport local only", f"available: {', '.join(known[:-1])}")
    elif isinstance(system, str) and system not in known:
        document.unknown(("system",), system, f"no system named {shown(system)}", known)
    elif system == "windows" and document.get("transport", "kind") == "local" and sys.platform != "win32":
        document.mistake(("system",), f"the transport local is this machine, and it runs no {system}", "say auto")


def _check_defaults(document: Document) -> None:
    if not isinstance(document.get("defaults"), Mapping):
        return
    defaults = document.read(defaults_form(), "defaults")
    engine = defaults.engine if defaults else None
    known = plugins.names("engines")
    if engine is not None and engine not in known:
        document.unknown(("defaults", "engine"), engine, f"no engine named {shown(engine)}", known)
        return
    backend = defaults.backend if defaults else None
    backends = plugins.load("engines", engine).backends if engine else engine_options.all_backends()
    if backend is not None and backend not in backends:
        wrong = f"{engine} has no backend" if engine else "no engine has a backend"
        document.unknown(("defaults", "backend"), backend, f"{wrong} {shown(backend)}", backends)


def _config(
    document: Document, group: Literal["transports", "engines"], name: str, place: tuple[str, ...]
) -> type | None:
    """A plugin's ``Config``; None, and a mistake noted, where it cannot be had."""
    known = plugins.names(group)
    if name not in known:
        document.unknown(place, name, f"no {group[:-1]} named {shown(name)}", known)
        return None
    try:
        return plugins.load(group, name).Config
    except UsageError as error:
        document.mistake(place, str(error))
    except (ImportError, AttributeError) as error:
        document.mistake(place, f"the {group[:-1]} {name} cannot be loaded: {error}")
    return None
