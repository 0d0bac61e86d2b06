"""Every wire does the same things: one suite over all of them, on the real parts of the lab."""

from __future__ import annotations

import hashlib
import http.server
import random
import socket
import threading
import time
import urllib.request

import pytest
from lab.place import Place, free_port

from edgebench.errors import DeviceLost, DeviceRefused, TimedOut
from edgebench.transports import listener

PLACES = ["local", "linux", "termux", "android", "old_android"]
LONG = 60.0
"""Seconds within which everything here happens even on a busy machine."""


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Place:
    return request.getfixturevalue(request.param)


@pytest.fixture
def wire(place: Place):
    transport = place.open()
    yield transport
    transport.close()


def finish(process, timeout: float = LONG):
    """All lines of a process and its status."""
    lines = []
    deadline = time.monotonic() + timeout
    while process.status is None and time.monotonic() < deadline:
        line = process.read(0.5)
        if line is not None:
            lines.append(line)
    return lines, process.status


def wait_for(process, text: str, timeout: float = LONG) -> None:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        line = process.read(0.5)
        if line is not None and text in line.text:
            return
    raise AssertionError(f"{text!r} did not come")


def test_run_keeps_both_streams_and_the_status(wire):
    said = wire.run("echo out; echo err >&2; exit 3")
    assert (said.stdout, said.stderr, said.status) == ("out\n", "err\n", 3)


@pytest.mark.parametrize("status", [0, 1, 126, 255])
def test_every_status_arrives(wire, status):
    assert wire.run(f"exit {status}").status == status


def test_death_by_a_signal_is_128_plus_its_number(wire):
    assert wire.run("kill -9 $$").status == 137
    assert wire.run("sh -c 'kill -15 $$'; exit $?").status == 143


def test_stdin_arrives_and_ends(wire):
    data = "first line\nünïcödé $(id) `id` \\ '\"\n".encode() * 1000
    said = wire.run("sha256sum; exit 5", stdin=data)
    assert said.stdout.split()[0] == hashlib.sha256(data).hexdigest()
    assert said.status == 5


def test_a_command_that_ignores_its_stdin(wire):
    assert wire.run("exit 4", stdin=b"x" * 3_000_000).status == 4


def test_a_command_without_stdin_sees_its_end(wire):
    assert wire.run("cat; echo done").stdout == "done\n"


def test_text_arrives_as_it_was_sent(wire):
    text = "ünïcödé 文字 \U0001f984 'single' \"double\" back\\slash $(id) `id` $HOME %PATH% ^ & | < > * ? ~ !"
    said = wire.run(f"cat <<'END'\n{text}\nEND")
    assert said.stdout == text + "\n"


def test_large_output_is_whole_on_both_streams(wire):
    said = wire.run("i=0; while [ $i -lt 30000 ]; do echo $i a line; echo $i another >&2; i=$((i+1)); done")
    assert said.stdout == "".join(f"{i} a line\n" for i in range(30000))
    assert said.stderr == "".join(f"{i} another\n" for i in range(30000))


def test_megabyte_lines_and_control_characters(wire, place):
    (place.here / "log").write_bytes(b"x" * 3_000_000 + b"\x1b[31m\x01\xff")
    assert wire.run(f"cat '{place.folder}/log'").stdout == "x" * 3_000_000 + "\x1b[31m\x01�"
    lines, status = finish(wire.spawn(f"cat '{place.folder}/log'"))
    assert "".join(line.text for line in lines) == "x" * 3_000_000 + "\x1b[31m\x01�"
    assert status == 0


def test_a_late_command_times_out_and_the_wire_goes_on(wire, sleeper):
    with pytest.raises(TimedOut, match="sleep"):
        wire.run(f"{sleeper.command}; echo", timeout=0.3)
    assert wire.run("echo still here").stdout == "still here\n"
    sleeper.wait_for(0)


def test_a_command_that_is_late_before_it_has_begun_is_ended_too(wire, sleeper):
    with pytest.raises(TimedOut, match="sleep"):
        wire.run(f"{sleeper.command}; echo", timeout=0.0001)
    assert wire.run("sleep 0.3; echo still here").stdout == "still here\n"
    sleeper.wait_for(0)


