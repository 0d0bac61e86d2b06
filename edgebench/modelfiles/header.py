"""The facts in a GGUF file's header."""

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
    """The facts in a GGUF file's header.

    Raises ``ModelError`` for a file that is not GGUF, is damaged, or is not a language model.
    """
    path = Path(path)
    parsed = gguf_file.read(path)
    _check_language_model(path, parsed)
    architecture = _text(parsed, "general.architecture")
    kv_bytes = kv_bytes_per_token(parsed.fields, architecture)
    return ModelFacts(
        architecture=architecture,
        quantization=quantization(parsed),
        layers=_integer(parsed, f"{architecture}.block_count"),
        context_length=_integer(parsed, f"{architecture}.context_length"),
        vocabulary=_length(parsed.fields.get("tokenizer.ggml.tokens"))
        or _integer(parsed, f"{architecture}.vocab_size"),
        tokenizer=_text(parsed, "tokenizer.ggml.model") or None,
        tokenizer_pre=_text(parsed, "tokenizer.ggml.pre") or None,
        bos_id=_integer(parsed, "tokenizer.ggml.bos_token_id"),
        eos_id=_integer(parsed, "tokenizer.ggml.eos_token_id"),
        add_bos=_boolean(parsed, "tokenizer.ggml.add_bos_token"),
        add_eos=_boolean(parsed, "tokenizer.ggml.add_eos_token"),
        chat_template=bool(parsed.fields.get("tokenizer.chat_template")),
        recurrent=_is_recurrent(parsed.fields, architecture),
        sliding_window=_integer(parsed, f"{architecture}.attention.sliding_window") or None,
        parameters=sum(tensor.elements for tensor in parsed.tensors),
        weights_bytes=sum(tensor.size for tensor in parsed.tensors),
        weights_read_bytes=weights_read(parsed, architecture),
        kv_bytes_per_token=kv_bytes,
        embedding=_integer(parsed, f"{architecture}.embedding_length"),
        tensor_types=dict(_bytes_by_type(parsed).most_common()),
        experts=_integer(parsed, f"{architecture}.expert_count") or None,
        experts_used=_integer(parsed, f"{architecture}.expert_used_count") or None,
        title=_text(parsed, "general.name") or None,
        license=_text(parsed, "general.license") or None,
    )


def tokens(path: Path) -> list[bytes]:
    """The text of every token of the vocabulary, by ID. Raises ``ModelError``."""
    key = "tokenizer.ggml.tokens"
    vocabulary = gguf_file.read(path, keep=[key]).fields.get(key)
    if not isinstance(vocabulary, list) or not all(isinstance(token, bytes) for token in vocabulary):
        raise ModelError(f"{path} holds no vocabulary")
    return vocabulary


def quantization(parsed: Header) -> str:
    """The quantization's usual name, such as ``Q4_K_M``: the declared file type if it agrees with the
    tensors, else the type of most bytes of the matrices."""
    from gguf.constants import LlamaFileType

    matrices = _bytes_by_type(parsed)
    dominant = matrices.most_common(1)[0][0]
    file_type = _integer(parsed, "general.file_type")
    if file_type is None:
        return dominant
    try:
        name = LlamaFileType(file_type).name.removeprefix("MOSTLY_").removeprefix("ALL_")
    except ValueError:
        return dominant
    # Q4_K_M is made of Q4_K and Q6_K tensors; MXFP4_MOE of MXFP4 ones.
    main_type = next(
        (tensor_type for tensor_type in matrices if name == tensor_type or name.startswith(f"{tensor_type}_")), None
    )
    return name if main_type else dominant


def weights_read(parsed: Header, architecture: str) -> int:
    """Bytes of weights that generating one token reads.

    Counts one row of the token embedding, unless the output layer is the same matrix; and of a mixture
    of experts the share of those that are used per token.
    """
    experts_used, experts = (_integer(parsed, f"{architecture}.expert_{prefix}count") for prefix in ("used_", ""))
    share = experts_used / experts if experts_used and experts else 1.0
    tied = all(tensor.name != "output.weight" for tensor in parsed.tensors)
    total = 0.0
    for tensor in parsed.tensors:
        if tensor.name == "token_embd.weight" and not tied:
            continue
        total += tensor.size * (share if "_exps." in tensor.name else 1.0)
    return round(total)


