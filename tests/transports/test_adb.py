"""What a phone or an adb server may refuse, lose and resume."""

from __future__ import annotations

import contextlib
import random
import socket
import subprocess
import threading
from pathlib import Path

import adbutils
import pytest
from lab.android import AdbServer, Phone
from lab.place import Place, free_port

from edgebench.errors import DeviceLost, DeviceRefused, ProfileError, UsageError
from edgebench.transports import adb_shell


@pytest.fixture
def server(tmp_path: Path):
    """An adb server that knows no phone yet."""
    (tmp_path / "adb").mkdir()
    one = AdbServer(tmp_path / "adb")
    yield one
    one.stop()


@pytest.fixture
def phone(tmp_path: Path):
    """Makes phones: ``phone(name, *options of adbd)``."""
    made: list[Phone] = []

    def make(name: str, *options: str) -> Phone:
        made.append(Phone(tmp_path / name, *options))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def place(server: AdbServer, serial: str | None = None, folder: Path = Path("/")) -> Place:
    return Place("phone", "android", {"kind": "adb", "serial": serial, "port": server.port}, "", folder, 0)


@pytest.mark.lab
def test_an_unauthorized_phone_says_what_to_do_on_it(server: AdbServer, phone):
    with pytest.raises(DeviceRefused, match="not allowed this computer") as refused:
        place(server, phone("a", "--unauthorized").serial).open()
    assert "Allow" in refused.value.hint


@pytest.mark.lab
def test_a_phone_that_never_greets(server: AdbServer, phone):
    with pytest.raises(DeviceLost, match="cannot connect"):
        place(server, phone("a", "--mute").serial).open()


