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
from edgebench.core import Option, Record
from edgebench.documents import Document
from edgebench.errors import ProfileError


@dataclass(frozen=True)
class Published:
    """One published result, in base units; what wasn't published is absent."""

    what: str
    engine: str
    backend: str
    scenario: str
    model: str
    metrics: Mapping[str, float]
    """By the names of the glossary, and ``s_per_token``."""
    quantization: str = ""
    profiles: tuple[str, ...] = ()
    """Names of the device profiles that stand for its device."""
    options: Mapping[str, Option] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Reference:
    """A publication: its method in words, and its rows."""

    name: str
    title: str
    rows: tuple[Published, ...]
    method: Mapping[str, str] = field(default_factory=dict)
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
        hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(known)}."
        raise ProfileError(f"no reference is called {name!r}", hint)
    document = Document(path)
    reference = document.read(Reference)
    profiles.named(document)
    document.settle()
    assert reference is not None  # or settle would have raised
    return reference


def matches(row: Published, record: Record) -> bool:
    """Whether a record stands for this row: same device, engine and backend."""
    trial = record.trial
    same = trial.engine == row.engine and trial.backend.lower() == row.backend.lower()
    # A speculative row is only ever beside a speculative trial: its rates mean something else.
    return (
        same and trial.device in row.profiles and (trial.scenario == "speculative") == (row.scenario == "speculative")
    )


def differences(row: Published, record: Record) -> list[str]:
    """What is not alike in method, most important first: ``model smollm2, not llama-2-7b-chat``."""
    trial, model = record.trial, record.facts.get("model") or {}
    pairs: list[tuple[str, object, object]] = [("model", trial.model, row.model)]
    if row.quantization:
        pairs.append(("quantization", model.get("quantization"), row.quantization))
    pairs.append(("scenario", trial.scenario, row.scenario))
    pairs += [(name.replace("_", " "), trial.options.get(name), value) for name, value in row.options.items()]
    return [
        f"{name} {'not given' if own is None else own}, not {published}"
        for name, own, published in pairs
        if str(own).lower() != str(published).lower() and not (name == "model" and _same_model(own, published))
    ]


def _same_model(own: object, published: object) -> bool:
    """Profile names carry the quantization at their end: ``llama-2-7b-chat-q4_0``."""
    return str(own).lower().startswith(str(published).lower())


def comparable(row: Published, record: Record) -> bool:
    """Whether a ratio of the two says anything: the same model, quantization and scenario."""
    return not any(text.startswith(("model", "quantization", "scenario")) for text in differences(row, record))
