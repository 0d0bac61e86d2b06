"""A page on the controller's loopback that is drawn anew when its data changed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import click

from edgebench.errors import UsageError

HOST = "127.0.0.1"


def serve(draw: Callable[[str], str], version: Callable[[], str], port: int) -> None:
    """Serve until interrupted. ``draw`` is given the version it draws. Raises ``UsageError``."""
    if hasattr(os, "nice"):
        os.nice(10)  # a page must not cost the run that it shows
    try:
        server = ThreadingHTTPServer((HOST, port), _handler(draw, version))
    except OSError as error:
        raise UsageError(f"port {port}: {error.strerror}", "Choose another with --port, or leave it out.") from error
    server.daemon_threads = True
    click.echo(f"http://{HOST}:{server.server_address[1]}/")
    click.echo("Ctrl-C ends it.", err=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()


def _handler(draw: Callable[[str], str], version: Callable[[], str]) -> type[BaseHTTPRequestHandler]:
    lock = threading.Lock()
    drawn: dict[str, bytes] = {}

    def current() -> bytes:
        with lock:
            seen = version()
            if seen not in drawn:
                drawn.clear()
                drawn[seen] = draw(seen).encode("utf-8", "replace")
            return drawn[seen]

    class Handler(BaseHTTPRequestHandler):
        """Two addresses: the page, and the version of its data."""

        server_version = "edgebench"
        sys_version = ""
        timeout = 30

        def do_GET(self) -> None:
            if not self._is_ours():
                self._answer(403, "text/plain", b"This address is served to this machine only.")
            elif self.path in ("/", "/index.html"):
                self._answer(200, "text/html", current())
            elif self.path == "/version":
                self._answer(200, "text/plain", version().encode())
            else:
                self._answer(404, "text/plain", b"There is only the page itself: /")

        def _is_ours(self) -> bool:
            """Whether the browser meant this machine: a foreign name that leads here is refused."""
            host = self.headers.get("Host", "")
            here = self.connection.getsockname()[1]
            return host in (f"{HOST}:{here}", f"localhost:{here}")

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("X-Frame-Options", "DENY")
            self.send_header("Cross-Origin-Resource-Policy", "same-origin")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: a page that asks every second would fill the terminal."""

    return Handler
