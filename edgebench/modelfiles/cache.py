"""The model cache: files named by their SHA-256, and an index of what each source once was.

A file appears in the cache whole or not at all: it is written as ``partial/*.part`` and renamed
when its hash is known and its header is sound. Two programs may pull at once.
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
    """A file as it was when its source was first pulled."""

    sha256: str
    size: int | None
    learnt: str | None
    """UTC, ISO 8601."""


class Cache:
    """One cache folder; nothing in it is made before something is kept."""

    def __init__(self) -> None:
        """In ``EDGEBENCH_CACHE``, else in the user's cache folder."""
        from platformdirs import user_cache_path

        named = os.environ.get("EDGEBENCH_CACHE")
        base = Path(named).expanduser().absolute() if named else user_cache_path("edgebench")
        self.root = base / "models"

    def path(self, sha256: str) -> Path:
        """Where a file of that hash is kept."""
        return self.root / f"{sha256}.gguf"

    def pinned(self, key: str) -> Pin | None:
        """What a source was when it was first pulled."""
        entry = Fields(self._index().get("sources", {}).get(key))
        sha256 = entry.text("sha256")
        return Pin(sha256, entry.integer("size"), entry.text("learnt")) if sha256 else None

    def learn(self, key: str, sha256: str, path: Path) -> None:
        """Keep what a source gave, and when it gave this first."""
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

    def seen(self, path: Path) -> str | None:
        """A file's hash where it was read before and neither its size nor its time has changed."""
        stat = path.stat()
        entry = self._index().get("files", {}).get(str(path.absolute()))
        if not isinstance(entry, list) or entry[:2] != [stat.st_size, stat.st_mtime_ns] or len(entry) != 3:
            return None
        return str(entry[2])

    def sha256(self, path: Path, progress: Progress | None = None) -> str:
        """A file's hash; read again only where its size or its time changed."""
        known = self.seen(path)
        if known is not None:
            return known
        stat = path.stat()
        stamp = [stat.st_size, stat.st_mtime_ns]
        name = str(path.absolute())
        digest = hash_file(path, progress)
        # Only a saving of time: where nothing can be written, the next run reads the file again.
        with contextlib.suppress(OSError, ModelError), self.lock("index"):
            index = self._index()
            index.setdefault("files", {})[name] = [*stamp, digest]
            self._write(index)
        return digest

    def forget(self, path: Path) -> None:
        """Read this file's bytes when it is asked for next."""
        with contextlib.suppress(OSError, ModelError), self.lock("index"):
            index = self._index()
            if index.get("files", {}).pop(str(path.absolute()), None):
                self._write(index)

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Let one program at a time work on a source; another one waits."""
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
        """A folder of the cache, made where it isn't there. Raises ``ModelError``."""
        folder = self.root / name
        with self._writable():
            if not self.root.is_absolute():  # "~" stays as it is where there is no home at all
                raise OSError(0, "this user has no home folder")
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def keep(self, part: Path, sha256: str) -> Path:
        """Make a finished part a file of the cache."""
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
            return {}  # none yet, or damaged: what it knew is learnt again
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
    digest, done, total = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            done += len(chunk)
            if progress:
                progress(done, total)
    return digest.hexdigest()


def short(key: str) -> str:
    """A file name for a source's key, which may hold anything."""
    return hashlib.sha256(key.encode()).hexdigest()[:24]
