"""Published results for comparison: ``references/NAME.yaml``.

They are searched in the same folders as profiles: the current folder, the user's configuration
folder, the installed package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from edgebench import profiles
from edgebench.core import Option
from edgebench.errors import ProfileError
from edgebench.profiles.documents import Document


@dataclass(frozen=True)
class PublishedResult:
    """One published result, in base units; unpublished values are absent."""

    what: str
    scenario: str
    engine: str = ""
    backend: str = ""
    model: str = ""
    quantization: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """By the metric names of the glossary, and ``s_per_token``."""
    profiles: tuple[str, ...] = ()
    """Names of the device profiles that match its device; empty: the device was not published."""
    options: Mapping[str, Option] = field(default_factory=dict)
    note: str = ""
    repeat: str = ""
    """The command that reproduces this row."""


@dataclass(frozen=True)
class Reference:
    """A publication: its method in words, and its rows."""

    name: str
    title: str
    rows: tuple[PublishedResult, ...]
    method: Mapping[str, str] = field(default_factory=dict)
    otherwise: tuple[str, ...] = ()
    """Methods in which edgebench always differs."""
    problems: tuple[str, ...] = ()
    devices: Mapping[str, str] = field(default_factory=dict)


def names() -> list[str]:
    """Names of all references."""
    return list(profiles.names("references"))


def load(name: str) -> Reference:
    """A reference by its name or file. Raises ``ProfileError`` with all its mistakes."""
    paths = profiles.names("references")
    path = Path(name) if name.endswith(profiles.SUFFIXES) else paths.get(name)
    if path is None or not path.is_file():
        closest = get_close_matches(name, paths, n=1)
        hint = f"Did you mean {closest[0]}?" if closest else f"Available: {', '.join(paths)}."
        raise ProfileError(f"no reference named {name!r}", hint)
    document = Document(path)
    reference = document.read(Reference)
    profiles.check_name(document)
    document.raise_mistakes()
    assert reference is not None  # or raise_mistakes would have raised
    return reference
