"""Real sshd on loopback ports: a Linux machine, and a phone with Termux."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.place import Place, free_port, machine
from lab.tier import enter

SSHD = "/usr/sbin/sshd"


class Sshd:
    """An sshd with its own host key, one allowed user key and its own known_hosts file."""

    def __init__(self, folder: Path, extra: str = "") -> None:
        enter("an SSH server")
        self.folder, self.port = folder, free_port()
        folder.mkdir(parents=True, exist_ok=True)
        self.key, self.host_key = folder / "user key", folder / "host_key"
        for file in (self.key, self.host_key):
            if not file.exists():
                subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file], check=True)
        authorized = folder / "authorized_keys"
        shutil.copy(f"{self.key}.pub", authorized)
        self.known_hosts = folder / "known_hosts"
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {Path(f'{self.host_key}.pub').read_text()}")
        config = folder / "sshd_config"
        # A bash within another leaves ~/.bashrc alone, which may take thirty times longer than a command.
        inner = "SetEnv SHLVL=2"
        extra = extra.replace("SetEnv", inner) if "SetEnv" in extra else f"{extra}{inner}\n"
        config.write_text(
            f"ListenAddress 127.0.0.1:{self.port}\nHostKey {self.host_key}\nAuthorizedKeysFile {authorized}\n"
            "PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n"
            f"MaxStartups 100\nSubsystem sftp internal-sftp\nLogLevel VERBOSE\n{extra}"
        )
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        self.log = folder / "sshd.log"
        self.start()

    def start(self) -> None:
        command = [*machine(self.folder), SSHD, "-D", "-e", "-f", self.folder / "sshd_config"]
        self._process = subprocess.Popen(command, stderr=self.log.open("ab"))
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            # What is left of one that was just stopped takes connections still, and says nothing.
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as sock:
                if sock.recv(4) == b"SSH-":
                    return
            time.sleep(0.02)
        raise RuntimeError(f"sshd did not start:\n{self.log.read_text()}")

    @property
    def transport(self) -> dict[str, object]:
        return {
            "kind": "ssh",
            "host": "127.0.0.1",
            "port": self.port,
            "user": getpass.getuser(),
            "key": str(self.key),
            "known_hosts": str(self.known_hosts),
        }

    def knows(self, port: int) -> None:
        """The same machine, seen through another port."""
        with self.known_hosts.open("a") as file:
            file.write(f"[127.0.0.1]:{port} {Path(f'{self.host_key}.pub').read_text()}")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)


@pytest.fixture(scope="session")
def sshd_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    server = Sshd(tmp_path_factory.mktemp("sshd"))
    yield server
    server.stop()


@pytest.fixture
def linux(sshd_server: Sshd, tmp_path: Path) -> Place:
    """A Linux machine over SSH."""
    folder = tmp_path / "linux"
    folder.mkdir()
    return Place("lab-linux", "linux", sshd_server.transport, str(folder), folder, sshd_server.port)


# Android's app sandbox as Termux sees it: no /tmp, its own prefix, mksh and toybox, and files in
# /proc that exist and cannot be read.
TERMUX_SHELL = """#!/bin/sh
case "$SSH_ORIGINAL_COMMAND" in
internal-sftp|*/sftp-server) cd "$LAB_HOME"; exec /usr/lib/openssh/sftp-server ;;
esac
for file in stat loadavg uptime version; do mount --bind "$LAB_DENIED" /proc/$file; done
cd "$LAB_HOME"
exec setpriv --bounding-set -dac_override,-dac_read_search --inh-caps -dac_override,-dac_read_search \\
  env -i HOME="$LAB_HOME" PREFIX="$LAB_PREFIX" TMPDIR="$LAB_PREFIX/tmp" PATH="$LAB_PREFIX/bin" LANG=C.UTF-8 \\
  TERMUX_VERSION=0.118.0 SHELL="$LAB_PREFIX/bin/sh" SSH_CONNECTION="$SSH_CONNECTION" \\
  "$LAB_PREFIX/bin/sh" -c "$SSH_ORIGINAL_COMMAND"
"""


@pytest.fixture(scope="session")
def termux_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    from lab.android import toybox

    folder = tmp_path_factory.mktemp("termux")
    prefix, home, denied = folder / "usr", folder / "home", folder / "denied"
    toybox(prefix / "bin")
    (prefix / "tmp").mkdir()
    home.mkdir()
    denied.write_text("denied")
    denied.chmod(0)
    shell = folder / "shell"
    shell.write_text(TERMUX_SHELL)
    shell.chmod(0o755)
    variables = f"LAB_HOME={home} LAB_PREFIX={prefix} LAB_DENIED={denied}"
    extra = f"SetEnv {variables}\nForceCommand unshare --mount {shell}\n"
    server = Sshd(folder / "sshd", extra)
    yield server
    server.stop()


@pytest.fixture
def termux(termux_server: Sshd) -> Place:
    """A phone with Termux over SSH."""
    home = termux_server.folder.parent / "home"
    folder = home / f"place{time.monotonic_ns()}"
    folder.mkdir()
    return Place("lab-termux", "termux", termux_server.transport, str(folder), folder, termux_server.port)
