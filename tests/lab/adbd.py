"""A small, strict adbd: the device's end of the ADB protocol over TCP, for a real adb server.

Speaks what system/core/adb/protocol.txt, SERVICES.TXT, SYNC.TXT and shell_service.cpp say: streams
with one unacknowledged write at a time, ``shell,v2,raw:``, ``exec:``, ``tcp:`` and ``sync:``. What
isn't in there breaks the connection. Commands run in the shell that it is given.

    python adbd.py --shell /usr/bin/mksh --path /folder --home /data/local/tmp [--features shell_v2,…]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

CNXN, AUTH, OPEN, OKAY, CLSE, WRTE = (
    int.from_bytes(w, "little") for w in (b"CNXN", b"AUTH", b"OPEN", b"OKAY", b"CLSE", b"WRTE")
)
VERSION = 0x01000001
MAX_PAYLOAD = 1 << 20
HEADER = struct.Struct("<6I")
PACKET = struct.Struct("<BI")
STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)
SYNC_CHUNK = 64 * 1024


class Violation(Exception):
    """The other side does what the protocol forbids."""


class Stream:
    """One stream of a connection, from the device's side: bytes come, bytes go, it closes."""

    def __init__(self, connection: Connection, ours: int, theirs: int) -> None:
        self._connection, self.ours, self.theirs = connection, ours, theirs
        self._incoming: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._rest = memoryview(b"")
        self._acknowledged = threading.Event()
        self._acknowledged.set()
        self.closed = False
        self._writing = threading.Lock()

    # From the connection's reader:
    def arrived(self, data: bytes) -> None:
        # A host whose client hangs up sends what is left without waiting for the acknowledgement
        # (adb 29, local_socket_event_func with force_eof); adbd takes it.
        self._incoming.put(data)

    def acknowledged(self) -> None:
        if self._acknowledged.is_set():
            raise Violation("an acknowledgement of nothing")
        self._acknowledged.set()

    def ended(self) -> None:
        self.closed = True
        self._acknowledged.set()
        self._incoming.put(None)

    # From the service's threads:
    def recv(self) -> bytes:
        """The next bytes, b"" at the end."""
        if self.closed and self._incoming.empty():
            return b""
        data = self._incoming.get()
        if data is None:
            return b""
        self._connection.send(OKAY, self.ours, self.theirs)
        return data

    def read(self, size: int) -> memoryview:
        """Exactly so many bytes, copied only where they came in several messages."""
        parts, missing = [], size
        while missing > len(self._rest):
            parts.append(self._rest)
            missing -= len(self._rest)
            data = self.recv()
            if not data:
                raise EOFError
            self._rest = memoryview(data)
        parts.append(self._rest[:missing])
        self._rest = self._rest[missing:]
        return parts[0] if len(parts) == 1 else memoryview(b"".join(parts))

    def send(self, data: bytes) -> None:
        with self._writing:
            for i in range(0, len(data), MAX_PAYLOAD):
                self._acknowledged.wait()
                if self.closed:
                    raise BrokenPipeError
                self._acknowledged.clear()
                self._connection.send(WRTE, self.ours, self.theirs, data[i : i + MAX_PAYLOAD])

    def close(self) -> None:
        with self._writing:
            self._acknowledged.wait()
        self._connection.drop(self)


