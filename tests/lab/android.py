"""Phones over ADB: Debian's adb server, the lab's adbd, and Android's userland."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.place import Place, free_port, machine
from lab.tier import enter

FEATURES = "shell_v2,cmd"


def toybox(folder: Path) -> None:
    """Fill a folder with Android's commands: nothing else needs to be on the PATH."""
    folder.mkdir(parents=True)
    for name in subprocess.run(["toybox"], check=True, capture_output=True, text=True).stdout.split():
        (folder / name).symlink_to("/usr/bin/toybox")
    (folder / "sh").symlink_to("/usr/bin/mksh")
    (folder / "dd").symlink_to("/usr/bin/dd")  # Android's toybox has its own, Debian's is built without


class AdbServer:
    """A real adb server on a port of its own, with a key of its own."""

    def __init__(self, folder: Path) -> None:
        enter("an adb server")
        self.port = free_port()
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "ADB_MDNS": "0"}
        command = ["adb", "-L", f"tcp:localhost:{self.port}", "nodaemon", "server"]
        self._log = folder / "server.log"
        self._process = subprocess.Popen(
            command, env=self.environment, stdout=subprocess.DEVNULL, stderr=self._log.open("wb")
        )
        deadline = time.monotonic() + 30
        while self.adb("version", check=False).returncode or "localhost" in self.adb("devices", check=False).stderr:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the adb server did not start:\n{self._log.read_text()}")
            time.sleep(0.05)

    def adb(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["adb", "-P", str(self.port), *arguments],
            env=self.environment,
            check=check,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)


class Phone:
    """One adbd with Android's shell and commands."""

    def __init__(self, folder: Path, *options: str, features: str = FEATURES) -> None:
        enter("a phone")
        self.home = folder / "data local tmp"
        self.home.mkdir(parents=True)
        toybox(folder / "bin")
        self.log = folder / "adbd.log"
        command = [*machine(folder), sys.executable, Path(__file__).with_name("adbd.py"), "--shell", "/usr/bin/mksh"]
        command += ["--path", folder / "bin", "--home", self.home, "--features", features, *options]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log.open("wb"), text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.serial = f"127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        assert "violation" not in self.log.read_text(), self.log.read_text()


@pytest.fixture(scope="session")
def adb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdbServer]:
    server = AdbServer(tmp_path_factory.mktemp("adb"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def modern_phone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phone]:
    phone = Phone(tmp_path_factory.mktemp("phone") / "modern")
    yield phone
    phone.stop()


@pytest.fixture(scope="session")
def old_phone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phone]:
    phone = Phone(tmp_path_factory.mktemp("phone") / "old", features="")
    yield phone
    phone.stop()


def _place(name: str, server: AdbServer, phone: Phone) -> Place:
    transport = {"kind": "adb", "serial": phone.serial, "port": server.port}
    folder = phone.home / f"place{time.monotonic_ns()}"
    folder.mkdir()
    return Place(name, "android", transport, str(folder), folder, phone.port)


@pytest.fixture
def android(adb_server: AdbServer, modern_phone: Phone) -> Iterator[Place]:
    """A phone over ADB."""
    place = _place("lab-android", adb_server, modern_phone)
    yield place
    place.remove()


@pytest.fixture
def old_android(adb_server: AdbServer, old_phone: Phone) -> Iterator[Place]:
    """A phone over ADB that knows no shell v2."""
    place = _place("lab-old-android", adb_server, old_phone)
    yield place
    place.remove()
