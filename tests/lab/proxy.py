"""A wire that can be cut: a TCP proxy in front of a part of the lab."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

import pytest


class Proxy:
    """Passes bytes on until told otherwise; ``sent`` counts what went towards the device."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.sent = 0
        self._limit: int | None = None
        self._open = threading.Event()
        self._open.set()
        self._refuse = False
        self._sockets: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """The peer resets: what a rebooted router does."""
        for s in list(self._sockets):
            with contextlib.suppress(OSError):
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """The peer hangs up."""
        self._limit = None
        for s in list(self._sockets):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
            s.close()

    def hole(self) -> None:
        """Nothing arrives any more and no error comes: out of range."""
        self._open.clear()

    def heal(self) -> None:
        self._open.set()
        self._refuse = False

    def refuse(self) -> None:
        """Hang up on new connections at once."""
        self._refuse = True

    def cut_after(self, sent: int) -> None:
        """Cut once so many more bytes went towards the device."""
        self._limit = self.sent + sent

    def stop(self) -> None:
        self._open.set()
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            if self._refuse:
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                near.close()
                continue
            self._sockets |= {near, far}
            for source, sink, up in ((near, far, True), (far, near, False)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._pump, args=(source, sink, up), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        try:
            while data := source.recv(1 << 16):
                self._open.wait()
                sink.sendall(data)
                if up:
                    self.sent += len(data)
                    if self._limit is not None and self.sent >= self._limit:
                        self.cut()
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            for s in (source, sink):
                s.close()
        finally:
            self._sockets.discard(source)


@pytest.fixture
def proxy():
    """Makes proxies in front of a port: ``proxy(port)``."""
    made: list[Proxy] = []

    def make(port: int) -> Proxy:
        made.append(Proxy(port))
        return made[-1]

    yield make
    for one in made:
        one.stop()
