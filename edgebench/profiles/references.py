"""Published figures, to be put beside one's own: ``references/NAME.yaml``.

They are looked for where profiles are: the current folder, the user's configuration folder, the
installed package.
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
class Published:
    """One published result, in base units; what wasn't published is absent."""

    what: str
    scenario: str
    engine: str = ""
    backend: str = ""
    model: str = ""
    quantization: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """By the names of the glossary, and ``s_per_token``."""
    profiles: tuple[str, ...] = ()
    """Names of the device profiles that stand for its device; none: it was not named."""
    options: Mapping[str, Option] = field(default_factory=dict)
    note: str = ""
    repeat: str = ""
    """The command that measures this row today."""


@dataclass(frozen=True)
class Reference:
    """A publication: its method in words, and its rows."""

    name: str
    title: str
    rows: tuple[Published, ...]
    method: Mapping[str, str] = field(default_factory=dict)
    otherwise: tuple[str, ...] = ()
    """What edgebench always does in another way."""
    problems: tuple[str, ...] = ()
    devices: Mapping[str, str] = field(default_factory=dict)


def names() -> list[str]:
    """The references there are."""
    return list(profiles.names("references"))


def load(name: str) -> Reference:
    """A reference by its name or its file. Raises ``ProfileError`` with every mistake in it."""
    known = profiles.names("references")
    path = Path(name) if name.endswith(profiles.SUFFIXES) else known.get(name)
    if path is None or not path.is_file():
        near = get_close_matches(name, known, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"Available: {', '.join(known)}."
        raise ProfileError(f"no reference named {name!r}", hint)
    document = Document(path)
    reference = document.read(Reference)
    profiles.named(document)
    document.settle()
    assert reference is not None  # or settle would have raised
    return reference
