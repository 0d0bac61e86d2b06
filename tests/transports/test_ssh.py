"""What SSH may refuse, lose and resume."""

from __future__ import annotations

import random
import re
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import x25519
from lab.place import Place, free_port
from lab.sshd import Sshd

import edgebench.transports.ssh
from edgebench.errors import DeviceLost, DeviceRefused, ProfileError, TimedOut
from edgebench.transports import ssh_login
from edgebench.transports.ssh_known import UnknownHostKey


def log_since(server: Sshd, start: int) -> str:
    return server.log.read_bytes()[start:].decode()


def fingerprint(public_key: Path) -> str:
    return subprocess.check_output(["ssh-keygen", "-lf", public_key], text=True).split()[1]


def test_a_changed_host_key_is_refused_and_nothing_is_sent(linux: Place, sshd_server: Sshd, tmp_path: Path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
    known = tmp_path / "Käthe's known_hosts"
    known.write_text(f"[127.0.0.1]:{linux.port} {(tmp_path / 'other.pub').read_text()}")
    start = sshd_server.log.stat().st_size
    with pytest.raises(DeviceRefused, match="has changed") as refused:
        linux.open(known_hosts=str(known))
    assert fingerprint(sshd_server.folder / "host_key.pub") in str(refused.value)
    assert fingerprint(tmp_path / "other.pub") in str(refused.value)
    assert "Accepted" not in log_since(sshd_server, start)
    assert "Failed publickey" not in log_since(sshd_server, start)
    # What it says to type works.
    command = re.search(r"\((ssh-keygen .*)\)", refused.value.hint)
    assert command
    subprocess.run(command[1], shell=True, check=True, capture_output=True)
    with pytest.raises(UnknownHostKey):
        linux.open(known_hosts=str(known))


def test_an_unknown_host_key_is_refused_shown_and_can_be_trusted(linux: Place, sshd_server: Sshd, tmp_path: Path):
    known = tmp_path / "new folder" / "known_hosts"
    with pytest.raises(UnknownHostKey, match="is unknown") as refused:
        linux.open(known_hosts=str(known))
    assert refused.value.fingerprint == fingerprint(sshd_server.folder / "host_key.pub")
    assert "edgebench devices trust" in refused.value.hint
    refused.value.trust()
    transport = linux.open(known_hosts=str(known))
    assert transport.run("echo in").stdout == "in\n"
    transport.close()


def test_trust_keeps_what_was_known(linux: Place, tmp_path: Path):
    known = tmp_path / "known_hosts"
    known.write_text("# mine, without an end")
    with pytest.raises(UnknownHostKey) as refused:
        linux.open(known_hosts=str(known))
    refused.value.trust()
    assert known.read_text().startswith("# mine, without an end\n[127.0.0.1]:")


def test_a_port_where_nobody_listens(linux: Place):
    with pytest.raises(DeviceLost, match="no response from"):
        linux.open(port=free_port())


def test_a_name_that_does_not_exist(linux: Place):
    with pytest.raises(DeviceLost, match="cannot resolve"):
        linux.open(host="no-such-device.invalid")


def test_a_port_where_something_else_listens(linux: Place, proxy):
    hangs_up = proxy(linux.port)
    hangs_up.refuse()
    with pytest.raises(DeviceLost, match="no SSH connection"):
        linux.open(port=hangs_up.port)


@pytest.mark.parametrize("host", ["x" * 70, "a..b"])
def test_a_name_that_no_host_can_have(linux: Place, host: str):
    with pytest.raises(DeviceLost, match="cannot resolve"):
        linux.open(host=host)


@pytest.mark.parametrize("content", [b"Host *\n Port many\n", b"\xff\xfe", b'Host "x\n', b"CanonicalizeHostname yes\n"])
def test_a_configuration_that_is_not_understood_is_named(linux: Place, tmp_path: Path, monkeypatch, content: bytes):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_bytes(content)
    with pytest.raises(ProfileError, match=r"cannot parse .*\.ssh/config"):
        linux.open(host="somehost", port=None)


@pytest.mark.parametrize("line", [b"h ssh-ed25519 A\n", b"h ssh-rsa AAAAB3NzaC1yc2E\n", b"\xff\xfe\n"])
def test_known_hosts_that_cannot_be_read_are_named(linux: Place, tmp_path: Path, line: bytes):
    known = tmp_path / "known"
    known.write_bytes(line)
    with pytest.raises(ProfileError, match=re.escape(str(known))):
        linux.open(known_hosts=str(known))


def test_trust_into_what_is_no_file(linux: Place, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UnknownHostKey) as refused:
        linux.open(known_hosts=str(tmp_path / "file" / "known_hosts"))
    with pytest.raises(ProfileError, match=r"Not a directory|File exists"):
        refused.value.trust()


def test_a_key_of_a_kind_that_logs_nobody_in(linux: Place, tmp_path: Path):
    key = tmp_path / "key"
    pem, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    key.write_bytes(x25519.X25519PrivateKey.generate().private_bytes(pem, plain, serialization.NoEncryption()))
    with pytest.raises(ProfileError, match="not a readable private key"):
        linux.open(key=str(key))


@pytest.mark.parametrize("content", [None, b"", b"not a key", b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"])
def test_a_bad_key_file_is_named(linux: Place, tmp_path: Path, content: bytes | None):
    key = tmp_path / "bad key"
    if content is not None:
        key.write_bytes(content)
    with pytest.raises(ProfileError, match="bad key"):
        linux.open(key=str(key))


def test_a_key_that_is_not_accepted(linux: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "mine"], check=True)
    with pytest.raises(DeviceRefused, match="accepts none of the keys"):
        linux.open(key=str(tmp_path / "mine"))


def test_a_locked_key_opens_with_the_agent(linux: Place, sshd_server: Sshd, tmp_path: Path, monkeypatch):
    key = tmp_path / "locked"
    key.write_bytes(sshd_server.key.read_bytes())
    key.chmod(0o600)
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "a passphrase", "-f", key], check=True)
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with pytest.raises(DeviceRefused):
        linux.open(key=str(key))
    socket = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        while not socket.exists():
            time.sleep(0.01)
        subprocess.run(["ssh-add", "-q", sshd_server.key], check=True, env={"SSH_AUTH_SOCK": str(socket)})
        transport = linux.open(key=str(key))
        assert transport.run("echo in").stdout == "in\n"
        transport.close()
    finally:
        agent.terminate()
        agent.wait()


