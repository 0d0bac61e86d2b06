"""MLC-LLM's form of a model: a folder with ``mlc-chat-config.json``, a cache file that lists the
weights' shards with their MD5, the shards and the tokenizer's files.

Form of the cache file: ``{"metadata": {"ParamBytes", "BitsPerParam"}, "records": [{"dataPath",
"nbytes", "md5sum"}]}``. MLC-LLM v0.20 reads ``tensor-cache.json``, older ones ``ndarray-cache.json``;
neither reads the other's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from edgebench.core import Fields, ModelFacts, ModelFile, Progress
from edgebench.errors import ModelError
from edgebench.modelfiles.cache import CHUNK, Cache
from edgebench.modelfiles.catalogue import Hub, Mlc, Model

CONFIG = "mlc-chat-config.json"
READ_BY = {"tensor-cache.json": "v0.20 and later", "ndarray-cache.json": "before v0.20"}
"""The list of weights, and which versions read it."""

CACHES = tuple(READ_BY)

TOKENIZER = "tokenizer.json"

WANTED = (CONFIG, *CACHES, "params_shard_*.bin", "tokenizer*", "vocab.json", "merges.txt", "*tokens*.json")


class Torn(ModelError):
    """A folder of which files are missing or damaged; those that are damaged are named."""

    def __init__(self, message: str, damaged: tuple[str, ...] = ()) -> None:
        super().__init__(message, "Pull the folder again, or remove the file and do so.")
        self.damaged = damaged


def is_folder(path: Path) -> bool:
    """Whether a path is meant as MLC-LLM's form: a folder."""
    try:
        return path.is_dir()
    except OSError:  # a name that no file can have
        return False


def resolve(path: Path, *, name: str = "", id_: str = "", progress: Progress | None = None) -> ModelFile:
    """A folder as a checked model. Raises ``ModelError`` with the file that is missing or damaged.

    Its fact ``id`` is what MLC-LLM calls the model: ``id_``, or the folder's name.
    """
    config, lists, wanted = _read(path)
    _check_there(path, wanted)
    listed = next(iter(lists.values()))
    _check_shards(path, list(_records(path, listed)), progress)
    digest = hashlib.sha256()
    for file, sha256 in files(path):
        digest.update(f"{file.relative_to(path).as_posix()}\0{sha256}\n".encode())
    size = sum(file.stat().st_size for file in wanted)
    facts = replace(_facts(path, config, listed), caches=tuple(sorted(lists)), id=id_ or path.name)
    quantization, architecture = str(config["quantization"]), str(config["model_type"])
    return ModelFile(name or path.name, path, digest.hexdigest(), size, "mlc", quantization, architecture, facts)


def files(path: Path) -> list[tuple[Path, str]]:
    """The files that the engine reads, each with its SHA-256. Raises ``ModelError``."""
    _, _, wanted = _read(path)
    return [(file, Cache().sha256(file)) for file in wanted]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]], list[Path]]:
    """The config, the lists of weights by their names, and every file that is named in them."""
    config = _json(path / CONFIG, f"{path} is not a model for MLC-LLM")
    lists = {cache: _json(path / cache, "") for cache in CACHES if (path / cache).is_file()}
    if not lists:
        raise Torn(f"{path} has no list of its weights: neither {' nor '.join(CACHES)}")
    records = _records(path, next(iter(lists.values())))
    named = [
        CONFIG,
        *lists,
        *(record["dataPath"] for record in records),
        *map(str, config.get("tokenizer_files") or ()),
    ]
    return config, lists, sorted({path / name for name in named})


def tokens(path: Path) -> Iterator[bytes]:
    """The texts of the vocabulary in the order of their ids, from ``tokenizer.json`` in the form of
    Hugging Face's tokenizers; none where the folder has another kind. Raises ``ModelError``."""
    if not (path / TOKENIZER).is_file():
        return
    model = _json(path / TOKENIZER, "").get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocabulary, dict):
        yield from (
            str(text).encode() for text, _ in sorted(vocabulary.items(), key=lambda item: str(item[1]).zfill(9))
        )
    elif isinstance(vocabulary, list):
        yield from (str(entry[0]).encode() for entry in vocabulary if isinstance(entry, list) and entry)


