"""The HTTP server: routes, the API key, errors and streams as in llama-server."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .app import App
from .library import LlamaError
from .requests import Fields, RequestError
from .responses import Chat, Completion
from .speculation import Tally

Routes = Mapping[str, Callable[[Fields], Any]]


def bind(app: App, host: str, port: int, key: str) -> ThreadingHTTPServer:
    """A listening server. Raises ``OSError``."""
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
        self.respond({"/health": self.health, "/v1/health": self.health, "/props": lambda _: self.app.props()})

    def do_POST(self) -> None:
        app = self.app
        self.respond(
            {
                "/tokenize": app.tokenize,
                "/detokenize": app.detokenize,
                "/apply-template": app.apply_template,
                "/completion": lambda fields: self.generate(fields, Completion),
                "/v1/chat/completions": lambda fields: self.generate(fields, Chat),
                "/edgebench/costs": app.costs,
                "/edgebench/logits": app.logits,
                "/edgebench/parting": app.divergence,
            }
        )

    def respond(self, routes: Routes) -> None:
        path = self.path.partition("?")[0]
        try:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if not path.endswith("/health"):
                self.authorize()
            if path not in routes:
                raise RequestError("File Not Found", 404, "not_found_error")
            fields = Fields(parse_body(data) if self.command == "POST" else {})
            if path.endswith("/health"):  # answers while another request is being served
                self.send(200, routes[path](fields))
                return
            with self.app.lock:
                result = routes[path](fields)
            if result is not None:
                self.send(200, result)
        except RequestError as error:
            self.send(error.code, error.body)
        except LlamaError as error:
            self.send(500, error_body(error))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def authorize(self) -> None:
        token = self.headers.get("Authorization", "").partition("Bearer ")[2]
        if self.key and not hmac.compare_digest(token.encode(), self.key.encode()):
            raise RequestError("Invalid API Key", 401, "authentication_error")

    def health(self, _: Fields) -> Mapping[str, str]:
        return {"status": "ok"} if self.app.model else {}

    def send(self, code: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def generate(self, fields: Fields, response_cls: type[Completion]) -> object:
        """A complete response, or None if it was streamed."""
        request, tally = self.app.parse_request(fields), Tally()
        response = response_cls(self.app, fields, request, tally)
        tokens = self.app.tokens(request, tally)
        if not fields.flag("stream", False):
            return response.complete(list(tokens))
        first = next(tokens, None)  # errors of the request are raised before the status is sent
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for event in response.start():
                self.event(event)
            if first is not None:
                self.event(response.chunk(first, 1))
            for count, generated in enumerate(tokens, start=2):
                self.event(response.chunk(generated, count))
            for event in response.end():
                self.event(event)
        except (RequestError, LlamaError) as error:
            self.event(error_body(error))
        self.wfile.write(b"0\r\n\r\n")
        return None

    def event(self, data: object) -> None:
        line = b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))


def parse_body(data: bytes) -> dict[str, object]:
    try:
        body = json.loads(data)
    except ValueError as error:
        raise RequestError(f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise RequestError("the body must be a JSON object")
    return body


def error_body(error: Exception) -> dict[str, object]:
    return {"error": {"code": 500, "message": str(error), "type": "server_error"}}
