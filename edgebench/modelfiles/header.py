"""What a GGUF model says of itself, as facts: nothing here depends on where it came from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from edgebench.core import ModelFacts
from edgebench.errors import ModelError
from edgebench.modelfiles import gguf_file
from edgebench.modelfiles.gguf_file import Header, Skipped

F16_BYTES = 2


def header(path: Path | str) -> ModelFacts:
    """What a GGUF file says of its model.

    Raises ``ModelError`` for a file that is no GGUF, is damaged, or is not a language model.
    """
    path = Path(path)
    read = gguf_file.read(path)
    _refuse_others(path, read)
    architecture = _text(read, "general.architecture")
    kv_bytes = kv_bytes_per_token(read.fields, architecture)
    return ModelFacts(
        architecture=architecture,
        quantization=quantization(read),
        layers=_whole(read, f"{architecture}.block_count"),
        context_length=_whole(read, f"{architecture}.context_length"),
        vocabulary=_length(read.fields.get("tokenizer.ggml.tokens")) or _whole(read, f"{architecture}.vocab_size"),
        tokenizer=_text(read, "tokenizer.ggml.model") or None,
        tokenizer_pre=_text(read, "tokenizer.ggml.pre") or None,
        bos_id=_whole(read, "tokenizer.ggml.bos_token_id"),
        eos_id=_whole(read, "tokenizer.ggml.eos_token_id"),
        add_bos=_yes_or_no(read, "tokenizer.ggml.add_bos_token"),
        add_eos=_yes_or_no(read, "tokenizer.ggml.add_eos_token"),
        chat_template=bool(read.fields.get("tokenizer.chat_template")),
        recurrent=_is_recurrent(read.fields, architecture),
        sliding_window=_whole(read, f"{architecture}.attention.sliding_window") or None,
        parameters=sum(tensor.elements for tensor in read.tensors),
        weights_bytes=sum(tensor.size for tensor in read.tensors),
        weights_read_bytes=weights_read(read, architecture),
        kv_bytes_per_token=kv_bytes,
        embedding=_whole(read, f"{architecture}.embedding_length"),
        tensor_types=dict(_bytes_by_type(read).most_common()),
        experts=_whole(read, f"{architecture}.expert_count") or None,
        experts_used=_whole(read, f"{architecture}.expert_used_count") or None,
        title=_text(read, "general.name") or None,
        license=_text(read, "general.license") or None,
    )


def tokens(path: Path) -> list[bytes]:
    """The text of every token of the vocabulary, by id. Raises ``ModelError``."""
    key = "tokenizer.ggml.tokens"
    found = gguf_file.read(path, keep=[key]).fields.get(key)
    if not isinstance(found, list) or not all(isinstance(token, bytes) for token in found):
        raise ModelError(f"{path} holds no vocabulary")
    return found


def quantization(read: Header) -> str:
    """The name the field uses, such as ``Q4_K_M``: as the file declares it where that agrees with
    the tensors, else the type that most bytes of the matrices have."""
    from gguf.constants import LlamaFileType

    matrices = _bytes_by_type(read)
    most = matrices.most_common(1)[0][0]
    declared = _whole(read, "general.file_type")
    if declared is None:
        return most
    try:
        name = LlamaFileType(declared).name.removeprefix("MOSTLY_").removeprefix("ALL_")
    except ValueError:
        return most
    # Q4_K_M is made of Q4_K and Q6_K tensors; MXFP4_MOE of MXFP4 ones.
    base = next((kind for kind in matrices if name == kind or name.startswith(f"{kind}_")), None)
    return name if base else most


def weights_read(read: Header, architecture: str) -> int:
    """Bytes of weights that generating one token reads.

    Of the token embedding one row, unless the output layer is the same matrix; of a mixture of
    experts the share of those that are used.
    """
    used, experts = (_whole(read, f"{architecture}.expert_{part}count") for part in ("used_", ""))
    share = used / experts if used and experts else 1.0
    tied = all(tensor.name != "output.weight" for tensor in read.tensors)
    total = 0.0
    for tensor in read.tensors:
        if tensor.name == "token_embd.weight" and not tied:
            continue
        total += tensor.size * (share if "_exps." in tensor.name else 1.0)
    return round(total)


def kv_bytes_per_token(fields: Mapping[str, object], architecture: str) -> int | None:
    """Bytes of KV cache that one token takes at F16, over all layers that have one.

    Per layer (heads of K × length of K + heads of V × length of V) × 2 bytes, as llama.cpp's
    ``n_embd_k_gqa + n_embd_v_gqa``. None where the header doesn't say enough. A model with a
    sliding window keeps less than this for the tokens outside it.
    """

    def field(name: str) -> object:
        return fields.get(f"{architecture}.{name}")

    layers, heads = field("block_count"), field("attention.head_count")
    if not isinstance(layers, int) or not 0 < layers <= gguf_file.KEPT_ITEMS or heads is None:
        return None
    heads_kv = field("attention.head_count_kv")
    per_layer = _per_layer(heads if heads_kv is None else heads_kv, layers)
    query_heads = _per_layer(heads, layers)
    if per_layer is None or query_heads is None:
        return None
    embedding, most_heads = field("embedding_length"), max(query_heads)
    usual = embedding // most_heads if isinstance(embedding, int) and most_heads else None
    windowed = _per_layer(field("attention.sliding_window_pattern"), layers) or [0] * layers
    interval = field("full_attention_interval")
    without = 0
    for name in ("attention.shared_kv_layers", "nextn_predict_layers"):
        count = field(name) or 0
        if not isinstance(count, int) or not 0 <= count <= layers:
            return None
        without += count
    total = 0
    for layer in range(layers - without):
        if per_layer[layer] == 0 or (isinstance(interval, int) and interval and (layer + 1) % interval):
            continue
        suffix = "_swa" if windowed[layer] else ""
        for part in ("key_length", "value_length"):
            length = field(f"attention.{part}{suffix}") or field(f"attention.{part}") or usual
            if not isinstance(length, int):
                return None
            total += per_layer[layer] * length * F16_BYTES
    return total


def _per_layer(value: object, layers: int) -> list[int] | None:
    """One number a layer: a single one holds for all."""
    if isinstance(value, int) and not isinstance(value, Skipped):
        return [value] * layers
    if isinstance(value, list) and len(value) >= layers and all(isinstance(item, int) for item in value):
        return value[:layers]
    return None


def _is_recurrent(fields: Mapping[str, object], architecture: str) -> bool:
    """Whether some of its layers keep a state instead of (or beside) a KV cache."""
    marks = tuple(f"{architecture}.{part}" for part in ("ssm.", "wkv.", "kda.", "shortconv."))
    return any(name.startswith(marks) for name in fields)


def _bytes_by_type(read: Header) -> Counter[str]:
    """Bytes of the matrices by tensor type; of all tensors where there is no matrix."""
    matrices: Counter[str] = Counter()
    for tensor in read.tensors:
        if sum(length > 1 for length in tensor.shape) > 1:
            matrices[tensor.type] += tensor.size
    return matrices or Counter({tensor.type: tensor.size for tensor in read.tensors})


def _refuse_others(path: Path, read: Header) -> None:
    kind, architecture = read.fields.get("general.type", "model"), read.fields.get("general.architecture")
    if kind == "adapter":
        raise ModelError(f"{path} is a LoRA adapter, not a model")
    if kind in ("mmproj", "imatrix") or architecture == "clip":
        what = "an importance matrix" if kind == "imatrix" else "the projector of a multimodal model"
        raise ModelError(f"{path} is {what}, not a language model")
    if not isinstance(architecture, str) or not architecture:
        raise ModelError(f"{path} does not say its architecture", "It is damaged or was made by a broken converter.")
    parts = read.fields.get("split.count", 0)
    if isinstance(parts, int) and parts > 1:
        raise ModelError(
            f"{path} is one of {parts} parts of a model",
            "Join them with `llama-gguf-split --merge FIRST_PART OUTPUT.gguf` and name the result.",
        )
    if not read.tensors:
        raise ModelError(f"{path} holds no weights (a vocabulary only)")


def _text(read: Header, key: str) -> str:
    value = read.fields.get(key)
    return value if isinstance(value, str) else ""


def _whole(read: Header, key: str) -> int | None:
    value = read.fields.get(key)
    if isinstance(value, list) and value and all(isinstance(item, int) for item in value):
        return max(int(item) for item in value)
    return value if isinstance(value, int) and not isinstance(value, bool | Skipped) else None


def _yes_or_no(read: Header, key: str) -> bool | None:
    value = read.fields.get(key)
    return value if isinstance(value, bool) else None


def _length(value: object) -> int | None:
    if isinstance(value, Skipped):
        return int(value)
    return len(value) if isinstance(value, list) else None
