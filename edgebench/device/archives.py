"""Engines onto a device: a pinned release archive of the catalogue, from its home or a mirror."""

from __future__ import annotations

import contextlib
import hashlib
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from edgebench.core import Progress
from edgebench.device import provision
from edgebench.device.session import Session
from edgebench.errors import EngineMissing, UsageError

CATALOGUE = Path(__file__).parent.parent / "data" / "engines.yaml"


@dataclass(frozen=True)
class Archive:
    """One release of an engine for one kind of device."""

    engine: str
    build: str
    url: str
    program: str
    system: str
    machine: str
    backend: str
    file: str
    sha256: str | None = None


def catalogue() -> list[Archive]:
    """All archives there are, as the package's ``engines.yaml`` says."""
    import yaml

    found: dict[str, Any] = yaml.safe_load(CATALOGUE.read_text("utf-8"))
    return [
        Archive(engine, about["build"], about["url"], **{"program": about["program"], **archive})
        for engine, about in found.items()
        for archive in about["archives"]
    ]


def choose(engine: str, system: str, machine: str, backend: str) -> Archive:
    """The archive for a device. Raises ``EngineMissing`` with what there is instead."""
    fitting = [a for a in catalogue() if (a.engine, a.system, a.machine) == (engine, system, machine)]
    for archive in fitting:
        if archive.backend == backend:
            return archive
    there = ", ".join(a.backend for a in fitting)
    raise EngineMissing(
        f"there is no ready-made {engine} for {system} on {machine} with {backend}",
        f"Choose --backend of: {there}." if there else "Build it there and write its path into the profile.",
    )


def known(system: str) -> bool:
    """Whether there are any for a system."""
    return any(archive.system == system for archive in catalogue())


def fetch(archive: Archive, mirror: str | None = None, progress: Progress | None = None) -> Path:
    """The archive on this machine; downloaded once. ``mirror``: a folder or a URL with the same names."""
    from platformdirs import user_cache_path

    cache = user_cache_path("edgebench") / "engines"
    if mirror and "://" not in mirror:
        path = Path(mirror).expanduser() / archive.file
        if not path.is_file():
            raise EngineMissing(f"{path}: there is no such file", f"The mirror must hold {archive.file}.")
    else:
        path = cache / archive.file
        if not path.is_file():
            _download(f"{(mirror or archive.url).rstrip('/')}/{archive.file}", path, progress)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(file)
    right = archive.sha256 or _learnt(cache / f"{archive.file}.sha256", digest)
    if digest != right:
        raise EngineMissing(f"{path}: SHA-256 is {digest}, not {right}", "Remove the file and try again.")
    return path


def _learnt(file: Path, digest: str) -> str:
    """The archive's SHA-256 as it was when it was first used here: a release doesn't change."""
    if file.is_file():
        return file.read_text().strip()
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    part.write_text(f"{digest}\n")
    part.replace(file)
    return digest


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _download(url: str, path: Path, progress: Progress | None) -> None:
    import httpx

    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with httpx.stream("GET", url, follow_redirects=True, timeout=60) as answer, part.open("wb") as file:
            answer.raise_for_status()
            size = int(answer.headers.get("content-length", 0))
            for block in answer.iter_bytes():
                file.write(block)
                if progress:
                    progress(file.tell(), size)
        part.replace(path)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise EngineMissing(
            f"{url}: {error}", "Download it elsewhere, then give `edgebench devices setup` its folder: --mirror FOLDER."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def unpack(path: Path, program: str, folder: Path) -> Path:
    """The folder in which the program lies. Nothing gets out of ``folder``."""
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                archive.extractall(folder)  # noqa: S202 - zipfile lets no name out of the folder
        else:
            with tarfile.open(path) as tar:
                tar.extractall(folder, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile, OSError, EOFError) as error:
        raise EngineMissing(f"{path}: cannot be unpacked: {error}", "Remove the file and try again.") from error
    for found in folder.rglob(program):
        if found.is_file():
            return found.parent
    raise EngineMissing(f"{path}: there is no {program} in it")


def bring(session: Session, engine: str, backend: str) -> Iterator[str]:
    """Put an engine onto a bare device; says what it does. Raises ``EngineMissing``, ``DeviceRefused``."""
    device = session.device
    archive = choose(engine, device.system, machine(session), backend)
    yield f"there is no {engine} on {device.name} yet: getting {archive.file}"
    path = fetch(archive)
    yield f"putting {engine} {archive.build} in place"
    for _ in place(session, archive, path):
        pass


def place(session: Session, archive: Archive, path: Path) -> Iterator[str]:
    """Put what is in an archive onto the device, verified, where engines find it; says each file first."""
    files = session.system.files
    where = files.join("engines", archive.engine)
    with tempfile.TemporaryDirectory() as unpacked:
        for file in sorted(unpack(path, archive.program, Path(unpacked)).iterdir()):
            if not file.is_file():
                continue
            yield file.name
            content = file.read_bytes()
            sha256 = hashlib.sha256(content).hexdigest()
            there = provision.place_file(session, file, sha256, len(content), file.name, where)
            if file.stat().st_mode & 0o100:
                provision.say(session, files.executable(there))


def machine(session: Session) -> str:
    """``x86_64``, ``aarch64``, ``arm64``. Raises ``UsageError`` where the system doesn't say."""
    if architecture := session.facts().architecture:
        return architecture
    said = session.run("uname -m")
    if said.status != 0 or not said.stdout.strip():
        raise UsageError(f"{session.device.name} does not say what kind of machine it is: {said.stderr.strip()}")
    return said.stdout.strip()
