"""Entry point: llama-server's flags, the API key from the environment, a clean exit on SIGINT."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from .app import App
from .library import LlamaError, libllama, log
from .serve import bind


def physical_cores() -> int:
    """Number of physical cores if the kernel reports it, else of all CPUs."""
    lists = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/topology/thread_siblings_list")
    return len({path.read_text() for path in lists}) or os.cpu_count() or 1


def layers(text: str) -> str:
    if text not in ("auto", "all") and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a number, auto or all, not {text!r}")
    return text


def flags() -> argparse.ArgumentParser:
    """A parser with the flags of llama-server that this server supports."""
    parser = argparse.ArgumentParser(prog="llama_cpp_python", allow_abbrev=False, description=__doc__)
    add = parser.add_argument
    add("-m", "--model", help="GGUF file of the (target) model")
    add("-md", "--model-draft", help="GGUF file of the draft model")
    add("-c", "--ctx-size", type=int, default=0, metavar="N", help="tokens (0: as the model was trained)")
    add("-b", "--batch-size", type=int, default=2048, metavar="N", help="logical batch, tokens")
    add("-ub", "--ubatch-size", type=int, default=512, metavar="N", help="physical batch, tokens")
    add("-t", "--threads", type=int, default=physical_cores(), metavar="N", help="threads of decode")
    add("-tb", "--threads-batch", type=int, metavar="N", help="threads of prefill (as of decode)")
    add("-ngl", "--gpu-layers", type=layers, default="auto", metavar="N|auto|all", help="layers to offload")
    add("-ngld", "--gpu-layers-draft", type=layers, default="auto", metavar="N|auto|all", help="of the draft model")
    add("-np", "--parallel", type=int, choices=[1], default=1, help="one request at a time")
    add("--spec-draft-n-max", dest="draft_max", type=int, default=3, metavar="N", help="where a request doesn't say")
    add("--no-repack", dest="repack", action="store_false", help="leave the weights as they are in the file")
    add("--no-warmup", dest="warmup", action="store_false", help="no empty run after loading")
    add("--host", default="127.0.0.1", choices=["127.0.0.1", "localhost"])
    add("--port", type=int, default=8080, metavar="N")
    add("--version", action="store_true", help="build and instruction sets")
    return parser


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = flags()
    options = parser.parse_args(argv)
    if not options.model and not options.version:
        parser.error("-m is required")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM."""
    options = parse(argv)
    if options.version:
        try:
            lib, build = libllama()
        except (ImportError, OSError, RuntimeError) as error:
            log(f"error: this Python cannot load llama_cpp: {error}")
            return 1
        print(f"build: {build}\nsystem_info: {lib.llama_print_system_info().decode()}")
        return 0
    missing = [path for path in (options.model, options.model_draft) if path and not Path(path).is_file()]
    if missing:
        log(f"error: no such file: {missing[0]}")
        return 1
    app = App(options)
    try:
        # Removed from the environment, so that no child process inherits it.
        server = bind(app, options.host, options.port, os.environ.pop("LLAMA_API_KEY", ""))
    except OSError as error:
        log(f"error: cannot listen on {options.host}:{options.port}: {error}")
        return 1
    # Installed by hand: a background job of a shell inherits SIGINT as ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: app.stopping.set())
    failures: list[str] = []

    def load() -> None:
        try:
            app.load()
        except (LlamaError, ImportError, OSError, RuntimeError) as error:
            failures.append(str(error))
            app.stopping.set()

    loading = threading.Thread(target=load, daemon=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    loading.start()
    log(f"listening on http://{options.host}:{server.server_address[1]}")
    while not app.stopping.wait(1):  # an endless wait would keep signals out on Windows
        pass
    log(f"error: {failures[0]}" if failures else "stopping")
    server.server_close()
    # A load or a step that is under way cannot be called back: it is given a moment, then left behind.
    if not loading.is_alive() and app.lock.acquire(timeout=5):
        app.close()
    sys.stderr.flush()
    os._exit(1 if failures else 0)


if __name__ == "__main__":
    sys.exit(main())
