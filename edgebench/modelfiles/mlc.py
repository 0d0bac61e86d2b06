"""MLC-LLM's model format: a folder with ``mlc-chat-config.json``, a weight index that lists the
shards with their MD5, the shards and the tokenizer's files.

Format of the weight index: ``{"metadata": {"ParamBytes", "BitsPerParam"}, "records": [{"dataPath",
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
from edgebench.modelfiles.catalogue import Hub, MlcEntry, Model

CONFIG = "mlc-chat-config.json"
INDEX_READERS = {"tensor-cache.json": "v0.20 and later", "ndarray-cache.json": "before v0.20"}
"""The weight indexes, each with the versions of MLC-LLM that read it."""

WEIGHT_INDEXES = tuple(INDEX_READERS)

TOKENIZER = "tokenizer.json"

FILE_PATTERNS = (
    CONFIG,
    *WEIGHT_INDEXES,
    "params_shard_*.bin",
    "tokenizer*",
    "vocab.json",
    "merges.txt",
    "*tokens*.json",
)


class IncompleteFolder(ModelError):
    """A folder with missing or damaged files. ``damaged_files``: paths of the damaged ones, in the folder."""

    def __init__(self, message: str, damaged_files: tuple[str, ...] = ()) -> None:
        super().__init__(message, "Pull the folder again, or remove the file and do so.")
        self.damaged_files = damaged_files


def is_folder(path: Path) -> bool:
    """Whether a path is a folder, which is MLC-LLM's format."""
    try:
        return path.is_dir()
    except OSError:  # not a valid file name
        return False


def resolve(path: Path, *, name: str = "", id_: str = "", progress: Progress | None = None) -> ModelFile:
    """A folder as a verified model. Raises ``ModelError`` with the file that is missing or damaged.

    Its fact ``id`` is the model's name in MLC-LLM: ``id_``, or the folder's name.
    """
    config, indexes, paths = _read(path)
    _check_files_exist(path, paths)
    index = next(iter(indexes.values()))
    _check_shards(path, list(_records(path, index)), progress)
    digest = hashlib.sha256()
    for file, sha256 in files(path):
        digest.update(f"{file.relative_to(path).as_posix()}\0{sha256}\n".encode())
    size = sum(file.stat().st_size for file in paths)
    facts = replace(_facts(path, config, index), caches=tuple(sorted(indexes)), id=id_ or path.name)
    quantization, architecture = str(config["quantization"]), str(config["model_type"])
    return ModelFile(name or path.name, path, digest.hexdigest(), size, "mlc", quantization, architecture, facts)


def files(path: Path) -> list[tuple[Path, str]]:
    """The files that the engine reads, each with its SHA-256. Raises ``ModelError``."""
    _, _, paths = _read(path)
    return [(file, Cache().sha256(file)) for file in paths]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]], list[Path]]:
    """The config, the weight indexes by file name, and every file that they list. Raises ``ModelError``."""
    config = _json(path / CONFIG, f"{path} is not a model for MLC-LLM")
    indexes = {
        index_name: _json(path / index_name, "") for index_name in WEIGHT_INDEXES if (path / index_name).is_file()
    }
    if not indexes:
        raise IncompleteFolder(f"{path} has no weight index ({' or '.join(WEIGHT_INDEXES)})")
    records = _records(path, next(iter(indexes.values())))
    names = [
        CONFIG,
        *indexes,
        *(record["dataPath"] for record in records),
        *map(str, config.get("tokenizer_files") or ()),
    ]
    return config, indexes, sorted({path / name for name in names})


def tokens(path: Path) -> Iterator[bytes]:
    """The texts of the vocabulary in the order of their IDs, from Hugging Face's ``tokenizer.json``;
    empty if the folder has another type of tokenizer. Raises ``ModelError``."""
    if not (path / TOKENIZER).is_file():
        return
    tokenizer_model = _json(path / TOKENIZER, "").get("model")
    vocabulary = tokenizer_model.get("vocab") if isinstance(tokenizer_model, dict) else None
    if isinstance(vocabulary, dict):
        yield from (
            str(text).encode() for text, _ in sorted(vocabulary.items(), key=lambda item: str(item[1]).zfill(9))
        )
    elif isinstance(vocabulary, list):
        yield from (str(entry[0]).encode() for entry in vocabulary if isinstance(entry, list) and entry)