def test_ssh_config_and_jump_hosts(linux: Place, termux_server: Sshd, sshd_server: Sshd, tmp_path, monkeypatch):
    """``thephone`` is Termux, reached through the Linux machine."""
    monkeypatch.setenv("HOME", str(tmp_path))
    known = tmp_path / "known hosts"
    known.write_text(sshd_server.known_hosts.read_text() + termux_server.known_hosts.read_text())
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text(
        f"Host thephone\n HostName 127.0.0.1\n Port {termux_server.port}\n IdentityFile {termux_server.key}\n"
        f" ProxyJump thehop\n\nHost thehop\n HostName 127.0.0.1\n Port {sshd_server.port}\n"
        f" IdentityFile {sshd_server.key}\n"
    )
    start = sshd_server.log.stat().st_size
    jumped = linux.make(host="thephone", port=None, user=None, key=None, known_hosts=str(known))
    jumped.open()
    assert jumped.run("echo $TERMUX_VERSION").stdout == "0.118.0\n"
    assert "Accepted publickey" in log_since(sshd_server, start)
    jumped.close()


def test_a_jump_host_of_the_profile(linux: Place, sshd_server: Sshd):
    transport = linux.open(jump=f"{linux.transport['user']}@127.0.0.1:{sshd_server.port}")
    assert transport.run("echo in").stdout == "in\n"
    transport.close()


def test_a_jump_host_that_cannot_reach_the_device(linux: Place):
    with pytest.raises(DeviceLost, match="no SSH connection"):
        linux.open(jump=f"127.0.0.1:{linux.port}", port=free_port())


@pytest.mark.lab
def test_few_sessions_are_named(tmp_path: Path):
    server = Sshd(tmp_path / "sshd", "MaxSessions 1\n")
    try:
        transport = Place("few", "linux", server.transport, "", tmp_path, server.port).open()
        first = transport.spawn("cat")
        with pytest.raises(DeviceRefused, match="one more session") as refused:
            transport.run("echo")
        assert "MaxSessions" in refused.value.hint
        first.kill()
        transport.close()
    finally:
        server.stop()


