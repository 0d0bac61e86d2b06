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


OWN_FIGURES = frozenset({"speculative", "kvcache", "decoding"})
"""Scenarios whose rates mean something of their own: only ever beside their like."""


def matches(row: Published, record: Record) -> bool:
    """Whether a record stands for this row: same device, engine and backend, as far as they were named."""
    trial = record.trial
    named = (
        (row.profiles, trial.device in row.profiles),
        (row.engine, trial.engine == row.engine),
        (row.backend, trial.backend.lower() == row.backend.lower()),
        ({trial.scenario, row.scenario} & OWN_FIGURES, trial.scenario == row.scenario),
        # One strategy is no other, and the target alone is no draft.
        ("strategy" in row.options, trial.options.get("strategy") == row.options.get("strategy")),
        ("k" in row.options, bool(trial.options.get("k")) == bool(row.options.get("k"))),
    )
    return all(same for published, same in named if published)


def differences(row: Published, record: Record) -> list[str]:
    """What is not alike in method, most important first: ``model smollm2, not llama-2-7b-chat``."""
    trial, model = record.trial, record.facts.get("model") or {}
    pairs: list[tuple[str, object, object]] = [("model", trial.model, row.model)]
    pairs.append(("quantization", model.get("quantization"), row.quantization))
    pairs.append(("scenario", trial.scenario, row.scenario))
    pairs += [(name.replace("_", " "), trial.options.get(name), value) for name, value in row.options.items()]
    found = [] if row.profiles else [f"device {trial.device}, theirs was not named"]
    return found + [
        f"{name} {'not given' if own is None else own}, not {published}"
        for name, own, published in pairs
        if published != "" and not _same(name, str(own).lower(), str(published).lower())
    ]


def _same(name: str, own: str, published: str) -> bool:
    """Profile names carry the quantization at their end: ``llama-2-7b-chat-q4_0``."""
    return own == published or (name in ("model", "draft") and own.startswith(f"{published}-"))


def comparable(row: Published, record: Record) -> bool:
    """Whether a ratio of the two says anything: the same device, model, quantization and scenario."""
    return not any(
        text.startswith(("device", "model", "quantization", "scenario")) for text in differences(row, record)
    )