def cached(model: Model) -> Path | None:
    """Path of the folder on this machine; None if it must be downloaded."""
    entry = _entry(model)
    if entry.path is not None:
        path = model.profile.parent / Path(entry.path).expanduser()
        return path if path.is_dir() else None
    from edgebench.modelfiles.sources import in_hub_cache

    assert entry.hub is not None
    config = in_hub_cache(Hub(entry.hub, CONFIG, entry.revision))
    return config.parent if config else None


def pull(model: Model, *, progress: Progress | None = None) -> ModelFile:
    """Download the folder if necessary and verify every shard's MD5. Raises ``ModelError``."""
    entry = _entry(model)
    path = cached(model)
    if entry.hub is not None:
        path = path or _fetch(entry, progress)
    if path is None:
        raise ModelError(f"{model.name}: {entry.path}: there is no such folder", f"It is named in {model.profile}.")
    names = {"name": model.name, "id_": entry.hub.split("/")[-1] if entry.hub else path.name}
    try:
        file = resolve(path, **names, progress=progress)
    except IncompleteFolder as error:
        if entry.hub is None:
            raise
        file = resolve(_fetch(entry, progress, damaged=error.damaged_files), **names, progress=progress)
    if file.quantization != entry.quantization:
        raise ModelError(
            f"{model.name}: {path} is {file.quantization}, {model.profile} says {entry.quantization}",
            "Correct the profile, or name another repository in it.",
        )
    return file


def verify(model: Model, *, progress: Progress | None = None) -> ModelFile:
    """Read every file again and verify its MD5. Raises ``ModelError``."""
    path = cached(model)
    if path is None:
        raise ModelError(f"{model.name} is not on this machine", f"`edgebench models pull {model.name}` fetches it.")
    for file in path.iterdir():
        Cache().forget(file)
    return pull(model, progress=progress)


def _entry(model: Model) -> MlcEntry:
    if model.mlc is None:
        raise ModelError(f"{model.name} has no MLC-LLM format", "Its profile has no mlc: section.")
    return model.mlc


def _fetch(entry: MlcEntry, progress: Progress | None, damaged: Sequence[str] = ()) -> Path:
    """Download the repository's files that the engine reads into the hub's own cache, which resumes partial
    downloads; ``damaged`` ones from the start. Raises ``ModelError``."""
    from huggingface_hub import HfApi, hf_hub_download

    from edgebench.modelfiles.sources import hub_errors

    assert entry.hub is not None
    with hub_errors(Hub(entry.hub, CONFIG, entry.revision)):
        info = HfApi().model_info(entry.hub, revision=entry.revision, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or () if _is_engine_file(file.rfilename)}
        done, total = 0, sum(sizes.values())
        # The config comes last: it marks the folder as complete.
        for name in sorted(sizes, key=lambda name: (name == CONFIG, name)):
            hf_hub_download(entry.hub, name, revision=entry.revision, force_download=name in damaged)
            done += sizes[name]
            if progress:
                progress(done, total)
        return Path(hf_hub_download(entry.hub, CONFIG, revision=entry.revision)).parent


def _is_engine_file(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in FILE_PATTERNS)


def _json(file: Path, problem: str) -> dict[str, Any]:
    hint = "Pull the folder again, or name the folder that mlc_llm convert_weight and gen_config wrote."
    try:
        document = json.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{problem}: it has no {file.name}", hint) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read: {error}", hint) from error
    if not isinstance(document, dict):
        raise ModelError(f"{file} is not a JSON object", hint)
    return document


