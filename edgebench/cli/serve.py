"""A page served on localhost and re-rendered when its data changes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import click

from edgebench.errors import EdgebenchError, UsageError

HOST = "127.0.0.1"


def serve(draw: Callable[[str], str], version: Callable[[], str], port: int) -> None:
    """Serve until interrupted. ``draw`` receives the version to render. Raises ``UsageError``."""
    if hasattr(os, "nice"):
        os.nice(10)  # rendering must not slow down the run
    try:
        server = _Server(port, _PageCache(draw, version))
    except OSError as error:
        raise UsageError(
            f"cannot listen on port {port}: {error.strerror}",
            "Choose another with --port, or omit it to use a free one.",
        ) from error
    click.echo(f"http://{HOST}:{server.server_address[1]}/")
    click.echo("Press Ctrl-C to stop.", err=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()


class _PageCache:
    """The page for the newest version of the data, rendered once per version."""

    def __init__(self, draw: Callable[[str], str], version: Callable[[], str]) -> None:
        self.version = version
        self._draw = draw
        self._lock = threading.Lock()
        self._rendered_version, self._page = "", b""

    def page(self) -> bytes:
        """Raises ``EdgebenchError`` if it cannot be rendered."""
        with self._lock:
            version = self.version()
            if version != self._rendered_version:
                self._page = self._draw(version).encode("utf-8", "replace")
                self._rendered_version = version
            return self._page


class _Handler(BaseHTTPRequestHandler):
    """Serves the page and the version of its data."""

    server: _Server
    server_version = "edgebench"
    sys_version = ""
    timeout = 30

    def do_GET(self) -> None:
        try:
            if not self._is_host_local():
                self._answer(403, "text/plain", b"Access is limited to this machine.")
            elif self.path in ("/", "/index.html"):
                self._answer(200, "text/html", self.server.page_cache.page())
            elif self.path == "/version":
                self._answer(200, "text/plain", self.server.page_cache.version().encode())
            else:
                self._answer(404, "text/plain", b"Not found. The report is at /.")
        except EdgebenchError as error:
            self._answer(503, "text/plain", f"{error}. {error.hint}".encode("utf-8", "replace"))

    def _is_host_local(self) -> bool:
        """Whether the Host header names this machine (protects against DNS rebinding)."""
        host = self.headers.get("Host", "")
        port = self.connection.getsockname()[1]
        return host in (f"{HOST}:{port}", f"localhost:{port}")

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        # The browser may have closed the connection.
        with suppress(ConnectionError):
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
        """Log nothing: the page polls every second."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int, page_cache: _PageCache) -> None:
        super().__init__((HOST, port), _Handler)
        self.page_cache = page_cache
