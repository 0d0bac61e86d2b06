"""A ``llama-server`` that goes wrong in one way, for the tests that inject faults.

``faulty_server.py MODE ARGS…`` answers ``--help`` and ``--version`` as the bundled server does, and is
the bundled server wherever its mode lets it be. Nothing it answers is ever taken for a measurement:
each mode ends in an error, or hands over to the real server.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NoReturn

from edgebench.servers import bundled


def hand_over(argv: list[str]) -> NoReturn:
    """Become the real server."""
    os.execv(sys.executable, [sys.executable, str(Path(bundled.__file__)), *argv])


class Handler(BaseHTTPRequestHandler):
    """Healthy until it is asked for tokens."""

    mode = ""

    def do_GET(self) -> None:
        status = 503 if self.mode == "never-ready" else 200
        self.answer(status, {"status": "ok"})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.mode == "dies-at-decode":
            os.kill(os.getpid(), signal.SIGILL)
        elif self.mode == "dies-midway":
            self.start_stream()
            piece = {"content": "a", "tokens": [1], "stop": False, "timings": {"predicted_n": 1, "predicted_ms": 0.0}}
            self.wfile.write(b"data: " + json.dumps(piece).encode() + b"\n\n")
            self.wfile.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.mode == "garbage":
            self.start_stream()
            self.wfile.write(b"data: \x1b[31m\xff not json\n\n")
        else:
            self.answer(400, {"error": {"code": 400, "message": "no such thing", "type": "invalid_request_error"}})

    def start_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()

    def answer(self, status: int, body: dict[str, object]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main() -> None:
    mode, *argv = sys.argv[1:]
    if "--help" in argv or "--version" in argv or (mode == "dies-at-decode" and "--no-repack" in argv):
        hand_over(argv)
    port = int(argv[argv.index("--port") + 1])
    if mode == "dies-while-loading":
        sys.exit("error: unable to load model: tensor 'output' has wrong shape")
    if mode == "out-of-memory":
        if int(argv[argv.index("-c") + 1]) <= 512:
            hand_over(argv)
        sys.exit("ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 107374182400")
    if mode == "silent":
        time.sleep(3600)
    if mode == "port-taken":
        # Somebody else sits on the first port that is tried; the second try is left alone.
        marker = Path(os.environ["EDGEBENCH_TEST_MARKER"])
        if not marker.exists():
            marker.touch()
            code = f"import socket,time;s=socket.create_server(('127.0.0.1',{port}));print(1,flush=True);time.sleep(60)"
            with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
                assert process.stdout
                process.stdout.read(1)
                ended = subprocess.run([sys.executable, bundled.__file__, *argv], check=False)
                process.kill()
            sys.exit(ended.returncode)
        hand_over(argv)
    signal.signal(signal.SIGINT, lambda number, frame: sys.exit(0))
    Handler.mode = mode
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main()