class Connection:
    """One host: the messages, and the streams in them."""

    def __init__(self, sock: socket.socket, options: argparse.Namespace) -> None:
        self._sock, self._options = sock, options
        self._lock = threading.Lock()
        self._streams: dict[int, Stream] = {}
        self._last = 0

    def send(self, command: int, one: int, two: int, data: bytes = b"") -> None:
        header = HEADER.pack(command, one, two, len(data), sum(data) if len(data) < 1000 else 0, command ^ 0xFFFFFFFF)
        with self._lock, contextlib.suppress(OSError):
            self._sock.sendall(header + data)

    def drop(self, stream: Stream) -> None:
        if self._streams.pop(stream.ours, None) is not None:
            self.send(CLSE, stream.ours, stream.theirs)
            stream.ended()

    def serve(self) -> None:
        try:
            self._greet()
            while True:
                self._take(*self._message())
        except (EOFError, OSError):
            pass
        except Violation as violation:
            print(f"violation: {violation}", file=sys.stderr, flush=True)
        finally:
            self._sock.close()
            for stream in list(self._streams.values()):
                stream.ended()

    def _message(self) -> tuple[int, int, int, bytes]:
        command, one, two, size, _, magic = HEADER.unpack(self._exactly(HEADER.size))
        if magic != command ^ 0xFFFFFFFF:
            raise Violation("wrong magic")
        if size > MAX_PAYLOAD:
            raise Violation(f"a payload of {size} bytes")
        return command, one, two, self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        block = bytearray(size)
        view = memoryview(block)
        while view:
            got = self._sock.recv_into(view)
            if not got:
                raise EOFError
            view = view[got:]
        return bytes(block)

    def _greet(self) -> None:
        command, version, _, _ = self._message()
        if command != CNXN or version < 0x01000000:
            raise Violation("no greeting")
        if self._options.mute:
            while True:
                self._message()
        if self._options.unauthorized:
            # The token is never accepted: the person at the phone has not tapped "allow".
            while True:
                self.send(AUTH, 1, 0, os.urandom(20))
                command, kind, _, _ = self._message()
                if command != AUTH or kind not in (2, 3):
                    raise Violation("not the answer to a token")
                while kind == 3:
                    self._message()
        features = f";features={self._options.features}" if self._options.features else ""
        banner = f"device::ro.product.name=lab;ro.product.model=Lab Phone;ro.product.device=lab{features}"
        self.send(CNXN, VERSION, MAX_PAYLOAD, banner.encode())

    def _take(self, command: int, one: int, two: int, data: bytes) -> None:
        if command == OPEN:
            self._open(one, data)
            return
        stream = self._streams.get(two)
        if stream is None:
            if command == WRTE:
                self.send(CLSE, 0, one)
            return
        if stream.theirs != one:
            raise Violation("a stream of somebody else")
        if command == WRTE:
            stream.arrived(data)
        elif command == OKAY:
            stream.acknowledged()
        elif command == CLSE:
            self._streams.pop(two)
            stream.ended()
            self.send(CLSE, two, one)
        else:
            raise Violation(f"command {command:08x}")

    def _open(self, theirs: int, name: bytes) -> None:
        service = name.rstrip(b"\0").decode()
        serve = self._service(service)
        if serve is None:
            self.send(CLSE, 0, theirs)
            return
        self._last += 1
        stream = self._streams[self._last] = Stream(self, self._last, theirs)
        threading.Thread(target=self._run, args=(serve, stream), daemon=True).start()

    def _service(self, name: str) -> Callable[[Stream], None] | None:
        kind, _, rest = name.partition(":")
        options = self._options
        if kind == "shell,v2,raw" and "shell_v2" in options.features.split(","):
            return lambda stream: shell(stream, options, rest)
        if kind == "exec":
            return lambda stream: execute(stream, options, rest)
        if kind == "sync":
            return sync
        if kind == "tcp":
            try:
                far = socket.create_connection(("127.0.0.1", int(rest)), 10)
            except (OSError, ValueError):
                return None
            return lambda stream: join(stream, far)
        return None

    def _run(self, serve: Callable[[Stream], None], stream: Stream) -> None:
        self.send(OKAY, stream.ours, stream.theirs)
        try:
            serve(stream)
        except (EOFError, OSError):
            pass
        finally:
            stream.close()


def start(options: argparse.Namespace, command: str, **streams: object) -> subprocess.Popen[bytes]:
    environment = {"PATH": options.path, "TERM": "dumb", "ANDROID_DATA": "/data", "TMPDIR": options.home}
    return subprocess.Popen(
        [options.shell, "-c", command],
        env=environment,
        cwd=options.home,
        start_new_session=True,
        **streams,  # type: ignore[call-overload]
    )


