"""The bundled llama.cpp server: the ``xllamacpp`` wheel with the command line of ``llama-server``.

It runs as a separate process and accepts the flags of ``llama-server``, so that one driver serves both.
It requires neither a compiler nor a download, since ``pip`` installs the wheel. The wheel is built for a
generic CPU; ``--version`` reports its instruction sets, to show what a native build could add.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

LAYERS_ALL = 999

NGRAMS = ("ngram-simple", "ngram-map-k", "ngram-map-k4v")
"""Methods to draft from the text itself, without a model."""


def _layers(text: str) -> int:
    return {"all": LAYERS_ALL, "auto": -1}.get(text) or int(text)


def parser() -> argparse.ArgumentParser:
    """A parser with the names of llama-server's flags; other flags are errors, as there."""
    flags = argparse.ArgumentParser(prog="llama-server (bundled)", allow_abbrev=False)
    add = flags.add_argument
    add("-m", "--model", help="GGUF file")
    add("-c", "--ctx-size", type=int, default=0, help="context, tokens (0: the model's)")
    add("-b", "--batch-size", type=int, default=2048, help="logical batch, tokens")
    add("-ub", "--ubatch-size", type=int, default=512, help="physical batch, tokens")
    add("-t", "--threads", type=int, default=-1, help="threads of decode")
    add("-tb", "--threads-batch", type=int, default=-1, help="threads of prefill")
    add("-ngl", "--n-gpu-layers", type=_layers, default=-1, metavar="N|all|auto", help="layers to offload")
    add("-np", "--parallel", type=int, default=1, help="slots")
    add("-fit", "--fit", choices=("on", "off"), default="off", help="shrink the settings until they fit")
    add("-ctk", "--cache-type-k", default="f16", help="type of K in the KV cache")
    add("-ctv", "--cache-type-v", default="f16", help="type of V in the KV cache")
    add("-lm", "--load-mode", choices=("auto", "none", "mmap", "mlock", "mmap+mlock", "dio"), default="auto")
    add("-fa", "--flash-attn", choices=("on", "off", "auto"), default="auto")
    add("--cache-ram", type=int, default=0, metavar="MiB", help="host prompt cache")
    add("-ctxcp", "--ctx-checkpoints", type=int, default=0, help="context checkpoints a slot")
    add("--no-warmup", action="store_true", help="no empty run after loading")
    add("--no-repack", action="store_true", help="leave the weights as they are in the file")
    add("-md", "--model-draft", help="GGUF file of the draft model")
    add("-ngld", "--n-gpu-layers-draft", type=_layers, default=-1, metavar="N|all|auto")
    add("--spec-type", choices=("none", "draft-simple", *NGRAMS), default="none")
    add("--spec-draft-n-max", type=int, default=3, help="draft tokens at once")
    add("--spec-draft-n-min", type=int, default=0)
    add("--spec-draft-p-min", type=float, default=0.0, help="least probability of a draft token")
    for ngram in NGRAMS:
        add(f"--spec-{ngram}-size-n", type=int, default=12, help="tokens that are looked up in the text")
        add(f"--spec-{ngram}-size-m", type=int, default=48, help="draft tokens at once")
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=8080)
    add("--no-ui", action="store_true", help="there is none here")
    add("--metrics", action="store_true", help="serve /metrics")
    add("-lv", "--log-verbosity", type=int, default=3)
    add("--version", action="store_true", help="build and instruction sets")
    return flags


def build() -> str:
    """llama.cpp's build number, which is the last part of the wheel's version, such as ``b11549``."""
    return "b" + version("xllamacpp").rsplit(".", 1)[-1]


def _enum(enum: Any, prefix: str, value: str) -> Any:
    return enum.__members__[prefix + value.upper().replace("-", "_").replace("+", "_")]


