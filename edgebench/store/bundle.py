"""A bundle: results in one zip file that can be verified, analysed, and imported into another store.

``records/ID.json`` are complete records with facts, flags and raw samples, ``logs/ID.N.txt`` the
engine's own logs, ``SHA256SUMS`` the checksums of all other members in the format of ``sha256sum -c``.
The checksum of ``SHA256SUMS`` identifies the bundle: compared with the author's, it proves that nothing
was changed. No member is ever extracted to the disk.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edgebench.core import Record
from edgebench.errors import StoreError
from edgebench.store import records
from edgebench.version import __version__

FORMAT_VERSION = 1
"""Version of the bundle's format."""

_CHECKSUMS = "SHA256SUMS"
_MANIFEST = "bundle.json"
_MEMBER_NAMES = re.compile(r"bundle\.json|SHA256SUMS|records/[0-9a-z]{1,40}\.json|logs/[0-9a-z]{1,40}\.[0-9]{1,6}\.txt")
_MAX_MEMBER_B = 256 << 20
"""Bytes; hours of samples at full rate need less."""
_MAX_TOTAL_B = 8 << 30
_MAX_RATIO = 200
"""Members above 1 MiB with a higher compression ratio count as decompression bombs."""
_MAX_MEMBERS = 1_000_000
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""Fixed, so that the same results always make the same bundle."""


@dataclass(frozen=True)
class Entry:
    """One record with the engine's logs."""

    record: Record
    logs: tuple[str, ...]


def write(target: BinaryIO, entries: Iterable[Entry]) -> str:
    """Write a bundle; returns its checksum."""
    digests: dict[str, str] = {}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:

        def add_member(name: str, data: bytes) -> None:
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data, zipfile.ZIP_DEFLATED)
            digests[name] = hashlib.sha256(data).hexdigest()

        for entry in entries:
            add_member(f"records/{entry.record.id}.json", _json_bytes(records.to_json(entry.record)))
            for number, log in enumerate(entry.logs):
                add_member(f"logs/{entry.record.id}.{number}.txt", log.encode("utf-8", "surrogateescape"))
        add_member(_MANIFEST, _json_bytes({"form": FORMAT_VERSION, "made_by": f"edgebench {__version__}"}))
        checksums = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items())).encode()
        add_member(_CHECKSUMS, checksums)
    return hashlib.sha256(checksums).hexdigest()


class Bundle:
    """A bundle, fully verified when it is opened.

    Raises ``StoreError`` for a file that is not a bundle, truncated, changed, or malicious.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._archive = zipfile.ZipFile(path)
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error.strerror or error}", "Check the path.") from error
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise self._rejection(f"it is not a zip file, or truncated ({error})") from error
        try:
            self._members = self._validated_members()
            self.hash, self._checksums = self._read_checksums()
            for name in self._members:
                self._read(name)
            manifest = json.loads(self._read(_MANIFEST))
            version = manifest.get("form") if isinstance(manifest, Mapping) else None
            if version != FORMAT_VERSION:
                raise self._rejection(f"its format is {version!r}, this edgebench supports {FORMAT_VERSION}")
            self.ids = sorted(name[8:-5] for name in self._members if name.startswith("records/"))
            self._logs = self._logs_by_id()
            if self._logs.keys() - set(self.ids):
                raise self._rejection("it has logs without records")
        except BaseException:
            self._archive.close()
            raise

    def __enter__(self) -> Bundle:
        return self

    def __exit__(self, *error: object) -> None:
        self._archive.close()

    def entry(self, id: str) -> Entry:
        """The entry of one of ``ids``, which are sorted by time. Raises ``StoreError`` for an invalid record."""
        try:
            value = json.loads(self._read(f"records/{id}.json"))
        except (ValueError, RecursionError) as error:
            raise self._rejection(f"records/{id}.json is not JSON") from error
        try:
            record = records.from_json(value)
        except StoreError as error:
            raise StoreError(f"{self.path}: records/{id}.json: {error}", error.hint) from error
        if record.id != id or not record.run.get("id"):
            raise self._rejection(f"records/{id}.json has another ID")
        logs = (self._read(name).decode("utf-8", "surrogateescape") for name in self._logs.get(id, ()))
        return Entry(record, tuple(logs))

    def _logs_by_id(self) -> dict[str, list[str]]:
        logs: dict[str, list[tuple[int, str]]] = {}
        for name in self._members:
            if name.startswith("logs/"):
                id, number, _ = name.removeprefix("logs/").split(".")
                logs.setdefault(id, []).append((int(number), name))
        return {id: [name for _, name in sorted(names)] for id, names in logs.items()}

    def _validated_members(self) -> dict[str, zipfile.ZipInfo]:
        """The members by name: only expected names, no duplicates, within the size limits."""
        members: dict[str, zipfile.ZipInfo] = {}
        infos: Sequence[zipfile.ZipInfo] = self._archive.infolist()
        if len(infos) > _MAX_MEMBERS or sum(info.file_size for info in infos) > _MAX_TOTAL_B:
            raise self._rejection("it is larger than any bundle")
        for info in infos:
            # The original name: zipfile truncates at a zero byte.
            name = info.filename
            if not _MEMBER_NAMES.fullmatch(name) or info.orig_filename != name or name in members:
                raise self._rejection(f"unexpected member {info.orig_filename[:80]!r}")
            is_suspicious = info.file_size > max(1 << 20, _MAX_RATIO * info.compress_size)
            if info.file_size > _MAX_MEMBER_B or is_suspicious or info.flag_bits & 1:
                raise self._rejection(f"{info.filename} is too large, compressed too much, or encrypted")
            members[info.filename] = info
        if missing := {_CHECKSUMS, _MANIFEST} - set(members):
            raise self._rejection(f"it has no {' and no '.join(sorted(missing))}")
        return members

    def _read_checksums(self) -> tuple[str, dict[str, str]]:
        data = self._decompress(_CHECKSUMS)
        checksums: dict[str, str] = {}
        for line in data.decode("utf-8", "replace").splitlines():
            match = re.fullmatch(r"([0-9a-f]{64})  (\S+)", line)
            if match is None:
                raise self._rejection(f"{_CHECKSUMS} cannot be read")
            checksums[match[2]] = match[1]
        if checksums.keys() != self._members.keys() - {_CHECKSUMS}:
            raise self._rejection(f"its members are not those that {_CHECKSUMS} lists")
        return hashlib.sha256(data).hexdigest(), checksums

    def _read(self, name: str) -> bytes:
        data = self._decompress(name)
        if name != _CHECKSUMS and hashlib.sha256(data).hexdigest() != self._checksums[name]:
            raise self._rejection(f"{name} was changed")
        return data

    def _decompress(self, name: str) -> bytes:
        try:
            with self._archive.open(self._members[name]) as member:
                # zipfile returns no more than the size in the directory, which was checked.
                return member.read()
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError) as error:
            raise self._rejection(f"{name} is damaged ({error})") from error
        except OSError as error:
            raise StoreError(f"{self.path} cannot be read: {error.strerror or error}") from error

    def _rejection(self, reason: str) -> StoreError:
        return StoreError(
            f"{self.path} rejected: {reason}", "Nothing was imported. Get the bundle again from its author."
        )


def _json_bytes(value: object) -> bytes:
    return (records.dumps(value) + "\n").encode()