@pytest.mark.lab
def test_no_sftp_is_named(tmp_path: Path):
    server = Sshd(tmp_path / "sshd")
    config = tmp_path / "sshd" / "sshd_config"
    server.stop()
    config.write_text(config.read_text().replace("Subsystem", "#Subsystem"))
    server.start()
    try:
        transport = Place("plain", "linux", server.transport, "", tmp_path, server.port).open()
        with pytest.raises(DeviceRefused, match="no SFTP"):
            transport.push(config, str(tmp_path / "x"))
        transport.close()
    finally:
        server.stop()


@pytest.mark.lab
def test_a_login_shell_that_talks_where_files_are_sent_is_named(tmp_path: Path):
    """As ``echo`` in a ``~/.bashrc`` does before an sftp-server of its own."""
    talks = tmp_path / "talks"
    talks.write_text("#!/bin/sh\necho Welcome\nexec /usr/lib/openssh/sftp-server\n")
    talks.chmod(0o755)
    server = Sshd(tmp_path / "sshd")
    server.stop()
    config = server.folder / "sshd_config"
    config.write_text(config.read_text().replace("internal-sftp", str(talks)))
    server.start()
    try:
        transport = Place("talks", "linux", server.transport, "", tmp_path, server.port).open()
        for act in (lambda: transport.push(talks, str(tmp_path / "x")), lambda: transport.pull(str(talks), tmp_path)):
            with pytest.raises(DeviceRefused, match="no SFTP") as refused:
                act()
            assert "bashrc" in refused.value.hint
        transport.close()
    finally:
        server.stop()


@pytest.mark.lab
def test_a_login_shell_that_hangs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(edgebench.transports.ssh, "SHELL_S", 0.5)
    server = Sshd(tmp_path / "sshd", "ForceCommand sleep 20\n")
    try:
        transport = Place("asleep", "linux", server.transport, "", tmp_path, server.port).make()
        with pytest.raises(DeviceLost, match="its shell did not respond"):
            transport.open()
        with pytest.raises(DeviceLost, match="is closed"):
            transport.run("echo")
    finally:
        server.stop()


@pytest.fixture
def thin(linux: Place, sshd_server: Sshd, proxy):
    """The Linux machine behind a wire that can be cut, and the wire."""
    wire = proxy(linux.port)
    sshd_server.knows(wire.port)
    transport = linux.make(port=wire.port)
    transport.keep_alive_s = 0.2
    transport.open()
    yield transport, wire
    transport.close()


@pytest.mark.parametrize("fault", ["cut", "close", "hole"])
def test_a_broken_wire_is_noticed_by_everyone_who_waits(thin, fault: str, sleeper):
    transport, wire = thin
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
    with pytest.raises(DeviceLost):
        transport.run("echo")


class Mute:
    """A socket that has just broken: the next bytes find out, nobody else has noticed yet."""

    def __init__(self, real) -> None:
        self._real = real

    def __getattr__(self, name: str):
        return getattr(self._real, name)

    def send(self, data: bytes) -> int:
        raise BrokenPipeError(32, "Broken pipe")