def test_several_commands_at_once(wire):
    answers: dict[int, str] = {}

    def ask(n: int) -> None:
        answers[n] = wire.run(f"sleep 0.1; echo {n}").stdout

    threads = [threading.Thread(target=ask, args=[n]) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert answers == {n: f"{n}\n" for n in range(5)}


def test_spawn_gives_lines_of_both_streams_and_the_status(wire):
    process = wire.spawn("echo one; echo two >&2; printf 'no end'; exit 7")
    lines, status = finish(process)
    assert status == 7
    assert [line.text for line in lines if line.stream == "out"] == ["one", "no end"]
    assert [line.text for line in lines if line.stream == "err"] == ["two"]
    assert all(0 <= time.monotonic() - line.at < LONG for line in lines)


def test_spawn_gives_lines_as_they_come(wire):
    process = wire.spawn("echo ready; cat; echo over")
    wait_for(process, "ready")
    assert process.status is None
    process.write("ping äöü\n")
    wait_for(process, "ping äöü")
    process.kill()
    _, status = finish(process)
    assert status is not None


def test_read_gives_none_in_time_and_after_the_end(wire, sleeper):
    process = wire.spawn(sleeper.command)
    assert process.read(0.05) is None
    assert process.status is None
    process.kill()
    finish(process)
    assert process.read(0.05) is None


def test_push_and_pull_keep_every_byte(wire, place, tmp_path):
    source = tmp_path / "ein Gerät's $(file)"
    source.write_bytes(random.Random(1).randbytes(3_000_001))
    seen: list[tuple[int, int]] = []
    remote = f"{place.folder}/mödel & 'x'.gguf"
    wire.push(source, remote, lambda done, size: seen.append((done, size)))
    assert (place.here / "mödel & 'x'.gguf").read_bytes() == source.read_bytes()
    assert seen[-1] == (3_000_001, 3_000_001)
    assert seen == sorted(seen)
    back = tmp_path / "back"
    wire.pull(remote, back)
    assert back.read_bytes() == source.read_bytes()


def test_push_of_nothing(wire, place, tmp_path):
    (tmp_path / "empty").touch()
    wire.push(tmp_path / "empty", f"{place.folder}/empty")
    assert (place.here / "empty").read_bytes() == b""


def test_pull_of_nothing_there_is_refused(wire, place, tmp_path):
    with pytest.raises(DeviceRefused, match="missing"):
        wire.pull(f"{place.folder}/missing", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_push_into_a_folder_that_is_not_there_is_refused(wire, tmp_path):
    (tmp_path / "a").write_text("a")
    with pytest.raises(DeviceRefused, match="/proc/nowhere"):
        wire.push(tmp_path / "a", "/proc/nowhere/b")


class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello " * 100_000)

    def log_message(self, *args):
        pass


@pytest.fixture
def web():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def fetch(port: int) -> bytes:
    return urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=LONG).read()


def test_forward_reaches_the_devices_loopback(wire, web):
    with wire.forward(web) as port:
        assert fetch(port) == b"hello " * 100_000
        assert fetch(port) == b"hello " * 100_000


def test_a_forward_is_gone_afterwards(wire, place, web):
    with wire.forward(web) as port:
        pass
    if place.transport["kind"] != "local":
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", port), 1)


def test_forward_to_a_port_where_nobody_listens(wire):
    with wire.forward(free_port()) as port, pytest.raises(OSError):
        fetch(port)
    assert wire.run("echo fine").stdout == "fine\n"


@pytest.mark.parametrize("name", PLACES[1:])
def test_a_closed_transport_says_lost(name, request):
    transport = request.getfixturevalue(name).open()
    transport.close()
    transport.close()
    with pytest.raises(DeviceLost):
        transport.run("echo")


def test_a_caller_that_is_gone_before_its_turn_stops_no_other():
    """What accept() and a first look at a connection say of it; not of the port."""
    gone = socket.socket()
    gone.close()
    outcomes: list[object] = [OSError("closed"), (gone, ""), ConnectionAbortedError("gone")]

    class Server:
        def accept(self):
            outcome = outcomes.pop()
            if isinstance(outcome, OSError):
                raise outcome
            return outcome

    listener._accept(Server(), lambda: pytest.fail("nobody is there"), True, set())
    assert outcomes == []
