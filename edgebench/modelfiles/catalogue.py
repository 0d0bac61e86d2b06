"""Model profiles: parses ``models/NAME.yaml`` into a ``Model``, or reports every mistake in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgebench import profiles
from edgebench.profiles.documents import Document, format_value

FloatType = Literal["F16", "F32", "BF16"]


@dataclass(frozen=True)
class Hub:
    """A file on the Hugging Face hub."""

    repo: str
    file: str
    revision: str = "main"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", self.repo):
            raise ValueError(f"repo must be OWNER/NAME, not {format_value(self.repo)}")


@dataclass(frozen=True)
class Url:
    """A file on the web."""

    url: str

    def __post_init__(self) -> None:
        if not re.match(r"https?://[^/]", self.url):
            raise ValueError(f"url must begin with https://, not be {format_value(self.url)}")


@dataclass(frozen=True)
class Package:
    """A file inside a Python package: of the installed one, or of its wheel."""

    name: str
    file: str
    version: str


@dataclass(frozen=True)
class Local:
    """A file on this machine; relative to the profile's folder."""

    path: str


@dataclass(frozen=True)
class Requantize:
    """Another model's weights in a floating-point type."""

    model: str
    type: FloatType


Source = Hub | Url | Package | Local | Requantize

SOURCES: Mapping[str, type] = {"hub": Hub, "url": Url, "package": Package, "path": Local, "requantize": Requantize}
PLAIN = ("url", "path")
"""Sources that are a single text, not a mapping."""


@dataclass(frozen=True)
class GgufEntry:
    """A profile's ``gguf:`` section, without its source."""

    quantization: str
    """As llama.cpp names it: ``Q4_0``, ``Q4_K_M``, ``F16`` …"""
    sha256: str | None = None

    def __post_init__(self) -> None:
        if self.sha256 is not None and not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ValueError("sha256 must be 64 hexadecimal digits in lower case")


@dataclass(frozen=True)
class MlcEntry:
    """A profile's ``mlc:`` section: a folder of weights on the hub, or on this machine."""

    quantization: str
    """As MLC names it: ``q4f16_1`` …; never the same as a GGUF quantization."""
    hub: str | None = None
    revision: str = "main"
    path: str | None = None

    def __post_init__(self) -> None:
        if (self.hub is None) == (self.path is None):
            raise ValueError("give one of hub and path")


@dataclass(frozen=True)
class ModelProfile:
    """The top level of a model profile."""

    name: str
    gguf: Mapping[str, object] | None = None
    mlc: Mapping[str, object] | None = None
    description: str = ""
    license: str = ""


@dataclass(frozen=True)
class Model:
    """A model that can be downloaded: the same weights in one format or in two."""

    name: str
    gguf: GgufEntry | None
    source: Source | None
    """Source of the GGUF file."""
    mlc: MlcEntry | None
    description: str
    license: str
    profile: Path


def load(name_or_path: str) -> Model:
    """A model by its profile's name or path. Raises ``ProfileError`` with every mistake in it."""
    document = Document(profiles.locate("models", name_or_path))
    entry = document.read(ModelProfile)
    profiles.check_name(document)
    gguf, source, mlc = None, None, None
    if isinstance(document.get("gguf"), Mapping):
        gguf = document.read(GgufEntry, "gguf", other_keys=tuple(SOURCES))
        source = _source(document)
    if isinstance(document.get("mlc"), Mapping):
        mlc = document.read(MlcEntry, "mlc")
    if entry and entry.gguf is None and entry.mlc is None:
        document.add_mistake((), "has neither gguf nor mlc", "say where the model comes from")
    document.raise_mistakes()
    assert entry is not None  # or settle would have raised
    return Model(entry.name, gguf, source, mlc, entry.description, entry.license, document.path)


def _check_base(document: Document, name: str) -> None:
    """Report a mistake unless the base of a requantized model exists and is not requantized itself."""
    location, available = ("gguf", "requantize", "model"), profiles.names("models")
    if name not in available:
        document.add_unknown_name(location, name, f"no model named {format_value(name)}", available)
    elif Document(available[name]).get("gguf", "requantize") is not None:
        document.add_mistake(location, f"{name} is made from another model itself", "name that one")


def _source(document: Document) -> Source | None:
    gguf = document.get("gguf")
    names = [name for name in SOURCES if isinstance(gguf, Mapping) and name in gguf]
    if len(names) != 1:
        problem = f"has {len(names)} sources" if names else "has no source"
        document.add_mistake(("gguf", *names[1:2]), problem, f"give one of {', '.join(SOURCES)}")
        return None
    (name,) = names
    if name not in PLAIN:
        source: Source | None = document.read(SOURCES[name], "gguf", name)
        if isinstance(source, Requantize):
            _check_base(document, source.model)
        return source
    value = document.get("gguf", name)
    if not isinstance(value, str):
        document.add_mistake(("gguf", name), f"must be text, not {format_value(value)}")
        return None
    try:
        return Local(value) if name == "path" else Url(value)
    except ValueError as error:
        document.add_mistake(("gguf", name), str(error))
        return None