def test_the_first_to_find_the_wire_broken_says_lost(thin, sleeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """paramiko raises EOFError then, which a terminal's user would be told as Ctrl-C."""
    transport, _ = thin
    process = transport.spawn(f"echo started; {sleeper.command}")
    while process.read(1) is None:
        pass
    source = tmp_path / "model"
    source.write_bytes(b"weights")
    packets = transport._transport().packetizer
    transport._closing.set()  # the keep-alive's own question would end the wire for all
    monkeypatch.setattr(packets, "_Packetizer__socket", Mute(packets._Packetizer__socket))
    for act in (
        lambda: transport.run("echo"),
        lambda: transport.spawn("echo"),
        lambda: process.write("beat\n"),
        lambda: transport.push(source, str(tmp_path / "there")),
        lambda: transport.pull(str(source), tmp_path / "here"),
    ):
        assert transport._transport().is_active()
        with pytest.raises(DeviceLost):
            act()
    with transport.forward(22) as port, socket.create_connection(("127.0.0.1", port)) as caller:
        assert caller.recv(1) == b""
    process.kill()
    assert transport._transport().is_active()


FLOOD = "head -c 1000000 /dev/zero | tr '\\0' x"
"""More than comes without a word from here that there is room for it."""


def test_a_stream_that_breaks_off_while_it_is_read_is_lost(thin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The word that there is room for more finds the wire broken; what has come is not the whole answer."""
    transport, _ = thin
    transport._closing.set()
    go = tmp_path / "go"
    process = transport.spawn(f"echo started; until [ -e {go} ]; do sleep 0.05; done; {FLOOD}")
    while process.read(1) is None:
        pass
    answers: list[object] = []

    def ask() -> None:
        try:
            answers.append(transport.run(f"touch {go}.ready; until [ -e {go} ]; do sleep 0.05; done; {FLOOD}"))
        except BaseException as error:  # noqa: BLE001
            answers.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    while not Path(f"{go}.ready").exists():
        time.sleep(0.01)
    packets = transport._transport().packetizer
    monkeypatch.setattr(packets, "_Packetizer__socket", Mute(packets._Packetizer__socket))
    go.touch()
    asking.join(60)
    assert [type(answer) for answer in answers] == [DeviceLost]
    with pytest.raises(DeviceLost):
        while process.status is None:
            process.read(1)


def test_a_device_behind_a_jump_host_is_let_go_of_when_that_ones_wire_broke(
    linux: Place, sshd_server: Sshd, monkeypatch: pytest.MonkeyPatch
):
    transport = linux.open(jump=f"{linux.transport['user']}@127.0.0.1:{sshd_server.port}")
    transport._closing.set()
    packets = ssh_login.open_transport(transport._clients[0]).packetizer
    monkeypatch.setattr(packets, "_Packetizer__socket", Mute(packets._Packetizer__socket))
    transport.close()
    assert transport._clients == []


class Garbler(Mute):
    """A socket on which other bytes arrive than were sent."""

    def recv(self, size: int) -> bytes:
        data: bytes = self._real.recv(size)
        return data[:-1] + bytes([data[-1] ^ 1]) if len(data) > 8 else data

    def send(self, data: bytes) -> int:
        sent: int = self._real.send(data)
        return sent


@pytest.mark.parametrize("act", ["run", "spawn"])
def test_garbage_on_the_wire_is_a_loss(linux: Place, act: str):
    transport = linux.open()
    transport._closing.set()
    packets = transport._transport().packetizer
    packets._Packetizer__socket = Garbler(packets._Packetizer__socket)
    with pytest.raises(DeviceLost):
        getattr(transport, act)("echo")
    transport.close()


def test_a_command_whose_wire_breaks_unnoticed_says_lost(thin, sleeper, monkeypatch: pytest.MonkeyPatch):
    """It is late, and even its end can't be asked for any more."""
    transport, _ = thin
    transport._closing.set()
    packets = transport._transport().packetizer

    def mute() -> None:
        sleeper.wait_for(1)
        monkeypatch.setattr(packets, "_Packetizer__socket", Mute(packets._Packetizer__socket))

    muting = threading.Thread(target=mute)
    muting.start()
    with pytest.raises(DeviceLost):
        transport.run(sleeper.command, timeout=10)
    muting.join()


def test_a_push_goes_on_where_it_was_cut(thin, linux: Place, tmp_path: Path):
    transport, wire = thin
    source = tmp_path / "model"
    source.write_bytes(random.Random(2).randbytes(20_000_000))
    remote = f"{linux.folder}/model.part"
    wire.cut_after(10_000_000)
    with pytest.raises(DeviceLost):
        transport.push(source, remote)
    arrived = Path(remote).stat().st_size
    assert 5_000_000 < arrived < 15_000_000
    transport.close()
    wire.heal()
    wire.cut_after(1 << 60)
    before = wire.sent
    transport.open()
    transport.push(source, remote)
    assert Path(remote).read_bytes() == source.read_bytes()
    assert wire.sent - before < 20_000_000 - arrived + 500_000


def test_a_full_disk_is_named(linux: Place, tmp_path: Path):
    source = tmp_path / "model"
    source.write_bytes(bytes(3_000_000))
    transport = linux.open()
    with pytest.raises(DeviceRefused, match="/dev/full"):
        transport.push(source, "/dev/full")
    transport.close()


def test_a_time_out_ends_nothing_else(linux: Place, sleeper):
    transport = linux.open()
    process = transport.spawn("cat")
    with pytest.raises(TimedOut):
        transport.run(sleeper.command, timeout=0.2)
    process.write("alive\n")
    while (line := process.read(5)) is None:
        pass
    assert line.text == "alive"
    process.kill()
    transport.close()