def cached(model: Model) -> Path | None:
    """Where the folder lies on this machine already; None where it must be fetched."""
    form = _form(model)
    if form.path is not None:
        path = model.profile.parent / Path(form.path).expanduser()
        return path if path.is_dir() else None
    from edgebench.modelfiles.sources import in_hub_cache

    assert form.hub is not None
    found = in_hub_cache(Hub(form.hub, CONFIG, form.revision))
    return found.parent if found else None


def pull(model: Model, *, progress: Progress | None = None) -> ModelFile:
    """Have the folder here, every shard checked by its MD5. Raises ``ModelError``."""
    form = _form(model)
    path = cached(model)
    if form.hub is not None:
        path = path or _fetch(form, progress)
    if path is None:
        raise ModelError(f"{model.name}: {form.path}: there is no such folder", f"It is named in {model.profile}.")
    known = {"name": model.name, "id_": form.hub.split("/")[-1] if form.hub else path.name}
    try:
        file = resolve(path, **known, progress=progress)
    except Torn as torn:
        if form.hub is None:
            raise
        file = resolve(_fetch(form, progress, again=torn.damaged), **known, progress=progress)
    if file.quantization != form.quantization:
        raise ModelError(
            f"{model.name}: {path} is {file.quantization}, {model.profile} says {form.quantization}",
            "Correct the profile, or name another repository in it.",
        )
    return file


def verify(model: Model, *, progress: Progress | None = None) -> ModelFile:
    """Read every file again and hold it against its MD5. Raises ``ModelError``."""
    path = cached(model)
    if path is None:
        raise ModelError(f"{model.name} is not on this machine", f"`edgebench models pull {model.name}` fetches it.")
    for file in path.iterdir():
        Cache().forget(file)
    return pull(model, progress=progress)


def _form(model: Model) -> Mlc:
    if model.mlc is None:
        raise ModelError(f"{model.name} has no form for MLC-LLM", "Its profile names none under mlc:.")
    return model.mlc


def _fetch(form: Mlc, progress: Progress | None, again: Sequence[str] = ()) -> Path:
    """Every file of the repository that the engine reads, into the hub's own cache, where what came
    so far is kept; those of ``again`` afresh."""
    from huggingface_hub import HfApi, hf_hub_download

    from edgebench.modelfiles.sources import hub_errors

    assert form.hub is not None
    with hub_errors(Hub(form.hub, CONFIG, form.revision)):
        told = HfApi().model_info(form.hub, revision=form.revision, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in told.siblings or () if _wanted(file.rfilename)}
        done, total = 0, sum(sizes.values())
        # The config comes last: it is what says that the folder is complete.
        for name in sorted(sizes, key=lambda name: (name == CONFIG, name)):
            hf_hub_download(form.hub, name, revision=form.revision, force_download=name in again)
            done += sizes[name]
            if progress:
                progress(done, total)
        return Path(hf_hub_download(form.hub, CONFIG, revision=form.revision)).parent


def _wanted(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in WANTED)


def _json(file: Path, otherwise: str) -> dict[str, Any]:
    hint = "Pull the folder again, or name the folder that mlc_llm convert_weight and gen_config wrote."
    try:
        found = json.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{otherwise}: it has no {file.name}", hint) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read: {error}", hint) from error
    if not isinstance(found, dict):
        raise ModelError(f"{file} holds no object", hint)
    return found


