"""The llama-cpp-python server as a process of its own: the file that goes to a device."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from edgebench.engines.llama_cpp_python import archive
from lab.tier import enter

KEY = "a key with spaces, ' and $(no command)"


class SpecServer:
    """``with SpecServer("-m", …) as server``: ready when entered, ended by SIGINT when left."""

    def __init__(self, *argv: str | Path, ready: bool = True) -> None:
        self.argv, self.ready = [str(word) for word in argv], ready

    def __enter__(self) -> SpecServer:
        enter("a llama-cpp-python server")
        self.folder = tempfile.TemporaryDirectory()
        program = Path(self.folder.name) / "ser ver.pyz"
        program.write_bytes(archive())
        self.log_path = Path(self.folder.name) / "log"
        self.log_file = self.log_path.open("w")
        # A background job of a shell without job control has SIGINT ignored: so has this one.
        shell = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]
        self.process = subprocess.Popen(
            [*shell, sys.executable, str(program), "--port", "0", "-t", "2", "--no-repack", *self.argv],
            env={**os.environ, "LLAMA_API_KEY": KEY, "OMP_WAIT_POLICY": "passive"},
            stderr=self.log_file,
            cwd=self.folder.name,
        )
        port = self.wait_for_port()
        headers = {"Authorization": f"Bearer {KEY}"}
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=300)
        if self.ready:
            self.wait_ready()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()
        self.http.close()
        self.log_file.close()
        self.folder.cleanup()

    @property
    def log(self) -> str:
        return self.log_path.read_text("utf-8", "replace")

    def wait_for_port(self) -> int:
        deadline = time.monotonic() + 120
        while "listening on http://127.0.0.1:" not in self.log:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)
        return int(self.log.partition("listening on http://127.0.0.1:")[2].split()[0])

    def wait_ready(self) -> None:
        deadline = time.monotonic() + 300
        while self.http.get("/health").status_code == 503:
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)

    def stop(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)

    # --- as edgebench's own client ---

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        answer = self.http.post(path, json=body)
        return answer.status_code, answer.json()

    def ask(self, prompt: str | Sequence[int], k: int = 0, n: int = 16, **fields: Any) -> dict[str, Any]:
        """``/completion``, greedy unless said otherwise, not streamed."""
        body = {"prompt": prompt, "n_predict": n, "temperature": 0, "speculative.n_max": k, "return_tokens": True}
        status, found = self.post("/completion", {**body, **fields})
        assert status == 200, found
        return dict(found)

    def text(self, tokens: Sequence[int]) -> str:
        return str(self.post("/detokenize", {"tokens": list(tokens)})[1]["content"])
