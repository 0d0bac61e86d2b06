"""Device profiles: ``devices/NAME.yaml`` becomes a ``Device``, or all its mistakes are reported.

Profiles are searched in the current folder, in the user's configuration folder and in the
installed package, in that order; model profiles likewise.
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
from edgebench.profiles.documents import Document, find_closest_names, format_value

ProfileKind = Literal["devices", "models", "references"]

SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class _Defaults:
    """Defaults of a device's trials for options that the command line does not set."""

    engine: str | None = None
    backend: str | None = None
    """A backend of the engine."""
    power: Literal["mains", "battery"] | None = None
    """The power source that its trials require; they wait for it, then run with a doubt."""


@cache
def defaults_cls() -> type[_Defaults]:
    """``defaults`` of a profile: with the launch options of all installed engines."""
    options = engine_options.all_options()

    def check(self: object) -> None:
        for name, shared_option in options.items():
            if (value := getattr(self, name)) is not None:
                try:
                    shared_option.option.check(value)
                except ValueError as error:
                    raise ValueError(f"{name} {error}") from error

    return make_dataclass(
        "Defaults",
        [(name, _annotation(shared_option.option), field(default=None)) for name, shared_option in options.items()],
        bases=(_Defaults,),
        namespace={"__post_init__": check, "__doc__": _Defaults.__doc__},
        frozen=True,
    )


def _annotation(option: LaunchOption) -> Any:
    if not option.words:
        return option.type | None
    choices: Any = Literal.__getitem__(option.words)
    return choices | None if option.type is str else option.type | choices | None


def search_folders(kind: ProfileKind) -> list[Path]:
    """The folders in which profiles are searched, in order."""
    from platformdirs import user_config_path

    package = Path(__file__).parent.parent
    shipped = package / "data" / kind
    # In a checkout (and an editable installation) the data is next to the package.
    return [Path(kind), user_config_path("edgebench") / kind, shipped if shipped.is_dir() else package.parent / kind]


def names(kind: ProfileKind) -> dict[str, Path]:
    """Paths of all profiles by name, sorted; for a duplicate name the first folder takes precedence."""
    paths: dict[str, Path] = {}
    for folder in search_folders(kind):
        try:
            files = sorted(folder.iterdir())
        except OSError:
            continue  # missing or unreadable
        for path in files:
            if path.suffix in SUFFIXES and path.is_file():
                paths.setdefault(path.stem, path)
    return dict(sorted(paths.items()))


def user_profiles(kind: ProfileKind) -> list[str]:
    """Names of the profiles in the first folder that has any: the user's own, else the examples."""
    paths = names(kind)
    for folder in search_folders(kind):
        if in_folder := [name for name, path in paths.items() if path.parent == folder]:
            return in_folder
    return []


def locate(kind: ProfileKind, name_or_path: str) -> Path:
    """The file of a profile. Raises ``ProfileError`` with similar names if there is none."""
    path = Path(name_or_path).expanduser()
    if path.suffix in SUFFIXES:
        if not path.is_file():
            raise ProfileError(f"{path}: no such file", f"`edgebench {kind} list` shows all profiles.")
        return path
    paths = names(kind)
    if name_or_path not in paths:
        closest = find_closest_names(name_or_path, paths)
        hint = f"Did you mean {' or '.join(closest)}? " if closest else ""
        raise ProfileError(f"no {kind[:-1]} named {name_or_path!r}", f"{hint}`edgebench {kind} list` shows all.")
    return paths[name_or_path]


def check_name(document: Document) -> str:
    """The profile's name; adds a mistake if it differs from the file's, by which profiles are found."""
    name = document.get("name")
    if isinstance(name, str) and name != document.path.stem:
        document.add_mistake(("name",), f"must be the file's own name, {document.path.stem}, not {format_value(name)}")
    return document.path.stem


def load_device(name_or_path: str) -> Device:
    """A device by its profile's name or path. Raises ``ProfileError`` with all its mistakes."""
    document = Document(locate("devices", name_or_path))
    device = document.read(Device, hidden_fields=("source",))
    check_name(document)
    _check_transport(document)
    _check_engines(document)
    _check_system(document)
    _check_defaults(document)
    document.raise_mistakes()
    assert device is not None  # or raise_mistakes would have raised
    engines = {name: settings or {} for name, settings in device.engines.items()}
    defaults = {name: value for name, value in device.defaults.items() if value is not None}
    system = controller_system() if device.system == "auto" else device.system
    return replace(device, system=system, engines=engines, defaults=defaults, source=document.path)


def controller_system() -> str:
    """The name of this machine's system in edgebench."""
    if hasattr(sys, "getandroidapilevel"):
        return "termux"
    return {"darwin": "macos", "win32": "windows"}.get(sys.platform, "linux")


def _check_transport(document: Document) -> None:
    if not isinstance(document.get("transport"), Mapping):
        return  # reported already
    kind = document.get("transport", "kind")
    if not isinstance(kind, str):
        advice = f"available: {', '.join(plugins.names('transports'))}"
        document.add_mistake(
            ("transport", "kind"), "is missing" if kind is None else f"must be text, not {format_value(kind)}", advice
        )
        return
    config_cls = _config(document, "transports", kind, ("transport", "kind"))
    if config_cls is not None:
        document.read(config_cls, "transport", other_keys=("kind",))


def _check_engines(document: Document) -> None:
    engines = document.get("engines")
    for name, settings in engines.items() if isinstance(engines, Mapping) else ():
        config_cls = _config(document, "engines", name, ("engines", name))
        if config_cls is not None and (settings is None or isinstance(settings, Mapping)):
            document.read(config_cls, "engines", name)


def _check_system(document: Document) -> None:
    system = document.get("system")
    systems = [*plugins.names("systems"), "auto"]
    if system == "auto" and document.get("transport", "kind") != "local":
        document.add_mistake(("system",), "auto requires the transport local", f"available: {', '.join(systems[:-1])}")
    elif isinstance(system, str) and system not in systems:
        document.add_unknown_name(("system",), system, f"no system named {format_value(system)}", systems)
    elif system == "windows" and document.get("transport", "kind") == "local" and sys.platform != "win32":
        document.add_mistake(
            ("system",), f"the transport local is this machine, which does not run {system}", "use auto"
        )


def _check_defaults(document: Document) -> None:
    if not isinstance(document.get("defaults"), Mapping):
        return
    defaults = document.read(defaults_cls(), "defaults")
    engine = defaults.engine if defaults else None
    engines = plugins.names("engines")
    if engine is not None and engine not in engines:
        document.add_unknown_name(("defaults", "engine"), engine, f"no engine named {format_value(engine)}", engines)
        return
    backend = defaults.backend if defaults else None
    backends = plugins.load("engines", engine).backends if engine else engine_options.all_backends()
    if backend is not None and backend not in backends:
        problem = f"{engine} has no backend" if engine else "no engine has a backend"
        document.add_unknown_name(("defaults", "backend"), backend, f"{problem} {format_value(backend)}", backends)


def _config(
    document: Document, group: Literal["transports", "engines"], name: str, key_path: tuple[str, ...]
) -> type | None:
    """A plugin's ``Config``; None, with a mistake added, if it is unavailable."""
    available = plugins.names(group)
    if name not in available:
        document.add_unknown_name(key_path, name, f"no {group[:-1]} named {format_value(name)}", available)
        return None
    try:
        return plugins.load(group, name).Config
    except UsageError as error:
        document.add_mistake(key_path, str(error))
    except (ImportError, AttributeError) as error:
        document.add_mistake(key_path, f"the {group[:-1]} {name} cannot be loaded: {error}")
    return None