def _records(path: Path, listed: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The shards. Raises ``ModelError`` for a list that isn't one, or names files outside the folder."""
    records = listed.get("records")
    for record in records if isinstance(records, list) else [records]:
        name = record.get("dataPath") if isinstance(record, dict) else None
        outside = isinstance(name, str) and (PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts)
        if not isinstance(record, dict) or not isinstance(name, str) or outside:
            raise ModelError(f"the list of weights in {path} is not understood: {str(record)[:120]}")
        yield record


def _check_there(path: Path, wanted: list[Path]) -> None:
    missing = [file.relative_to(path).as_posix() for file in wanted if not file.is_file()]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise Torn(f"{path} is not whole: {', '.join(missing[:3])}{more} missing")


def _check_shards(path: Path, records: list[dict[str, Any]], progress: Progress | None) -> None:
    """Hold each shard against its size and MD5; one that was sound before and hasn't changed is not
    read again."""
    cache = Cache()
    done, total = 0, sum((path / record["dataPath"]).stat().st_size for record in records)
    for record in records:
        file = path / record["dataPath"]
        size = file.stat().st_size
        if isinstance(record.get("nbytes"), int) and size != record["nbytes"]:
            words = f"{file} is damaged: it has {size} bytes, its list says {record['nbytes']}"
            raise Torn(words, (record["dataPath"],))
        if cache.seen(file) is None and record.get("md5sum") not in (None, md5(file)):
            raise Torn(f"{file} is damaged: its MD5 is not {record['md5sum']}", (record["dataPath"],))
        done += size
        if progress:
            progress(done, total)


def md5(file: Path) -> str:
    """MD5 of a file, hexadecimal: what MLC-LLM's lists hold."""
    digest = hashlib.md5(usedforsecurity=False)
    with file.open("rb") as opened:
        while chunk := opened.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _looked_up(listed: dict[str, Any]) -> int:
    """Bytes of the embedding table where it isn't the output matrix too: of it one row is read."""
    records = [record.get("records") for record in listed["records"]]
    tensors = [tensor for found in records if isinstance(found, list) for tensor in found if isinstance(tensor, dict)]
    if not any("lm_head" in str(tensor.get("name")) for tensor in tensors):
        return 0
    return sum(int(tensor.get("nbytes", 0)) for tensor in tensors if "embed_tokens" in str(tensor.get("name")))


def _facts(path: Path, config: dict[str, Any], listed: dict[str, Any]) -> ModelFacts:
    """What a trial must know, from the config. Raises ``ModelError``."""
    inner = config.get("model_config")
    try:
        if not isinstance(inner, dict):
            raise TypeError("it has no model_config")
        layers, heads = int(inner["num_hidden_layers"]), int(inner["num_attention_heads"])
        width = int(inner.get("head_dim") or int(inner["hidden_size"]) // heads)
        kv_heads = int(inner.get("num_key_value_heads") or heads)
        longest = max(
            int(found)
            for found in (
                inner.get("max_position_embeddings"),
                inner.get("context_window_size"),
                config.get("context_window_size"),
            )
            if found is not None
        )
        # The table of embeddings may be padded beyond the tokens that there are.
        sizes = (config.get("active_vocab_size"), config.get("vocab_size"), inner.get("vocab_size"))
        vocabulary = min(int(found) for found in sizes if found)
        model_type, quantization = config["model_type"], config["quantization"]
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ModelError(f"{path / CONFIG} is not understood: {error}", "Was it made by mlc_llm?") from error
    about = Fields(listed.get("metadata"))
    weights, bits = int(about.number("ParamBytes") or 0), about.number("BitsPerParam")
    return ModelFacts(
        architecture=str(model_type),
        quantization=str(quantization),
        layers=layers,
        vocabulary=vocabulary,
        context_length=longest if longest > 0 else None,
        # Keys and values are held in the type that the model computes in.
        kv_bytes_per_token=2 * layers * kv_heads * width * (4 if "f32" in str(quantization) else 2),
        weights_bytes=weights or None,
        weights_read_bytes=weights - _looked_up(listed) if weights else None,
        parameters=round(weights * 8 / bits) if weights and bits else None,
    )
