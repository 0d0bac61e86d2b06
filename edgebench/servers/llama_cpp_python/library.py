"""libllama by llama-cpp-python's low-level bindings: a model with its context, and its text."""

from __future__ import annotations

import argparse
import ctypes
import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from .sampling import Vector


def log(text: str) -> None:
    """Write a line to standard error."""
    print(text, file=sys.stderr, flush=True)


class LlamaError(Exception):
    """An error of libllama."""


CHATML = (
    "{%- for message in messages -%}{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' -}}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)


class Llama:
    """A model and its context: a ``Decoder`` and a ``BeamDecoder``. Not for two threads at once."""

    def __init__(self, lib: Any, path: str, options: argparse.Namespace, layers: str) -> None:
        self.lib, self.path, self.options = lib, path, options
        self.on_cpu = layers == "0"
        params = lib.llama_model_default_params()
        if layers != "auto":
            params.n_gpu_layers = 999 if layers == "all" else int(layers)
        if hasattr(params, "use_extra_bufts"):
            params.use_extra_bufts = options.repack
        self.model = lib.llama_model_load_from_file(os.fsencode(path), params)
        if not self.model:
            raise LlamaError(f"failed to load model {path!r}")
        self.vocab = lib.llama_model_get_vocab(self.model)
        self.n_vocab = int(lib.llama_vocab_n_tokens(self.vocab))
        self.eog = [token for token in range(self.n_vocab) if lib.llama_vocab_is_eog(self.vocab, token)]
        self.context: Any = None
        self.sequences = 0
        self.tokens: list[int] = []
        self.open(1)
        if options.warmup:
            self.warm_up()

    def open(self, sequences: int) -> None:
        """Make a context for so many texts at once, unless it is already so."""
        if sequences == self.sequences:
            return
        self.close_context()
        lib, options = self.lib, self.options
        params = lib.llama_context_default_params()
        params.n_ctx = options.ctx_size
        params.n_batch, params.n_ubatch = options.batch_size, options.ubatch_size
        params.n_threads, params.n_threads_batch = options.threads, options.threads_batch or options.threads
        params.n_seq_max = sequences
        settings: dict[str, bool] = {"kv_unified": True} if sequences > 1 else {}
        if self.on_cpu:
            # A GPU build would otherwise compute long prompts there, whatever the layers.
            settings |= {"offload_kqv": False, "op_offload": False}
        for name, value in settings.items():
            if hasattr(params, name):
                setattr(params, name, value)
        self.context = lib.llama_init_from_model(self.model, params)
        if not self.context:
            raise LlamaError(f"failed to create a context of {options.ctx_size} tokens for {self.path!r}")
        self.sequences = sequences
        self.memory = lib.llama_get_memory(self.context)
        self.n_ctx = int(lib.llama_n_ctx(self.context))
        self.n_batch = int(lib.llama_n_batch(self.context))
        self.batch = lib.llama_batch_init(self.n_batch, 0, 1)
        self.tokens = []

    def close_context(self) -> None:
        if self.context:
            self.lib.llama_batch_free(self.batch)
            self.lib.llama_free(self.context)
            self.context, self.sequences = None, 0

    def close(self) -> None:
        self.close_context()
        self.lib.llama_model_free(self.model)

    def warm_up(self) -> None:
        """Touch every weight once, as llama-server does before it says that it is ready."""
        start = max(0, int(self.lib.llama_vocab_bos(self.vocab)))
        self.feed([start, *self.eog[:1]], 1)
        self.keep(0)

    def decode(self, entries: Sequence[tuple[int, int, int]], rows: int) -> Vector:
        """Evaluate (token, position, sequence); logits of the last ``rows``."""
        batch = self.batch
        count = batch.n_tokens = len(entries)
        for i, (token, position, sequence) in enumerate(entries):
            batch.token[i], batch.pos[i] = token, position
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
            batch.logits[i] = i >= count - rows
        status = self.lib.llama_decode(self.context, batch)
        if status:
            reason = "the context is full" if status == 1 else "see the log"
            raise LlamaError(f"llama_decode returned {status} for {count} tokens: {reason}")
        if rows == 0:
            return None
        get = self.lib.llama_get_logits_ith
        views = [np.ctypeslib.as_array(get(self.context, i), shape=(self.n_vocab,)) for i in range(count - rows, count)]
        return views[0][None, :] if rows == 1 else np.stack(views)

    def feed(self, tokens: Sequence[int], rows: int) -> Vector:
        n_past = len(self.tokens)
        if n_past + len(tokens) > self.n_ctx:
            raise LlamaError(f"{n_past} + {len(tokens)} tokens do not fit in a context of {self.n_ctx}")
        logits_blocks: list[Vector] = []
        for begin in range(0, len(tokens), self.n_batch):
            block = tokens[begin : begin + self.n_batch]
            n_rows = min(len(block), max(0, begin + len(block) + rows - len(tokens)))
            entries = [(token, n_past + begin + i, 0) for i, token in enumerate(block)]
            if logits_blocks:  # libllama's own memory: the next evaluation overwrites it
                logits_blocks[-1] = np.array(logits_blocks[-1])
            logits = self.decode(entries, n_rows)
            if n_rows:
                logits_blocks.append(logits)
        self.tokens.extend(tokens)
        return logits_blocks[0] if len(logits_blocks) == 1 else np.concatenate(logits_blocks)

    def keep(self, count: int) -> None:
        if count >= len(self.tokens):
            return
        if count == 0:
            self.lib.llama_memory_clear(self.memory, False)
        elif not self.lib.llama_memory_seq_rm(self.memory, 0, count, -1):
            self.keep(0)
        del self.tokens[count:]

    def start_beams(self, text: Sequence[int], width: int) -> Vector:
        # Twice the width: the old texts stay until the new ones have been copied from them.
        self.open(2 * width)
        self.keep(0)
        logits = self.feed(text, 1)[0]
        self.length, self.side, self.width = len(text), 0, width
        self.tokens = []
        return logits

    def extend_beams(self, branches: Sequence[tuple[int, int]]) -> Vector:
        old_offset, new_offset = self.side, self.width - self.side
        for index, (beam, _) in enumerate(branches):
            self.lib.llama_memory_seq_cp(self.memory, old_offset + beam, new_offset + index, -1, -1)
        for index in range(self.width):
            self.lib.llama_memory_seq_rm(self.memory, old_offset + index, -1, -1)
        rows = self.decode(
            [(token, self.length, new_offset + i) for i, (_, token) in enumerate(branches)], len(branches)
        )
        self.side, self.length = new_offset, self.length + 1
        return np.array(rows)

    # --- text ---

    def tokenize(self, text: str, special: bool, parse: bool = True) -> list[int]:
        data = text.encode("utf-8", "surrogatepass")
        size = len(data) + 8
        while True:
            buffer = (self.lib.llama_token * size)()
            count = self.lib.llama_tokenize(self.vocab, data, len(data), buffer, size, special, parse)
            if count >= 0:
                return list(buffer[:count])
            size = -count

    def token_bytes(self, token: int, special: bool = False) -> bytes:
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            count = self.lib.llama_token_to_piece(self.vocab, token, buffer, size, 0, special)
            if count >= 0:
                return buffer.raw[:count]
            size = -count

    @property
    def bos(self) -> str:
        """Text of the token that begins a sequence, empty where the vocabulary has none."""
        return self.token_text(int(self.lib.llama_vocab_bos(self.vocab)))

    @property
    def eos(self) -> str:
        return self.token_text(int(self.lib.llama_vocab_eos(self.vocab)))

    def token_text(self, token: int) -> str:
        return self.token_bytes(token, True).decode("utf-8", "replace") if token >= 0 else ""

    @property
    def is_recurrent(self) -> bool:
        """Whether its memory is, at least in part, a recurrent state that cannot be rolled back."""
        queries = (getattr(self.lib, f"llama_model_is_{kind}", None) for kind in ("recurrent", "hybrid"))
        return any(query(self.model) for query in queries if query)

    def chat_template(self) -> str:
        chat_template = self.lib.llama_model_chat_template(self.model, None)
        return chat_template.decode("utf-8", "replace") if chat_template else CHATML


def find_incompatibility(target: Llama, draft: Llama) -> str | None:
    """Why two models cannot be a pair by llama.cpp's rules; None if they can."""
    lib = target.lib
    types = [lib.llama_vocab_type(model.vocab) for model in (target, draft)]
    if types[0] != types[1]:
        return f"tokenizer types differ: {types[0]} and {types[1]}"
    for query, flag in ((lib.llama_vocab_get_add_bos, "add-bos"), (lib.llama_vocab_get_add_eos, "add-eos")):
        if query(target.vocab) != query(draft.vocab):
            return f"{flag} differs"
    if abs(target.n_vocab - draft.n_vocab) > 128:
        return f"vocabulary sizes differ by more than 128: {target.n_vocab} and {draft.n_vocab}"
    for token in range(5, min(target.n_vocab, draft.n_vocab)):
        texts = [lib.llama_vocab_get_text(model.vocab, token) for model in (target, draft)]
        if texts[0] != texts[1]:
            return f"token {token} is {texts[0]!r} in the target and {texts[1]!r} in the draft"
    return None


_CALLBACKS: list[Any] = []
"""Callbacks of libllama, which must not be garbage-collected."""


def libllama() -> tuple[Any, str]:
    """The library, its log on standard error, and its build. Raises ``ImportError``."""
    import llama_cpp
    from llama_cpp import llama_cpp as lib

    is_shown = [True]

    def write(level: int, text: bytes, _: Any) -> None:
        if level != 5:  # 5 goes on with the line before
            is_shown[0] = level != 1  # 1 is for libllama's developers
        if is_shown[0]:
            sys.stderr.write(text.decode("utf-8", "replace"))
            sys.stderr.flush()

    _CALLBACKS.append(lib.llama_log_callback(write))
    lib.llama_log_set(_CALLBACKS[-1], ctypes.c_void_p(0))
    lib.llama_backend_init()
    version = f" (llama.cpp {lib.llama_version().decode()})" if hasattr(lib, "llama_version") else ""
    return lib, f"llama-cpp-python {llama_cpp.__version__}{version}"