@pytest.fixture
def said():
    """An adb server that says about its phones what a test makes it say: ``said(devices)``."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        texts: list[str] = []

        def serve() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                with sock:
                    size = int(sock.recv(4, socket.MSG_WAITALL) or b"0", 16)
                    if not size:
                        continue  # only looked whether anybody listens
                    assert sock.recv(size, socket.MSG_WAITALL) == b"host:devices"
                    sock.sendall(b"OKAY%04x%s" % (len(texts[-1]), texts[-1].encode()))

        threading.Thread(target=serve, daemon=True).start()

        class Server:
            port = listener.getsockname()[1]

        def say(text: str) -> Place:
            texts.append(text)
            return place(Server(), "R58M")

        yield say
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("state", "kind", "advice"),
    [
        ("offline", DeviceLost, "Unplug"),
        ("unauthorized", DeviceRefused, "Allow"),
        ("authorizing", DeviceRefused, "Allow"),
        # adb 29, transport_list.cpp and UsbNoPermissionsLongHelpText
        ("no permissions (missing udev rules? user is in the plugdev group); see [http://…]", DeviceRefused, "udev"),
        ("recovery", DeviceRefused, "Start Android"),
        ("bootloader", DeviceRefused, "Start Android"),
    ],
)
def test_a_phone_that_is_not_ready_says_what_to_do(said, state: str, kind: type, advice: str):
    with pytest.raises(kind, match="R58M") as refused:
        said(f"R58M\t{state}\n").open()
    assert advice in refused.value.hint


@pytest.mark.lab
def test_no_phone(server: AdbServer):
    with pytest.raises(DeviceLost, match="no phone is connected") as lost:
        place(server).open()
    assert "Developer options" in lost.value.hint


@pytest.mark.lab
def test_a_serial_that_is_not_there(server: AdbServer):
    with pytest.raises(DeviceLost, match="R58M is not connected"):
        place(server, "R58M").open()


@pytest.mark.lab
def test_the_only_phone_needs_no_serial_and_two_do(server: AdbServer, phone):
    one, two = phone("a"), phone("b")
    server.adb("connect", one.serial)
    transport = place(server).open()
    assert transport.run("echo in").stdout == "in\n"
    transport.close()
    server.adb("connect", two.serial)
    with pytest.raises(ProfileError, match="2 phones") as refused:
        place(server).open()
    assert one.serial in refused.value.hint
    assert two.serial in refused.value.hint


@pytest.mark.lab
def test_a_phone_on_wifi_that_is_not_there(server: AdbServer):
    with pytest.raises(DeviceLost, match="cannot connect") as lost:
        place(server, f"127.0.0.1:{free_port()}").open()
    assert "wireless debugging" in lost.value.hint


def test_a_remote_adb_server_that_is_not_there():
    class Nowhere:
        port = free_port()

    with pytest.raises(DeviceLost, match=rf"no adb server answers on 127\.0\.0\.1:{Nowhere.port}") as lost:
        place(Nowhere(), "R58M").open(host="127.0.0.1")
    assert "start-server" in lost.value.hint
    with pytest.raises(DeviceLost, match=r"192\.0\.2\.1"):
        place(Nowhere(), "R58M").open(host="192.0.2.1")


def test_something_else_listens_where_the_adb_server_should():
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        stranger.listen()

        def answer() -> None:
            while True:
                try:
                    sock, _ = stranger.accept()
                except OSError:
                    return
                with sock, contextlib.suppress(OSError):
                    sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()

        class Stranger:
            port = stranger.getsockname()[1]

        with pytest.raises(DeviceLost, match=r"the adb server on .* failed"):
            place(Stranger(), "R58M").open()


@pytest.mark.lab
def test_an_adb_server_of_another_version_is_used_and_left_alone(tmp_path: Path, phone, monkeypatch):
    """adbutils' own adb is years younger than Debian's; the ``adb`` program would kill the server."""
    bundled = Path(adbutils.__file__).parent / "binaries"
    versions = {
        subprocess.check_output([path, "version"], text=True).splitlines()[1] for path in (bundled / "adb", "adb")
    }
    assert len(versions) == 2
    monkeypatch.setenv("PATH", str(bundled), prepend=":")
    (tmp_path / "server").mkdir()
    server = AdbServer(tmp_path / "server")
    monkeypatch.undo()
    transport = place(server, phone("a").serial).open()
    assert transport.run("exit 7").status == 7
    transport.close()
    server.stop()


def test_no_forward_is_left_on_the_server(adb_server: AdbServer, android: Place):
    transport = android.open()
    with transport.forward(free_port()):
        assert adb_server.adb("forward", "--list").stdout.strip() == ""
    transport.close()


def test_a_command_too_long_for_adb_is_named(android: Place):
    transport = android.open()
    with pytest.raises(UsageError, match="too long"):
        transport.run("echo " + "x" * 70_000)
    assert len(transport.run("echo " + "x" * 50_000).stdout) == 50_001
    transport.close()


@pytest.mark.parametrize("name", ["android", "old_android"])
def test_a_full_disk_is_named(name: str, request: pytest.FixtureRequest, tmp_path: Path):
    there: Place = request.getfixturevalue(name)
    source = tmp_path / "model"
    source.write_bytes(bytes(30_000_000))
    (there.here / "full").symlink_to("/dev/full")
    transport = there.open()
    with pytest.raises(DeviceRefused, match="No space left") as refused:
        transport.push(source, f"{there.folder}/full")
    transport.close()
    assert "records" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.fixture(params=["android", "old_android"])
def thin(request: pytest.FixtureRequest, proxy):
    """A phone behind a wire that can be cut, and the wire."""
    there = request.getfixturevalue(request.param)
    wire = proxy(there.port)
    transport = there.make(serial=f"127.0.0.1:{wire.port}")
    transport.keep_alive_s = 0.2
    transport.open()
    yield transport, wire, there
    transport.close()


@pytest.mark.parametrize("fault", ["cut", "close", "hole"])
def test_a_broken_wire_is_noticed_by_everyone_who_waits(thin, fault: str, sleeper):
    transport, wire, _ = thin
    process = transport.spawn(f"echo started; {sleeper.command}")
    while process.read(1) is None:
        pass
    answers: list[BaseException] = []

    def ask() -> None:
        try:
            transport.run(sleeper.command, timeout=300)
        except BaseException as error:  # noqa: BLE001
            answers.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    sleeper.wait_for(2)
    transport.silence_s = 1.0  # not before: a busy machine is silent, too
    getattr(wire, fault)()
    asking.join(60)
    assert [type(answer) for answer in answers] == [DeviceLost]
    with pytest.raises(DeviceLost):
        while True:
            process.read(1)
    with pytest.raises(DeviceLost):
        process.write("beat\n")
    assert process.status is None


def test_a_push_goes_on_where_it_was_cut(thin, tmp_path: Path):
    transport, wire, there = thin
    source = tmp_path / "model"
    source.write_bytes(random.Random(2).randbytes(20_000_000))
    wire.cut_after(10_000_000)
    with pytest.raises(DeviceLost):
        transport.push(source, f"{there.folder}/model.part")
    arrived = (there.here / "model.part").stat().st_size
    assert 0 < arrived < 15_000_000
    transport.close()
    wire.cut_after(1 << 60)
    before = wire.sent
    transport.open()
    transport.push(source, f"{there.folder}/model.part")
    assert (there.here / "model.part").read_bytes() == source.read_bytes()
    assert wire.sent - before < 20_000_000 - arrived + 500_000


def test_a_push_whose_link_is_let_go_of_says_lost(android: Place, tmp_path: Path):
    """The keep-alive hangs up for all, in a thread of its own, between two writes."""
    transport = android.open()
    source = tmp_path / "model"
    source.write_bytes(bytes(5_000_000))
    with pytest.raises(DeviceLost):
        transport.push(source, f"{android.folder}/model.part", lambda done, size: transport._close_sockets())
    transport.close()


@pytest.mark.lab
def test_a_server_that_goes_away_is_a_loss_and_no_other_is_started(server: AdbServer, phone, monkeypatch):
    """adbutils would start one on adb's own port, which stays."""
    transport = place(server, phone("a").serial).open()
    own = free_port()
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(own))
    server.stop()
    with pytest.raises(DeviceLost):
        transport.run("echo")
    transport.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", own))