def _records(path: Path, index: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The shards' entries. Raises ``ModelError`` for a malformed index, or paths outside the folder."""
    records = index.get("records")
    for record in records if isinstance(records, list) else [records]:
        name = record.get("dataPath") if isinstance(record, dict) else None
        is_outside = isinstance(name, str) and (PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts)
        if not isinstance(record, dict) or not isinstance(name, str) or is_outside:
            raise ModelError(f"cannot parse the weight index in {path}: {str(record)[:120]}")
        yield record


def _check_files_exist(path: Path, paths: list[Path]) -> None:
    missing = [file.relative_to(path).as_posix() for file in paths if not file.is_file()]
    if missing:
        rest = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise IncompleteFolder(f"{path} is incomplete: {', '.join(missing[:3])}{rest} missing")


def _check_shards(path: Path, records: list[dict[str, Any]], progress: Progress | None) -> None:
    """Verify the size and MD5 of each shard; a shard that was valid and has not changed is not read again.

    Raises ``IncompleteFolder``."""
    cache = Cache()
    done, total = 0, sum((path / record["dataPath"]).stat().st_size for record in records)
    for record in records:
        file = path / record["dataPath"]
        size = file.stat().st_size
        if isinstance(record.get("nbytes"), int) and size != record["nbytes"]:
            message = f"{file} is damaged: it has {size} bytes, the weight index says {record['nbytes']}"
            raise IncompleteFolder(message, (record["dataPath"],))
        if cache.find_sha256(file) is None and record.get("md5sum") not in (None, md5(file)):
            raise IncompleteFolder(f"{file} is damaged: its MD5 is not {record['md5sum']}", (record["dataPath"],))
        done += size
        if progress:
            progress(done, total)


def md5(file: Path) -> str:
    """MD5 of a file, hexadecimal, as in MLC-LLM's weight indexes."""
    digest = hashlib.md5(usedforsecurity=False)
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _lookup_bytes(index: dict[str, Any]) -> int:
    """Bytes of an embedding table that is not also the output matrix: decoding reads one row of it."""
    tensor_lists = [record.get("records") for record in index["records"]]
    entries = [entry for tensor_list in tensor_lists if isinstance(tensor_list, list) for entry in tensor_list]
    tensors = [entry for entry in entries if isinstance(entry, dict)]
    if not any("lm_head" in str(tensor.get("name")) for tensor in tensors):
        return 0
    return sum(int(tensor.get("nbytes", 0)) for tensor in tensors if "embed_tokens" in str(tensor.get("name")))


def _facts(path: Path, config: dict[str, Any], index: dict[str, Any]) -> ModelFacts:
    """The facts that a trial needs, from the config. Raises ``ModelError``."""
    model_config = config.get("model_config")
    try:
        if not isinstance(model_config, dict):
            raise TypeError("it has no model_config")
        layers, heads = int(model_config["num_hidden_layers"]), int(model_config["num_attention_heads"])
        width = int(model_config.get("head_dim") or int(model_config["hidden_size"]) // heads)
        kv_heads = int(model_config.get("num_key_value_heads") or heads)
        max_context = max(
            int(value)
            for value in (
                model_config.get("max_position_embeddings"),
                model_config.get("context_window_size"),
                config.get("context_window_size"),
            )
            if value is not None
        )
        # The embedding table may be padded beyond the number of tokens.
        sizes = (config.get("active_vocab_size"), config.get("vocab_size"), model_config.get("vocab_size"))
        vocabulary = min(int(value) for value in sizes if value)
        model_type, quantization = config["model_type"], config["quantization"]
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ModelError(f"{path / CONFIG} is invalid: {error}", "Was it written by mlc_llm?") from error
    metadata = Fields(index.get("metadata"))
    weights, bits = int(metadata.number("ParamBytes") or 0), metadata.number("BitsPerParam")
    return ModelFacts(
        architecture=str(model_type),
        quantization=str(quantization),
        layers=layers,
        vocabulary=vocabulary,
        context_length=max_context if max_context > 0 else None,
        # Keys and values are stored in the model's compute type.
        kv_bytes_per_token=2 * layers * kv_heads * width * (4 if "f32" in str(quantization) else 2),
        weights_bytes=weights or None,
        weights_read_bytes=weights - _lookup_bytes(index) if weights else None,
        parameters=round(weights * 8 / bits) if weights and bits else None,
    )
