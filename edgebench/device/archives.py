"""Install engines on a device: a pinned release archive of the catalogue, from its origin or a mirror."""

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
    """One release of an engine for one system, architecture and backend."""

    engine: str
    build: str
    url: str
    program: str
    system: str
    machine: str
    backend: str
    file: str
    sha256: str | None = None


def load_catalogue() -> list[Archive]:
    """All archives in the package's ``engines.yaml``."""
    import yaml

    document: dict[str, Any] = yaml.safe_load(CATALOGUE.read_text("utf-8"))
    return [
        Archive(engine, release["build"], release["url"], **{"program": release["program"], **archive})
        for engine, release in document.items()
        for archive in release["archives"]
    ]


def choose_archive(engine: str, system: str, machine: str, backend: str) -> Archive:
    """The archive for a device. Raises ``EngineMissing`` with the alternatives."""
    candidates = [
        archive
        for archive in load_catalogue()
        if (archive.engine, archive.system, archive.machine) == (engine, system, machine)
    ]
    for archive in candidates:
        if archive.backend == backend:
            return archive
    backends = ", ".join(archive.backend for archive in candidates)
    raise EngineMissing(
        f"no prebuilt {engine} for {system} on {machine} with {backend}",
        f"Choose --backend from: {backends}."
        if backends
        else "Build it on the device and set its path in the profile.",
    )


def has_archives(system: str) -> bool:
    """Whether the catalogue has archives for a system."""
    return any(archive.system == system for archive in load_catalogue())


def fetch(archive: Archive, mirror: str | None = None, progress: Progress | None = None) -> Path:
    """The archive's path on this machine; downloaded once. ``mirror``: folder or base URL with the same file names.

    Raises ``EngineMissing``.
    """
    from platformdirs import user_cache_path

    cache = user_cache_path("edgebench") / "engines"
    if mirror and "://" not in mirror:
        path = Path(mirror).expanduser() / archive.file
        if not path.is_file():
            raise EngineMissing(f"{path}: no such file", f"The mirror must contain {archive.file}.")
    else:
        path = cache / archive.file
        if not path.is_file():
            _download(f"{(mirror or archive.url).rstrip('/')}/{archive.file}", path, progress)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _hash(file)
    expected = archive.sha256 or _pinned_sha256(cache / f"{archive.file}.sha256", digest)
    if digest != expected:
        raise EngineMissing(f"{path}: SHA-256 is {digest}, expected {expected}", "Remove the file and try again.")
    return path


def _pinned_sha256(file: Path, digest: str) -> str:
    """The SHA-256 pinned on first use; ``digest`` becomes it if there is none."""
    if file.is_file():
        return file.read_text().strip()
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    part.write_text(f"{digest}\n")
    part.replace(file)
    return digest


def _hash(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _download(url: str, path: Path, progress: Progress | None) -> None:
    import httpx

    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with httpx.stream("GET", url, follow_redirects=True, timeout=60) as response, part.open("wb") as file:
            response.raise_for_status()
            size = int(response.headers.get("content-length", 0))
            for block in response.iter_bytes():
                file.write(block)
                if progress:
                    progress(file.tell(), size)
        part.replace(path)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise EngineMissing(
            f"{url}: {error}",
            "Download it elsewhere, then pass its folder: edgebench devices setup --mirror FOLDER",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def unpack(path: Path, program: str, folder: Path) -> Path:
    """Unpack into ``folder``, never outside of it; returns the folder of the program. Raises ``EngineMissing``."""
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                archive.extractall(folder)  # noqa: S202 - zipfile confines all names to the folder
        else:
            with tarfile.open(path) as tar:
                tar.extractall(folder, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile, OSError, EOFError) as error:
        raise EngineMissing(f"{path}: cannot be unpacked: {error}", "Remove the file and try again.") from error
    for candidate in folder.rglob(program):
        if candidate.is_file():
            return candidate.parent
    raise EngineMissing(f"{path} does not contain {program}")


def install(session: Session, engine: str, backend: str) -> Iterator[str]:
    """Install an engine on a bare device; yields progress messages.

    Raises ``EngineMissing``, ``DeviceRefused``.
    """
    device = session.device
    archive = choose_archive(engine, device.system, detect_architecture(session), backend)
    yield f"no {engine} on {device.name}; fetching {archive.file}"
    path = fetch(archive)
    yield f"deploying {engine} {archive.build}"
    for _ in deploy(session, archive, path):
        pass


def deploy(session: Session, archive: Archive, path: Path) -> Iterator[str]:
    """Deploy the files of an archive, verified, to the device's folder for engines; yields each name before."""
    files = session.system.files
    folder = files.join("engines", archive.engine)
    with tempfile.TemporaryDirectory() as temporary:
        for file in sorted(unpack(path, archive.program, Path(temporary)).iterdir()):
            if not file.is_file():
                continue
            yield file.name
            content = file.read_bytes()
            sha256 = hashlib.sha256(content).hexdigest()
            remote_path = provision.deploy_file(session, file, sha256, len(content), file.name, folder)
            if file.stat().st_mode & 0o100:
                provision.execute(session, files.executable(remote_path))


def detect_architecture(session: Session) -> str:
    """``x86_64``, ``aarch64``, ``arm64``. Raises ``UsageError`` if it cannot be detected."""
    if architecture := session.facts().architecture:
        return architecture
    output = session.run("uname -m")
    if output.status != 0 or not output.stdout.strip():
        raise UsageError(f"cannot detect the CPU architecture of {session.device.name}: {output.stderr.strip()}")
    return output.stdout.strip()
