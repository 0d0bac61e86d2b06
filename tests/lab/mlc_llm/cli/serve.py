"""``mlc_llm serve``: its arguments, and the order of its start."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import shlex
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

from mlc_llm.support.download_cache import CACHE

logger = logging.getLogger(__name__)
FAULT = os.environ.get("MLC_DOUBLE", "")


INTEGERS = (
    "max_num_sequence",
    "max_total_seq_length",
    "prefill_chunk_size",
    "max_history_size",
    "spec_draft_length",
    "spec_tree_width",
    "prefix_cache_max_num_recycling_seqs",
    "context_window_size",
    "sliding_window_size",
    "attention_sink_size",
    "tensor_parallel_shards",
    "pipeline_parallel_stages",
)


class Parser(argparse.ArgumentParser):
    """Ends with 2 and the usage, as the engine's own does."""

    def error(self, message: str) -> NoReturn:
        print("-" * 25 + " Usage " + "-" * 25)
        self.print_help()
        print("-" * 25 + " Error " + "-" * 25)
        print(message, file=sys.stderr)
        sys.exit(2)


def overrides(text: str) -> argparse.Namespace:
    """``key=value;key=value``."""
    parser = Parser("Engine config override values", allow_abbrev=False)
    for name in INTEGERS:
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--gpu_memory_utilization", type=float)
    for name in ("prefix_cache_mode", "prefill_mode", "opt"):
        parser.add_argument(f"--{name}")
    return parser.parse_args([f"--{item}" for item in text.split(";") if item])


def parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser("MLC LLM Serve CLI", allow_abbrev=False)
    parser.add_argument("model")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--model-lib")
    parser.add_argument("--mode", choices=["local", "interactive", "server"], default="local")
    parser.add_argument("--enable-debug", action="store_true")
    parser.add_argument("--additional-models", nargs="*")
    parser.add_argument("--speculative-mode", choices=["disable", "small_draft", "eagle", "medusa"], default="disable")
    parser.add_argument("--prefix-cache-mode", choices=["disable", "radix"], default="radix")
    parser.add_argument("--prefill-mode", choices=["hybrid", "chunked"], default="hybrid")
    parser.add_argument("--overrides", type=overrides, default="")
    parser.add_argument("--enable-tracing", action="store_true")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--embedding-model")
    parser.add_argument("--embedding-model-lib")
    parser.add_argument("--allow-credentials", action="store_true")
    for name in ("origins", "methods", "headers"):
        parser.add_argument(f"--allow-{name}", type=json.loads, default=["*"])
    parser.add_argument("--api-key")
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    asked = parse(argv)
    detect(asked.device)
    models = [asked.model, *(one.split(",", 1)[0] for one in asked.additional_models or ())]
    configs = [read_config(Path(model)) for model in models]
    for model in models:
        library(Path(model), asked)
    if FAULT == "never-opens":
        time.sleep(3600)
    threading.Thread(target=reload, args=(asked, models, configs[0]), name="Thread-1 (background_loop)").start()
    if not LOADED.wait(3600):
        sys.exit(1)
    from mlc_llm import server

    server.serve(asked, configs[0])


def detect(device: str) -> None:
    if device not in ("cpu", "vulkan"):
        raise ValueError(f"Device is not found on your local environment: {device}")
    logger.info("%s device: %s:%s", "\x1b[92mFound\x1b[0m", device, 0)


def read_config(model: Path) -> dict[str, object]:
    config = model / "mlc-chat-config.json"
    if not config.is_file():
        raise FileNotFoundError(f"Cannot find {config} in the model directory provided")
    found: dict[str, object] = json.loads(config.read_text())
    return found


def library(model: Path, asked: argparse.Namespace) -> None:
    """Compiled just in time, in a place of its own by what decides about it; or the cached one."""
    if asked.model_lib:
        if not Path(asked.model_lib).is_file():
            raise FileNotFoundError(f"The `model_lib` you passed in is not a file: {asked.model_lib}.\n")
        logger.info("Using library model: %s", asked.model_lib)
        return
    home = Path(os.environ["MLC_LLM_HOME"]) / "model_lib"
    home.mkdir(parents=True, exist_ok=True)
    key = hashlib.md5(repr((model.name, asked.device, vars(asked.overrides))).encode()).hexdigest()
    target = home / f"{key}.so"
    logger.info("%s = %s. Can be one of: ON, OFF, REDO, READONLY", "\x1b[1mMLC_JIT_POLICY\x1b[0m", "ON")
    if target.is_file():
        logger.info("Using cached model lib: %s", f"\x1b[1m{target}\x1b[0m")
        return
    command = [sys.executable, "-m", "mlc_llm", "compile", str(model), "--device", asked.device, "--output", "lib.so"]
    logger.info("Compiling using commands below:")
    logger.info("%s", f"\x1b[94m{shlex.join(command)}\x1b[0m")
    if FAULT == "slow-compile":
        time.sleep(2)
    if FAULT == "compile-fails":
        raise RuntimeError("Cannot find compilation output, compilation failed")
    target.write_text("library")
    logger.info("Using compiled model lib: %s", f"\x1b[1m{target}\x1b[0m")


LOADED = threading.Event()


def reload(asked: argparse.Namespace, models: list[str], config: dict[str, object]) -> None:
    """The model's thread. What goes wrong here ends this thread alone: the program waits on."""
    if asked.model_lib and Path(asked.model_lib).read_bytes()[:4] != b"\x7fELF":
        raise RuntimeError(
            "Library binary was created using {metal} but a loader of that name is not registered. "
            "Make sure to have runtime that registers ffi.Module.load_from_bytes.metal"
        )
    for model in models:
        cache = Path(model) / CACHE
        if not cache.is_file():
            raise RuntimeError(f"InternalError: Check failed: (!fs.fail()) is false: Cannot open {cache}")
        for record in json.loads(cache.read_text())["records"]:
            (Path(model) / record["dataPath"]).read_bytes()
    if FAULT == "insufficient-memory":
        raise RuntimeError(
            "InternalError: Check failed: (output_res.IsOk()) is false: Insufficient GPU memory error: The available "
            "single GPU memory is 1024.000 MB, which is less than the sum of model weight size (4096.000 MB) and "
            'temporary buffer size (512.000 MB).\n1. You can set a larger "gpu_memory_utilization" value.'
        )
    given = asked.overrides
    batch = given.max_num_sequence or 1
    # The smallest of what is asked for, what the library was compiled for and what the memory holds.
    room = 200 if FAULT == "less-room" else given.context_window_size or config["context_window_size"]
    say(
        f'[config.cc:721] The actual engine mode is "{asked.mode}". So max batch size is {batch}, '
        f"max KV cache token capacity is {room}, "
        f"prefill chunk size is {given.prefill_chunk_size or config['prefill_chunk_size']}."
    )
    say(
        "[config.cc:726] Estimated total single GPU memory usage: 300.500 MB (Parameters: 100.250 MB. KVCache: "
        "150.250 MB. Temporary buffer: 50.000 MB). The actual usage might be slightly larger than the estimated "
        "number."
    )
    LOADED.set()


def say(text: str) -> None:
    """As TVM's own log: on standard error, without Python's form."""
    print("[12:34:56] /src/mlc-llm/cpp/serve/" + text.removeprefix("["), file=sys.stderr, flush=True)
