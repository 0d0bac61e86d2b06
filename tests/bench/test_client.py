"""HTTP to an engine: what it answers, when, and what is said where it doesn't."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from edgebench.bench.client import HttpClient
from edgebench.core import server_sent_events
from edgebench.errors import EngineFailed, Unreadable

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"

Serve = Callable[..., HttpClient]
Asked = tuple[bytes, http.client.HTTPMessage]


@pytest.fixture
def engine() -> Iterator[Serve]:
    """A socket that answers whatever it is asked with these bytes, one piece after the other; its client."""
    opened: list[socket.socket] = []

    def serve(*pieces: bytes, silence: float = 60, asked: list[Asked] | None = None) -> HttpClient:
        listener = socket.create_server(("127.0.0.1", 0))
        opened.append(listener)

        def answer() -> None:
            connection, _ = listener.accept()
            opened.append(connection)
            reader = connection.makefile("rb")
            said, headers = reader.readline(), http.client.parse_headers(reader)
            reader.read(int(headers.get("Content-Length", 0)))  # what is left unread resets the connection
            reader.close()
            if asked is not None:
                asked.append((said, headers))
            for piece in pieces:
                connection.sendall(piece)
            if pieces:
                connection.close()

        threading.Thread(target=answer, daemon=True).start()
        return HttpClient(listener.getsockname()[1], "the key", read_timeout_s=silence)

    yield serve
    for one in opened:
        one.close()


def chunks(*texts: str) -> Sequence[bytes]:
    return [b"%x\r\n%s\r\n" % (len(text.encode()), text.encode()) for text in texts]


def test_events_come_with_their_times_however_they_were_cut(engine: Serve) -> None:
    pieces = chunks('data: {"n": 1}\n', '\ndata: {"n"', ": 2}\n\n", 'data: {"n": 3}\n\ndata: {"n": 4}\n\n')
    before = time.monotonic()
    heard = list(server_sent_events(engine(CHUNKED, *pieces, b"0\r\n\r\n").lines("/completion", {"prompt": "ä"})))
    assert [event for _, event in heard] == [{"n": number} for number in (1, 2, 3, 4)]
    times = [at for at, _ in heard]
    assert times == sorted(times)
    assert before <= times[0] <= times[-1] <= time.monotonic()


def test_a_request_carries_the_key_and_goes_to_loopback(engine: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://192.0.2.1:9")
    asked: list[Asked] = []
    client = engine(b'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"fine"', asked=asked)
    assert client.post("/tokenize", {"content": "x"}) == (200, "fine")
    ((said, headers),) = asked
    assert said == b"POST /tokenize HTTP/1.1\r\n"
    assert headers["Host"] == f"127.0.0.1:{client.address[0]}"
    assert headers["Authorization"] == "Bearer the key"


def test_an_answer_that_is_no_json_is_none(engine: Serve) -> None:
    assert engine(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\n<p>\xff").get("/health") == (503, None)


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        (
            [b'HTTP/1.1 400 Bad\r\nContent-Length: 99\r\n\r\n{"error": {"message": "no such key"}}'],
            "ended unexpectedly",
        ),
        ([b'HTTP/1.1 400 Bad\r\n\r\n{"error": {"message": "no such key"}}'], "/completion with 400: no such key"),
        ([CHUNKED, *chunks('data: {"n": 1}\n\n')], "response to /completion ended unexpectedly"),
        ([CHUNKED, b"20\r\ndata: {"], "response to /completion ended unexpectedly"),
        (
            [b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\ndata: {}\n\n"],
            "response to /completion ended unexpectedly: 89 bytes",
        ),
        ([b"\x00\x01garbage\r\n\r\n"], "response to /completion ended unexpectedly"),
        ([b""], "response to /completion ended unexpectedly"),
    ],
)
def test_an_engine_that_breaks_off_is_a_failure_that_says_so(engine: Serve, pieces: list[bytes], said: str) -> None:
    with pytest.raises(EngineFailed, match=said):
        list(server_sent_events(engine(*pieces).lines("/completion", {})))


def test_an_engine_that_is_silent_is_given_up(engine: Serve) -> None:
    with pytest.raises(EngineFailed, match=r"no data from the engine for 0\.2 s"):
        engine(silence=0.2).get("/health")


def test_nobody_on_the_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(EngineFailed, match=r"response to /health ended unexpectedly: .*refused"):
        HttpClient(port, "k").get("/health")


def test_an_event_that_is_no_json_is_not_understood(engine: Serve) -> None:
    with pytest.raises(Unreadable, match="is not JSON"):
        list(server_sent_events(engine(CHUNKED, *chunks("data: {nonsense\n\n"), b"0\r\n\r\n").lines("/completion", {})))
