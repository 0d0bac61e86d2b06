"""Tiny GGUF models with random weights, for what does not depend on what a model knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, TokenType, quantize

LETTERS = [*"abcdefghijklmnopqrstuvwxyz ", *"äö€"]

TEMPLATE = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant:"


def tiny(
    path: Path,
    *,
    seed: int = 0,
    layers: int = 2,
    width: int = 32,
    heads: int = 2,
    heads_kv: int | Sequence[int] | None = None,
    context: int = 512,
    pieces: Sequence[str] = LETTERS,
    add_bos: bool = True,
    kind: str = "F32",
    template: str | None = None,
    letters_only: bool = False,
    extra: Mapping[str, int] | None = None,
) -> Path:
    """A llama with random weights and a vocabulary of letters and bytes; the same for the same seed.

    ``kind`` is the type of its matrices; ``heads_kv`` may differ from layer to layer; ``extra`` are
    further keys with whole numbers. ``letters_only``: it never says a lone byte, at which some servers
    take offence.
    """
    rng = np.random.default_rng(seed)
    inner, number = 2 * width, GGMLQuantizationType[kind]
    of_layer = [heads if heads_kv is None else heads_kv] * layers if not isinstance(heads_kv, Sequence) else heads_kv
    writer = GGUFWriter(path, "llama")
    writer.add_name(f"tiny-{seed}")
    writer.add_file_type(LlamaFileType[f"{'ALL' if kind == 'F32' else 'MOSTLY'}_{kind}"])
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(of_layer[0] if len(set(of_layer)) == 1 else of_layer)
    writer.add_rope_dimension_count(width // heads)
    writer.add_layer_norm_rms_eps(1e-5)

    vocabulary, spoken = words(writer, pieces, add_bos)
    if template is not None:
        writer.add_chat_template(template)
    for key, value in (extra or {}).items():
        writer.add_uint32(key, value)

    def matrix(name: str, rows: int, columns: int, scale: float = 1.0) -> None:
        weights = (rng.normal(0, scale / np.sqrt(columns), (rows, columns))).astype(np.float32)
        if letters_only and name == "output.weight":
            weights[: vocabulary - spoken] = 0
        writer.add_tensor(name, weights if kind == "F32" else quantize(weights, number), raw_dtype=number)

    matrix("token_embd.weight", vocabulary, width, 8)
    matrix("output.weight", vocabulary, width, 4)
    writer.add_tensor("output_norm.weight", np.ones(width, np.float32))
    for layer in range(layers):
        block = f"blk.{layer}"
        cached = of_layer[layer] * width // heads
        for part, rows in (("attn_q", width), ("attn_k", cached), ("attn_v", cached), ("attn_output", width)):
            if rows:
                matrix(f"{block}.{part}.weight", rows, width, 3)
        matrix(f"{block}.ffn_gate.weight", inner, width, 2)
        matrix(f"{block}.ffn_up.weight", inner, width, 2)
        matrix(f"{block}.ffn_down.weight", width, inner, 2)
        for part in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{block}.{part}.weight", np.ones(width, np.float32))
    return written(writer, path)


def words(writer: GGUFWriter, pieces: Sequence[str], add_bos: bool = True) -> tuple[int, int]:
    """Give it a tokenizer: three special tokens, all bytes, and these pieces; how many in all, and how many pieces."""
    special = [("<unk>", TokenType.UNKNOWN), ("<s>", TokenType.CONTROL), ("</s>", TokenType.CONTROL)]
    of_bytes = [(f"<0x{byte:02X}>", TokenType.BYTE) for byte in range(256)]
    vocabulary = [*special, *of_bytes, *((piece.replace(" ", "▁"), TokenType.NORMAL) for piece in pieces)]
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text for text, _ in vocabulary])
    writer.add_token_scores([-float(i) for i in range(len(vocabulary))])
    writer.add_token_types([kind for _, kind in vocabulary])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(add_bos)
    return len(vocabulary), len(pieces)


def written(writer: GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tiny_state(path: Path, *, seed: int = 0, layers: int = 2, width: int = 32, context: int = 512) -> Path:
    """A Mamba with random weights and the same vocabulary: a model with a state in place of a KV cache."""
    rng = np.random.default_rng(seed)
    inner, state, rank, window = 2 * width, 16, 4, 4
    writer = GGUFWriter(path, "mamba")
    writer.add_name(f"tiny-state-{seed}")
    writer.add_file_type(LlamaFileType.ALL_F32)
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_ssm_conv_kernel(window)
    writer.add_ssm_inner_size(inner)
    writer.add_ssm_state_size(state)
    writer.add_ssm_time_step_rank(rank)
    vocabulary, _ = words(writer, LETTERS)

    def random(name: str, *shape: int, scale: float = 1.0) -> None:
        writer.add_tensor(name, rng.normal(0, scale / np.sqrt(shape[-1]), shape).astype(np.float32))

    random("token_embd.weight", vocabulary, width, scale=8)
    random("output.weight", vocabulary, width, scale=4)
    writer.add_tensor("output_norm.weight", np.ones(width, np.float32))
    for layer in range(layers):
        block = f"blk.{layer}"
        writer.add_tensor(f"{block}.attn_norm.weight", np.ones(width, np.float32))
        random(f"{block}.ssm_in.weight", 2 * inner, width, scale=3)
        random(f"{block}.ssm_conv1d.weight", inner, window)
        random(f"{block}.ssm_conv1d.bias", inner)
        random(f"{block}.ssm_x.weight", rank + 2 * state, inner, scale=3)
        random(f"{block}.ssm_dt.weight", inner, rank)
        random(f"{block}.ssm_dt.bias", inner)
        writer.add_tensor(f"{block}.ssm_a", -rng.uniform(0.1, 1, (inner, state)).astype(np.float32))
        writer.add_tensor(f"{block}.ssm_d", np.ones(inner, np.float32))
        random(f"{block}.ssm_out.weight", width, inner, scale=2)
    return written(writer, path)
