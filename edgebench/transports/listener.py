"""A port on the controller's loopback whose connections continue on a device."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Protocol


class Duplex(Protocol):
    """A connection on the device's side: what sockets and SSH channels have in common."""

    def recv(self, size: int, /) -> bytes: ...
    def sendall(self, data: bytes, /) -> object: ...
    def shutdown(self, how: int, /) -> object: ...
    def close(self) -> object: ...


@contextlib.contextmanager
def listen(connect: Callable[[], Duplex], *, half_close: bool) -> Iterator[int]:
    """Yield a port; every connection to it is joined to one that ``connect`` opens.

    ``half_close``: whether the transport can signal that one side has finished sending; if not, the
    device's side is closed as soon as the caller has finished. If ``connect`` raises ``OSError``,
    the caller's connection is closed.
    """
    connections: set[socket.socket | Duplex] = set()
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_accept, args=(server, connect, half_close, connections), daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            # Closing alone does not wake a thread blocked in accept().
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            for connection in list(connections):
                _close(connection)


def _accept(
    server: socket.socket, connect: Callable[[], Duplex], half_close: bool, connections: set[socket.socket | Duplex]
) -> None:
    while True:
        try:
            local, _ = server.accept()
        except ConnectionAbortedError:
            continue  # the caller closed the connection before it was accepted
        except OSError:
            return
        threading.Thread(target=relay, args=(local, connect, half_close, connections), daemon=True).start()


def relay(
    local: socket.socket, connect: Callable[[], Duplex], half_close: bool, connections: set[socket.socket | Duplex]
) -> None:
    """Relay data in both directions until both sides have closed; until then they are in ``connections``."""
    try:
        local.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        remote = connect()
    except OSError:
        local.close()
        return
    pair: set[socket.socket | Duplex] = {local, remote}
    connections |= pair
    upload = threading.Thread(target=_pump, args=(local, remote, half_close), daemon=True)
    upload.start()
    _pump(remote, local, True)
    # The device has closed its side: data that the caller still sends is discarded.
    for connection in pair:
        _close(connection)
    upload.join()
    connections -= pair


def _pump(source: socket.socket | Duplex, sink: socket.socket | Duplex, half_close: bool) -> None:
    with contextlib.suppress(OSError, EOFError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
        if half_close:
            sink.shutdown(socket.SHUT_WR)
        else:
            _close(sink)


def _close(connection: socket.socket | Duplex) -> None:
    with contextlib.suppress(OSError, EOFError):
        connection.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError, EOFError):
        connection.close()