def kv_bytes_per_token(fields: Mapping[str, object], architecture: str) -> int | None:
    """Bytes of KV cache that one token takes at F16, over all layers that have one.

    Per layer (heads of K × length of K + heads of V × length of V) × 2 bytes, as llama.cpp's
    ``n_embd_k_gqa + n_embd_v_gqa``. None if the header lacks the fields. A model with a
    sliding window keeps less than this for the tokens outside it.
    """

    def field(name: str) -> object:
        return fields.get(f"{architecture}.{name}")

    layers, heads = field("block_count"), field("attention.head_count")
    if not isinstance(layers, int) or not 0 < layers <= gguf_file.MAX_KEPT_ITEMS or heads is None:
        return None
    heads_kv = field("attention.head_count_kv")
    per_layer = _per_layer(heads if heads_kv is None else heads_kv, layers)
    query_heads = _per_layer(heads, layers)
    if per_layer is None or query_heads is None:
        return None
    embedding, most_heads = field("embedding_length"), max(query_heads)
    default_length = embedding // most_heads if isinstance(embedding, int) and most_heads else None
    window_pattern = _per_layer(field("attention.sliding_window_pattern"), layers) or [0] * layers
    interval = field("full_attention_interval")
    layers_without = 0
    for name in ("attention.shared_kv_layers", "nextn_predict_layers"):
        count = field(name) or 0
        if not isinstance(count, int) or not 0 <= count <= layers:
            return None
        layers_without += count
    total = 0
    for layer in range(layers - layers_without):
        if per_layer[layer] == 0 or (isinstance(interval, int) and interval and (layer + 1) % interval):
            continue
        suffix = "_swa" if window_pattern[layer] else ""
        for field_name in ("key_length", "value_length"):
            length = field(f"attention.{field_name}{suffix}") or field(f"attention.{field_name}") or default_length
            if not isinstance(length, int):
                return None
            total += per_layer[layer] * length * F16_BYTES
    return total


def _per_layer(value: object, layers: int) -> list[int] | None:
    """One number per layer; a single number applies to all."""
    if isinstance(value, int) and not isinstance(value, Skipped):
        return [value] * layers
    if isinstance(value, list) and len(value) >= layers and all(isinstance(item, int) for item in value):
        return value[:layers]
    return None


def _is_recurrent(fields: Mapping[str, object], architecture: str) -> bool:
    """Whether some of its layers keep a state instead of (or in addition to) a KV cache."""
    prefixes = tuple(f"{architecture}.{part}" for part in ("ssm.", "wkv.", "kda.", "shortconv."))
    return any(name.startswith(prefixes) for name in fields)


def _bytes_by_type(parsed: Header) -> Counter[str]:
    """Bytes of the matrices by tensor type; of all tensors if there is no matrix."""
    matrices: Counter[str] = Counter()
    for tensor in parsed.tensors:
        if sum(length > 1 for length in tensor.shape) > 1:
            matrices[tensor.type] += tensor.size
    return matrices or Counter({tensor.type: tensor.size for tensor in parsed.tensors})


def _check_language_model(path: Path, parsed: Header) -> None:
    general_type, architecture = parsed.fields.get("general.type", "model"), parsed.fields.get("general.architecture")
    if general_type == "adapter":
        raise ModelError(f"{path} is a LoRA adapter, not a model")
    if general_type in ("mmproj", "imatrix") or architecture == "clip":
        description = "an importance matrix" if general_type == "imatrix" else "the projector of a multimodal model"
        raise ModelError(f"{path} is {description}, not a language model")
    if not isinstance(architecture, str) or not architecture:
        raise ModelError(f"{path} has no architecture", "It is damaged or was written by a broken converter.")
    parts = parsed.fields.get("split.count", 0)
    if isinstance(parts, int) and parts > 1:
        raise ModelError(
            f"{path} is one of {parts} parts of a model",
            "Join them with `llama-gguf-split --merge FIRST_PART OUTPUT.gguf` and name the result.",
        )
    if not parsed.tensors:
        raise ModelError(f"{path} holds no weights (a vocabulary only)")


def _text(parsed: Header, key: str) -> str:
    value = parsed.fields.get(key)
    return value if isinstance(value, str) else ""


def _integer(parsed: Header, key: str) -> int | None:
    value = parsed.fields.get(key)
    if isinstance(value, list) and value and all(isinstance(item, int) for item in value):
        return max(int(item) for item in value)
    return value if isinstance(value, int) and not isinstance(value, bool | Skipped) else None


def _boolean(parsed: Header, key: str) -> bool | None:
    value = parsed.fields.get(key)
    return value if isinstance(value, bool) else None


def _length(value: object) -> int | None:
    if isinstance(value, Skipped):
        return int(value)
    return len(value) if isinstance(value, list) else None