def shell(stream: Stream, options: argparse.Namespace, command: str) -> None:
    """shell v2: packets of (id, length, bytes), the exit status as the last one.

    As in adbd (shell_service.cpp, kRaw) a command's input and output are one socket, its errors another:
    ``/dev/stdout`` can't be opened again.
    """
    (both, theirs), (errors, their_errors) = socket.socketpair(), socket.socketpair()
    process = start(options, command, stdin=theirs, stdout=theirs, stderr=their_errors)
    theirs.close()
    their_errors.close()

    def pump(kind: int, source: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                stream.send(PACKET.pack(kind, len(data)) + data)

    threads = [
        threading.Thread(target=pump, args=(STDOUT, both), daemon=True),
        threading.Thread(target=pump, args=(STDERR, errors), daemon=True),
    ]
    for thread in threads:
        thread.start()
    threading.Thread(target=shell_input, args=(stream, process, both), daemon=True).start()
    for thread in threads:
        thread.join()
    status = process.wait()
    both.close()
    errors.close()
    stream.send(PACKET.pack(EXIT, 1) + bytes([status if status >= 0 else 128 - status]))


def shell_input(stream: Stream, process: subprocess.Popen[bytes], sock: socket.socket) -> None:
    try:
        while True:
            kind, size = PACKET.unpack(stream.read(PACKET.size))
            data = stream.read(size)
            with contextlib.suppress(OSError):
                if kind == STDIN:
                    sock.sendall(data)
                elif kind == CLOSE_STDIN:
                    sock.shutdown(socket.SHUT_WR)
    except EOFError:
        # As adbd: the stream is gone, so the shell, and only the shell, hears SIGHUP.
        if process.poll() is None:
            os.kill(process.pid, signal.SIGHUP)
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_WR)


def execute(stream: Stream, options: argparse.Namespace, command: str) -> None:
    """exec: one socket for all three streams, no status, no signal when the stream is gone."""
    near, far = socket.socketpair()
    start(options, command, stdin=far, stdout=far, stderr=far)
    far.close()
    join(stream, near)


def join(stream: Stream, sock: socket.socket) -> None:
    def up() -> None:
        with contextlib.suppress(OSError):
            while data := stream.recv():
                sock.sendall(data)
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    threading.Thread(target=up, daemon=True).start()
    while data := sock.recv(1 << 16):
        stream.send(data)


def sync(stream: Stream) -> None:
    """SYNC.TXT: STAT, LIST, SEND and RECV."""
    while True:
        request, size = struct.unpack("<4sI", stream.read(8))
        name = bytes(stream.read(size)).decode()
        if request == b"QUIT":
            return
        try:
            {b"STAT": sync_stat, b"LIST": sync_list, b"SEND": sync_send, b"RECV": sync_recv}[request](stream, name)
        except KeyError:
            raise EOFError from None
        except OSError as error:
            words = os.strerror(error.errno or 0).encode()
            stream.send(b"FAIL" + struct.pack("<I", len(words)) + words)


def sync_stat(stream: Stream, name: str) -> None:
    try:
        found = Path(name).lstat()
        numbers = (found.st_mode, found.st_size & 0xFFFFFFFF, int(found.st_mtime))
    except OSError:
        numbers = (0, 0, 0)
    stream.send(b"STAT" + struct.pack("<3I", *numbers))


def sync_list(stream: Stream, name: str) -> None:
    for path in sorted(Path(name).iterdir()) if Path(name).is_dir() else []:
        found, label = path.lstat(), path.name.encode()
        numbers = (found.st_mode, found.st_size & 0xFFFFFFFF, int(found.st_mtime), len(label))
        stream.send(b"DENT" + struct.pack("<4I", *numbers) + label)
    stream.send(b"DONE" + bytes(16))


def sync_send(stream: Stream, name: str) -> None:
    path, _, mode = name.rpartition(",")
    failed: OSError | None = None
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(Path(path).open("wb"))
        except OSError as error:
            failed = error
        while True:
            kind, size = struct.unpack("<4sI", stream.read(8))
            if kind == b"DONE":
                break
            if kind != b"DATA" or size > SYNC_CHUNK:
                raise EOFError
            data = stream.read(size)
            if failed is None:
                file.write(data)
    if failed is not None:
        raise failed
    Path(path).chmod(stat.S_IMODE(int(mode)))
    stream.send(b"OKAY" + bytes(4))


def sync_recv(stream: Stream, name: str) -> None:
    with Path(name).open("rb") as file:
        while data := file.read(SYNC_CHUNK):
            stream.send(b"DATA" + struct.pack("<I", len(data)) + data)
    stream.send(b"DONE" + bytes(4))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shell", required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--home", required=True)
    parser.add_argument("--features", default="")
    parser.add_argument("--unauthorized", action="store_true")
    parser.add_argument("--mute", action="store_true", help="never answer the greeting")
    options = parser.parse_args()
    server = socket.create_server(("127.0.0.1", 0))
    print(server.getsockname()[1], flush=True)
    while True:
        sock, _ = server.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=Connection(sock, options).serve, daemon=True).start()


if __name__ == "__main__":
    main()
