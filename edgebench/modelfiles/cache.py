"""The model cache: files named by their SHA-256, and an index that pins each source's checksum.

Files are added atomically: written as ``partial/*.part`` and renamed when checksum and header are
verified. Several processes may download at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgebench.core import Fields, Progress
from edgebench.errors import ModelError

CHUNK = 1 << 20


@dataclass(frozen=True)
class Pin:
    """Checksum and size of a source's file on first download."""

    sha256: str
    size: int | None
    first_seen: str | None
    """UTC, ISO 8601."""


class Cache:
    """The cache folder; it is created when the first file is added."""

    def __init__(self) -> None:
        """In ``EDGEBENCH_CACHE``, else in the user's cache folder."""
        from platformdirs import user_cache_path

        override = os.environ.get("EDGEBENCH_CACHE")
        base = Path(override).expanduser().absolute() if override else user_cache_path("edgebench")
        self.root = base / "models"

    def path(self, sha256: str) -> Path:
        """Path of the file with that checksum."""
        return self.root / f"{sha256}.gguf"

    def find_pin(self, key: str) -> Pin | None:
        """The pin of a source; None before its first download."""
        entry = Fields(self._index().get("sources", {}).get(key))
        sha256 = entry.text("sha256")
        return Pin(sha256, entry.integer("size"), entry.text("learnt")) if sha256 else None

    def record_source(self, key: str, sha256: str, path: Path) -> None:
        """Pin a source's checksum, with the time of its first download."""
        stat = path.stat()
        entry = {
            "sha256": sha256,
            "size": stat.st_size,
            "learnt": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        with self._writable(), self.lock("index"):
            index = self._index()
            sources = index.setdefault("sources", {})
            if sources.get(key, {}).get("sha256") != sha256:
                sources[key] = entry
            index.setdefault("files", {})[str(path.absolute())] = [stat.st_size, stat.st_mtime_ns, sha256]
            self._write(index)

    def find_sha256(self, path: Path) -> str | None:
        """A file's cached checksum; None if it was never read, or its size or modification time has changed."""
        stat = path.stat()
        entry = self._index().get("files", {}).get(str(path.absolute()))
        if not isinstance(entry, list) or entry[:2] != [stat.st_size, stat.st_mtime_ns] or len(entry) != 3:
            return None
        return str(entry[2])

    def sha256(self, path: Path, progress: Progress | None = None) -> str:
        """A file's checksum; the file is read only if its size or modification time has changed."""
        sha256 = self.find_sha256(path)
        if sha256 is not None:
            return sha256
        stat = path.stat()
        stamp = [stat.st_size, stat.st_mtime_ns]
        path_key = str(path.absolute())
        sha256 = hash_file(path, progress)
        # Only saves time: if the index cannot be written, the next run reads the file again.
        with contextlib.suppress(OSError, ModelError), self.lock("index"):
            index = self._index()
            index.setdefault("files", {})[path_key] = [*stamp, sha256]
            self._write(index)
        return sha256

    def forget(self, path: Path) -> None:
        """Drop a file's cached checksum, so that the next call reads the file."""
        with contextlib.suppress(OSError, ModelError), self.lock("index"):
            index = self._index()
            if index.get("files", {}).pop(str(path.absolute()), None):
                self._write(index)

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold the lock of a source; other processes wait."""
        from filelock import FileLock

        lock = FileLock(self.folder("locks") / f"{short(key)}.lock")
        with self._writable():
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def part(self, key: str) -> Path:
        """The unfinished file of a source."""
        return self.folder("partial") / f"{short(key)}.part"

    def folder(self, name: str) -> Path:
        """A folder of the cache, created if missing. Raises ``ModelError``."""
        folder = self.root / name
        with self._writable():
            if not self.root.is_absolute():  # "~" is not expanded for a user without a home
                raise OSError(0, "this user has no home folder")
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def add(self, part: Path, sha256: str) -> Path:
        """Rename a finished part to a file of the cache and return its path. Raises ``ModelError``."""
        path = self.path(sha256)
        with self._writable():
            part.replace(path)
        return path

    @contextlib.contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ModelError(
                f"the model cache {self.root} cannot be written: {error.strerror}",
                "Set EDGEBENCH_CACHE to a folder that you may write, with room for models.",
            ) from error

    def _index(self) -> dict[str, dict[str, Any]]:
        try:
            index = json.loads((self.root / "index.json").read_text("utf-8"))
        except (OSError, ValueError):
            return {}  # missing or damaged: it is rebuilt
        return index if isinstance(index, dict) else {}

    def _write(self, index: Mapping[str, object]) -> None:
        handle, name = tempfile.mkstemp(dir=self.root, prefix="index", suffix=".part")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(index, file, indent=1, sort_keys=True)
            Path(name).replace(self.root / "index.json")
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise


def hash_file(path: Path, progress: Progress | None = None) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest, done_b, total_b = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            done_b += len(chunk)
            if progress:
                progress(done_b, total_b)
    return digest.hexdigest()


def short(key: str) -> str:
    """A file name for a source's key, which may contain any characters."""
    return hashlib.sha256(key.encode()).hexdigest()[:24]
