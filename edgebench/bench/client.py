"""HTTP to an engine: through a port on this machine's loopback, with a key, nothing through a proxy.

By the standard library: on a machine that measures itself, what reads a token takes time from the
engine that makes the next one, and a larger library takes two to three times as much of it.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException, HTTPResponse

from edgebench.core import Json
from edgebench.core.wire import TimedLine, split_lines
from edgebench.errors import EngineFailed

SILENCE = 600.0
"""Seconds an engine may be silent within an answer: a long prompt on a phone takes minutes."""
CONNECT = 10.0
"""Seconds until somebody must have answered on the port."""
BLOCK = 1 << 16


class HttpClient:
    """See ``core.Client``. A connection of its own for each request: llama-server hangs up after a
    stream, now and then only when the next request is already on its way."""

    def __init__(self, port: int, key: str, *, silence: float = SILENCE) -> None:
        self._silence = silence
        self.address = port, key

    def get(self, path: str) -> tuple[int, Json]:
        return self._ask("GET", path, None)

    def post(self, path: str, body: object) -> tuple[int, Json]:
        return self._ask("POST", path, body)

    def _ask(self, method: str, path: str, body: object) -> tuple[int, Json]:
        with self._answer(method, path, body) as answer:
            return answer.status, _body(answer.read())

    def lines(self, path: str, body: object) -> Iterator[TimedLine]:
        """The lines of one streamed answer. All bytes are read, with their times, before the first line
        is returned: on a machine that measures itself, parsing would compete with the engine."""
        blocks: list[tuple[float, bytes]] = []
        with self._answer("POST", path, body) as answer:
            if answer.status != 200:
                said = _said(_body(answer.read()))
                raise EngineFailed(f"the engine answered {path} with {answer.status}: {said}")
            while block := answer.read1(BLOCK):
                blocks.append((time.monotonic(), block))
            if answer.length:
                raise self._broke_off(path, f"{answer.length} bytes are missing")
        return split_lines(blocks)

    @contextlib.contextmanager
    def _answer(self, method: str, path: str, body: object) -> Iterator[HTTPResponse]:
        """One request and its answer, whose body may be read. Raises ``EngineFailed``."""
        port, key = self.address
        connection = HTTPConnection("127.0.0.1", port, timeout=CONNECT)
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        try:
            connection.connect()
            connection.sock.settimeout(self._silence)
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            yield connection.getresponse()
        except TimeoutError as error:
            raise EngineFailed(f"timed out: no data from the engine for {self._silence:g} s ({path})") from error
        except (OSError, HTTPException) as error:
            raise self._broke_off(path, str(error) or type(error).__name__) from error
        finally:
            connection.close()

    @staticmethod
    def _broke_off(path: str, how: str) -> EngineFailed:
        return EngineFailed(f"the engine's response to {path} ended unexpectedly: {how}")


def _body(data: bytes) -> object:
    try:
        return json.loads(data)
    except ValueError:
        return None


def _said(body: object) -> str:
    """The words of an error's body. MLC-LLM's is JSON inside a JSON string; FastAPI's is ``detail``."""
    if isinstance(body, str):
        with contextlib.suppress(ValueError):
            body = json.loads(body)
    words = None
    if isinstance(body, dict):
        error = body.get("error")
        words = error.get("message") if isinstance(error, dict) else error or body.get("message") or body.get("detail")
    return str(words or body)[:500]
