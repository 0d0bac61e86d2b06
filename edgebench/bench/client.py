"""HTTP client for an engine: through a port on this machine's loopback, with a key, without a proxy.

Uses the standard library: on a machine that measures itself, reading a token takes time from the engine,
and a larger library takes two to three times as much.
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

READ_TIMEOUT_S = 600.0
"""Seconds without data after which a response times out: a long prompt on a phone takes minutes."""
CONNECT_TIMEOUT_S = 10.0
"""Seconds after which connecting to the port times out."""
BLOCK_BYTES = 1 << 16


class HttpClient:
    """See ``core.Client``. Opens a connection for each request: llama-server closes it after a stream,
    sometimes only when the next request has already been sent."""

    def __init__(self, port: int, key: str, *, read_timeout_s: float = READ_TIMEOUT_S) -> None:
        self._read_timeout = read_timeout_s
        self.address = port, key

    def get(self, path: str) -> tuple[int, Json]:
        return self._send("GET", path, None)

    def post(self, path: str, body: object) -> tuple[int, Json]:
        return self._send("POST", path, body)

    def _send(self, method: str, path: str, body: object) -> tuple[int, Json]:
        with self._respond(method, path, body) as response:
            return response.status, _body(response.read())

    def lines(self, path: str, body: object) -> Iterator[TimedLine]:
        """The lines of one streamed response, with arrival times. Reads all bytes before it parses them, as parsing
        would compete with the engine on a machine that measures itself. Raises ``EngineFailed``."""
        blocks: list[tuple[float, bytes]] = []
        with self._respond("POST", path, body) as response:
            if response.status != 200:
                error_text = _error_text(_body(response.read()))
                raise EngineFailed(f"the engine answered {path} with {response.status}: {error_text}")
            while block := response.read1(BLOCK_BYTES):
                blocks.append((time.monotonic(), block))
            if response.length:
                raise self._incomplete(path, f"{response.length} bytes are missing")
        return split_lines(blocks)

    @contextlib.contextmanager
    def _respond(self, method: str, path: str, body: object) -> Iterator[HTTPResponse]:
        """Send a request; its response with an unread body. Raises ``EngineFailed``."""
        port, key = self.address
        connection = HTTPConnection("127.0.0.1", port, timeout=CONNECT_TIMEOUT_S)
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        try:
            connection.connect()
            connection.sock.settimeout(self._read_timeout)
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            yield connection.getresponse()
        except TimeoutError as error:
            raise EngineFailed(f"timed out: no data from the engine for {self._read_timeout:g} s ({path})") from error
        except (OSError, HTTPException) as error:
            raise self._incomplete(path, str(error) or type(error).__name__) from error
        finally:
            connection.close()

    @staticmethod
    def _incomplete(path: str, reason: str) -> EngineFailed:
        return EngineFailed(f"the engine's response to {path} ended unexpectedly: {reason}")


def _body(data: bytes) -> object:
    try:
        return json.loads(data)
    except ValueError:
        return None


def _error_text(body: object) -> str:
    """The message in an error's body. MLC-LLM's is JSON inside a JSON string; FastAPI's is ``detail``."""
    if isinstance(body, str):
        with contextlib.suppress(ValueError):
            body = json.loads(body)
    message = None
    if isinstance(body, dict):
        error = body.get("error")
        message = (
            error.get("message") if isinstance(error, dict) else error or body.get("message") or body.get("detail")
        )
    return str(message or body)[:500]
