"""HTTP to an engine: through a port on this machine's loopback, with a key, nothing through a proxy."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgebench.core import Json
from edgebench.errors import EngineFailed, Unreadable

if TYPE_CHECKING:
    import httpx

SILENCE = 600.0
"""Seconds an engine may be silent within an answer: a long prompt on a phone takes minutes."""


class HttpClient:
    """See ``core.Client``."""

    def __init__(self, port: int, key: str, *, silence: float = SILENCE) -> None:
        import httpx

        self._http = httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            headers={"Authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(silence, connect=10),
            # A connection of its own for each request: llama-server hangs up after a stream, now and
            # then only when the next request is already on its way.
            limits=httpx.Limits(max_keepalive_connections=0),
            trust_env=False,
        )
        self._silence = silence
        self.address = port, key

    def close(self) -> None:
        self._http.close()

    def get(self, path: str) -> tuple[int, Json]:
        return self._ask("GET", path, None)

    def post(self, path: str, body: Json) -> tuple[int, Json]:
        return self._ask("POST", path, body)

    def _ask(self, method: str, path: str, body: Json) -> tuple[int, Json]:
        import httpx

        try:
            answer = self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise self._failed(path, error) from error
        return answer.status_code, _body(answer)

    def stream(self, path: str, body: Json) -> Iterator[tuple[float, Json]]:
        """The events of one answer. All bytes are taken in, with their times, before the first is
        parsed: on a machine that measures itself, parsing would compete with the engine."""
        import httpx

        blocks: list[tuple[float, bytes]] = []
        try:
            with self._http.stream("POST", path, json=body) as answer:
                if answer.status_code != 200:
                    answer.read()
                    raise EngineFailed(f"the engine answered {path} with {answer.status_code}: {_said(_body(answer))}")
                blocks.extend((time.monotonic(), block) for block in answer.iter_raw())
        except httpx.HTTPError as error:
            raise self._failed(path, error) from error
        return events(blocks)

    def _failed(self, path: str, error: httpx.HTTPError) -> EngineFailed:
        import httpx

        if isinstance(error, httpx.ReadTimeout):
            return EngineFailed(f"the engine said nothing for {self._silence:g} s while answering {path}")
        return EngineFailed(f"the engine broke off while answering {path}: {error or type(error).__name__}")


def _body(answer: httpx.Response) -> Json:
    try:
        return answer.json()
    except ValueError:
        return None


def _said(body: Json) -> str:
    """The words of an error's body. MLC-LLM's is JSON inside a JSON string; FastAPI's is ``detail``."""
    if isinstance(body, str):
        with contextlib.suppress(ValueError):
            body = json.loads(body)
    words = None
    if isinstance(body, dict):
        error = body.get("error")
        words = error.get("message") if isinstance(error, dict) else error or body.get("message") or body.get("detail")
    return str(words or body)[:500]


def events(blocks: list[tuple[float, bytes]]) -> Iterator[tuple[float, Json]]:
    """Server-sent events (WHATWG HTML, 9.2) of timed blocks of bytes, each with the time of the
    block that completed it. Raises ``Unreadable`` for data that isn't JSON."""
    rest = b""
    for at, block in blocks:
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == b"[DONE]":
                return
            try:
                yield at, json.loads(data)
            except ValueError as error:
                raise Unreadable(f"the engine's answer is not JSON: {data[:200]!r}") from error
