"""The HTTP side: routes, the key, errors and streams as llama-server has them."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .answers import Chat, Completion
from .library import LlamaError
from .questions import App
from .requests import Fields, Refused
from .speculation import Tally

Routes = Mapping[str, Callable[[Fields], Any]]


def bind(app: App, host: str, port: int, key: str) -> ThreadingHTTPServer:
    """A server that listens. Raises ``OSError``."""
    server = ThreadingHTTPServer((host, port), type("BoundHandler", (Handler,), {"app": app, "key": key}))
    server.daemon_threads = True
    return server


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    app: App
    key: str

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the log belongs to the engine."""

    def do_GET(self) -> None:
        self.answer({"/health": self.health, "/v1/health": self.health, "/props": lambda _: self.app.props()})

    def do_POST(self) -> None:
        app = self.app
        self.answer(
            {
                "/tokenize": app.tokenize,
                "/detokenize": app.detokenize,
                "/apply-template": app.apply_template,
                "/completion": lambda fields: self.generate(fields, Completion),
                "/v1/chat/completions": lambda fields: self.generate(fields, Chat),
                "/edgebench/costs": app.costs,
                "/edgebench/logits": app.logits,
                "/edgebench/parting": app.parting,
            }
        )

    def answer(self, routes: Routes) -> None:
        path = self.path.partition("?")[0]
        try:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if not path.endswith("/health"):
                self.authorize()
            if path not in routes:
                raise Refused("File Not Found", 404, "not_found_error")
            fields = Fields(parsed(data) if self.command == "POST" else {})
            if path.endswith("/health"):  # answers while another request is being served
                self.send(200, routes[path](fields))
                return
            with self.app.lock:
                result = routes[path](fields)
            if result is not None:
                self.send(200, result)
        except Refused as error:
            self.send(error.code, error.body)
        except LlamaError as error:
            self.send(500, failure(error))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def authorize(self) -> None:
        given = self.headers.get("Authorization", "").partition("Bearer ")[2]
        if self.key and not hmac.compare_digest(given.encode(), self.key.encode()):
            raise Refused("Invalid API Key", 401, "authentication_error")

    def health(self, _: Fields) -> Mapping[str, str]:
        return {"status": "ok"} if self.app.model else {}

    def send(self, code: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def generate(self, fields: Fields, form: type[Completion]) -> object:
        """A whole answer, or None where it has been streamed."""
        ask, tally = self.app.ask(fields), Tally()
        answer = form(self.app, fields, ask, tally)
        tokens = self.app.tokens(ask, tally)
        if not fields.flag("stream", False):
            return answer.whole(list(tokens))
        first = next(tokens, None)  # what is refused is refused before the stream's status is sent
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for event in answer.start():
                self.event(event)
            if first is not None:
                self.event(answer.part(first, 1))
            for count, made in enumerate(tokens, start=2):
                self.event(answer.part(made, count))
            for event in answer.end():
                self.event(event)
        except (Refused, LlamaError) as error:
            self.event(failure(error))
        self.wfile.write(b"0\r\n\r\n")
        return None

    def event(self, data: object) -> None:
        line = b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))


def parsed(data: bytes) -> dict[str, object]:
    try:
        body = json.loads(data)
    except ValueError as error:
        raise Refused(f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise Refused("the body must be a JSON object")
    return body


def failure(error: Exception) -> dict[str, object]:
    return {"error": {"code": 500, "message": str(error), "type": "server_error"}}