def answer(*packets: bytes) -> socket.socket:
    """The end of a stream on which all of a phone's answer has come."""
    here, there = socket.socketpair()
    with there:
        there.sendall(b"".join(packets))
    return here


def packet(kind: int, data: bytes) -> bytes:
    return adb_shell.PACKET.pack(kind, len(data)) + data


def test_an_answer_that_does_not_begin_with_a_number_is_none():
    said = packet(adb_shell.STDOUT, b"WARNING: linker\n"), packet(adb_shell.EXIT, b"\0")
    shell = adb_shell.Shell(answer(*said), has_shell_v2=True, prints_group=True)
    assert shell.collect() is None
    assert (shell.group, shell.started.is_set()) == (None, True)


def test_an_end_without_a_status_is_a_loss():
    class Phone:
        def release(self, sock: socket.socket) -> None:
            sock.close()

        def loss_message(self) -> str:
            return "gone"

    shell = adb_shell.Shell(answer(packet(adb_shell.STDOUT, b"x\n"), packet(adb_shell.EXIT, b"")), has_shell_v2=True)
    process = adb_shell.AdbProcess(Phone(), shell)
    with pytest.raises(DeviceLost, match="gone"):
        while True:
            process.read(1)


def test_a_pull_that_breaks_off_is_a_loss_and_leaves_nothing(thin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    transport, wire, there = thin
    (there.here / "model").write_bytes(random.Random(2).randbytes(3_000_000))
    blocks = transport._device.sync.iter_content

    class Cut:
        def iter_content(self, path: str):
            for block in blocks(path):
                wire.close()
                yield block

    monkeypatch.setattr(type(transport._device), "sync", Cut())
    with pytest.raises(DeviceLost):
        transport.pull(f"{there.folder}/model", tmp_path / "back")
    assert not list(tmp_path.glob("back*"))
