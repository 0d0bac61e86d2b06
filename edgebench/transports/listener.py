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
    """Give the port; every connection to it is joined to one that ``connect`` makes.

    ``half_close``: whether the wire can pass on that one side has finished sending; where it can't, a
    caller that has finished is taken to have gone, and the device's side learns that. Where
    ``connect`` raises ``OSError``, the caller's connection is closed.
    """
    connections: set[socket.socket | Duplex] = set()
    with socket.create_server(("127.0.0.1", 0)) as server:
        accepting = threading.Thread(target=_accept, args=(server, connect, half_close, connections), daemon=True)
        accepting.start()
        try:
            yield server.getsockname()[1]
        finally:
            # Closing alone does not wake a thread that waits in accept().
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            for connection in list(connections):
                _close(connection)


def _accept(
    server: socket.socket, connect: Callable[[], Duplex], half_close: bool, connections: set[socket.socket | Duplex]
) -> None:
    while True:
        try:
            here, _ = server.accept()
        except ConnectionAbortedError:
            continue  # a caller that went before its turn came
        except OSError:
            return
        threading.Thread(target=join, args=(here, connect, half_close, connections), daemon=True).start()


def join(
    here: socket.socket, connect: Callable[[], Duplex], half_close: bool, connections: set[socket.socket | Duplex]
) -> None:
    """Pass on what comes from either side until both have ended; meanwhile they are in ``connections``."""
    try:
        here.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        there = connect()
    except OSError:
        here.close()
        return
    pair: set[socket.socket | Duplex] = {here, there}
    connections |= pair
    up = threading.Thread(target=_pump, args=(here, there, half_close), daemon=True)
    up.start()
    _pump(there, here, True)
    # The device has said its last word: what the caller still sends goes nowhere.
    for connection in pair:
        _close(connection)
    up.join()
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