def _parameters(flags: argparse.Namespace, key: str) -> Any:
    import xllamacpp as x

    if not flags.model or not Path(flags.model).is_file():
        sys.exit(f"error: no such model file: {flags.model}")
    p = x.CommonParams()
    p.model.path = flags.model
    p.n_ctx, p.n_batch, p.n_ubatch, p.n_parallel = flags.ctx_size, flags.batch_size, flags.ubatch_size, flags.parallel
    p.cpuparams.n_threads, p.cpuparams_batch.n_threads = flags.threads, flags.threads_batch
    p.n_gpu_layers, p.fit_params = flags.n_gpu_layers, flags.fit == "on"
    p.cache_type_k = _enum(x.ggml_type, "GGML_TYPE_", flags.cache_type_k)
    p.cache_type_v = _enum(x.ggml_type, "GGML_TYPE_", flags.cache_type_v)
    load_mode = "DIRECT_IO" if flags.load_mode == "dio" else flags.load_mode
    p.load_mode = _enum(x.llama_load_mode, "LLAMA_LOAD_MODE_", load_mode)
    flash_attention = {"on": "ENABLED", "off": "DISABLED", "auto": "AUTO"}[flags.flash_attn]
    p.flash_attn_type = _enum(x.llama_flash_attn_type, "LLAMA_FLASH_ATTN_TYPE_", flash_attention)
    p.cache_ram_mib, p.n_ctx_checkpoints = flags.cache_ram, flags.ctx_checkpoints
    p.warmup, p.no_extra_bufts = not flags.no_warmup, flags.no_repack
    p.hostnames, p.port, p.api_keys = [flags.host], flags.port, [key] if key else []
    p.ui, p.endpoint_metrics, p.verbosity = False, flags.metrics, flags.log_verbosity
    if flags.spec_type != "none":
        _speculative(p, flags)
    return p


def _speculative(p: Any, flags: argparse.Namespace) -> None:
    import xllamacpp as x

    p.speculative.types = [_enum(x.common_speculative_type, "COMMON_SPECULATIVE_TYPE_", flags.spec_type)]
    if flags.spec_type in NGRAMS:
        name = flags.spec_type.replace("-", "_")
        ngram = getattr(p.speculative, name)
        ngram.size_n, ngram.size_m = getattr(flags, f"spec_{name}_size_n"), getattr(flags, f"spec_{name}_size_m")
    draft = p.speculative.draft
    # llama-server's own parser gives the draft the target's threads; here it must be set explicitly.
    draft.cpuparams.n_threads, draft.cpuparams_batch.n_threads = flags.threads, flags.threads_batch
    if flags.model_draft:
        # The property returns a copy: change it and assign it.
        model = draft.mparams
        model.path = flags.model_draft
        draft.mparams = model
    draft.n_max, draft.n_min, draft.p_min = flags.spec_draft_n_max, flags.spec_draft_n_min, flags.spec_draft_p_min
    draft.n_gpu_layers = flags.n_gpu_layers_draft


def _resident() -> int | None:
    """This process's resident memory, bytes (proc(5)): the part that Python adds to the engine's."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:")), None)


def _version() -> str:
    import xllamacpp as x

    return f"version: {build()} (xllamacpp {version('xllamacpp')})\nsystem_info: {x.get_system_info()}"


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until SIGINT or SIGTERM."""
    flags = parser().parse_args(argv)
    if flags.version:
        print(_version())
        return
    try:
        # Removed from the environment, so that no child process inherits it.
        parameters = _parameters(flags, os.environ.pop("LLAMA_API_KEY", ""))
    except OverflowError as error:
        sys.exit(f"error: a number is too large for the engine: {error}")
    stop_requested = threading.Event()

    def finish(number: int, frame: FrameType | None) -> None:
        stop_requested.set()

    # Installed by hand: a shell without job control starts its background jobs with SIGINT ignored,
    # and Python leaves an ignored signal ignored.
    signal.signal(signal.SIGINT, finish)
    signal.signal(signal.SIGTERM, finish)
    import xllamacpp as x

    print(f"edgebench: bundled server {build()}: {x.get_system_info()}", file=sys.stderr)
    if resident := _resident():
        print(f"edgebench: {resident} bytes resident before the model loads", file=sys.stderr, flush=True)
    try:
        _server = x.Server(parameters)
    except RuntimeError as error:
        sys.exit(f"error: {error}")  # its log, above, has the reason
    stop_requested.wait()
    # The server's own threads wait in C++ for requests; its destructor stops them.


if __name__ == "__main__":
    main()
