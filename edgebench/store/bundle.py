"""A bundle: results in one zip that anybody can check, replay, and take into their own store.

``records/ID.json`` are whole records with facts, flags and raw samples, ``logs/ID.N.txt`` the
engine's own logs, ``SHA256SUMS`` the hash of every other member in the form ``sha256sum -c`` reads.
The hash of ``SHA256SUMS`` names the bundle: whoever has it from its author knows that nothing was
changed. Nothing of a bundle is ever unpacked onto the disk.
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

FORM = 1
"""Version of the bundle's form."""

_SUMS = "SHA256SUMS"
_ABOUT = "bundle.json"
_NAMES = re.compile(r"bundle\.json|SHA256SUMS|records/[0-9a-z]{1,40}\.json|logs/[0-9a-z]{1,40}\.[0-9]{1,6}\.txt")
_LARGEST = 256 << 20
"""Bytes of one member: hours of samples at full rate need less."""
_ALL = 8 << 30
_RATIO = 200
"""What compresses better than this, beyond a megabyte, is made to fill somebody's memory."""
_MEMBERS = 1_000_000
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The same results make the same bundle, whenever it is made."""


@dataclass(frozen=True)
class Entry:
    """One record and the engine's logs that belong to it."""

    record: Record
    logs: tuple[str, ...]


def write(target: BinaryIO, entries: Iterable[Entry]) -> str:
    """Write a bundle; the answer is its hash."""
    sums: dict[str, str] = {}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:

        def put(name: str, data: bytes) -> None:
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data, zipfile.ZIP_DEFLATED)
            sums[name] = hashlib.sha256(data).hexdigest()

        for entry in entries:
            put(f"records/{entry.record.id}.json", _text(records.to_json(entry.record)))
            for number, log in enumerate(entry.logs):
                put(f"logs/{entry.record.id}.{number}.txt", log.encode("utf-8", "surrogateescape"))
        put(_ABOUT, _text({"form": FORM, "made_by": f"edgebench {__version__}"}))
        listed = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())).encode()
        put(_SUMS, listed)
    return hashlib.sha256(listed).hexdigest()


class Bundle:
    """A bundle that was checked in full when it was opened.

    Raises ``StoreError`` for a file that is none, was cut short, changed, or made to do harm.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._archive = zipfile.ZipFile(path)
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error.strerror or error}", "Check the path.") from error
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise self._refused(f"it is not a zip file, or truncated ({error})") from error
        try:
            self._members = self._listed()
            self.hash, self._sums = self._checked_sums()
            for name in self._members:
                self._read(name)
            about = json.loads(self._read(_ABOUT))
            form = about.get("form") if isinstance(about, Mapping) else None
            if form != FORM:
                raise self._refused(f"its form is {form!r}, this edgebench reads {FORM}; a newer one may read it")
            self.ids = sorted(name[8:-5] for name in self._members if name.startswith("records/"))
            self._logs = self._logs_by_id()
            if self._logs.keys() - set(self.ids):
                raise self._refused("it has logs without records")
        except BaseException:
            self._archive.close()
            raise

    def __enter__(self) -> Bundle:
        return self

    def __exit__(self, *error: object) -> None:
        self._archive.close()

    def entry(self, id: str) -> Entry:
        """One of ``ids``, which are in the order of time. Raises ``StoreError`` for one that is no record."""
        try:
            value = json.loads(self._read(f"records/{id}.json"))
        except (ValueError, RecursionError) as error:
            raise self._refused(f"records/{id}.json is not JSON") from error
        try:
            record = records.from_json(value)
        except StoreError as error:
            raise StoreError(f"{self.path}: records/{id}.json: {error}", error.hint) from error
        if record.id != id or not record.run.get("id"):
            raise self._refused(f"records/{id}.json is the record of something else")
        logs = (self._read(name).decode("utf-8", "surrogateescape") for name in self._logs.get(id, ()))
        return Entry(record, tuple(logs))

    def _logs_by_id(self) -> dict[str, list[str]]:
        found: dict[str, list[tuple[int, str]]] = {}
        for name in self._members:
            if name.startswith("logs/"):
                id, number, _ = name.removeprefix("logs/").split(".")
                found.setdefault(id, []).append((int(number), name))
        return {id: [name for _, name in sorted(names)] for id, names in found.items()}

    def _listed(self) -> dict[str, zipfile.ZipInfo]:
        """The members by name: every name ours, none twice, none beyond reason."""
        found: dict[str, zipfile.ZipInfo] = {}
        infos: Sequence[zipfile.ZipInfo] = self._archive.infolist()
        if len(infos) > _MEMBERS or sum(info.file_size for info in infos) > _ALL:
            raise self._refused("it is larger than any bundle")
        for info in infos:
            # The name as it was written: zipfile itself cuts at a zero byte.
            if not _NAMES.fullmatch(info.filename) or info.orig_filename != info.filename or info.filename in found:
                raise self._refused(f"{info.orig_filename[:80]!r} has no place in a bundle")
            swollen = info.file_size > max(1 << 20, _RATIO * info.compress_size)
            if info.file_size > _LARGEST or swollen or info.flag_bits & 1:
                raise self._refused(f"{info.filename} is too large, packed too tightly, or encrypted")
            found[info.filename] = info
        if missing := {_SUMS, _ABOUT} - set(found):
            raise self._refused(f"it has no {' and no '.join(sorted(missing))}")
        return found

    def _checked_sums(self) -> tuple[str, dict[str, str]]:
        data = self._unpacked(_SUMS)
        sums: dict[str, str] = {}
        for line in data.decode("utf-8", "replace").splitlines():
            found = re.fullmatch(r"([0-9a-f]{64})  (\S+)", line)
            if found is None:
                raise self._refused(f"{_SUMS} cannot be read")
            sums[found[2]] = found[1]
        if sums.keys() != self._members.keys() - {_SUMS}:
            raise self._refused(f"its members are not those that {_SUMS} lists")
        return hashlib.sha256(data).hexdigest(), sums

    def _read(self, name: str) -> bytes:
        data = self._unpacked(name)
        if name != _SUMS and hashlib.sha256(data).hexdigest() != self._sums[name]:
            raise self._refused(f"{name} was changed")
        return data

    def _unpacked(self, name: str) -> bytes:
        try:
            with self._archive.open(self._members[name]) as member:
                # zipfile gives no more than the size the directory states, which was looked at.
                return member.read()
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError) as error:
            raise self._refused(f"{name} is damaged ({error})") from error
        except OSError as error:
            raise StoreError(f"{self.path} cannot be read: {error.strerror or error}") from error

    def _refused(self, why: str) -> StoreError:
        return StoreError(
            f"{self.path} is refused: {why}", "Nothing was taken in. Get the bundle again from its author."
        )


def _text(value: object) -> bytes:
    return (records.dumps(value) + "\n").encode()
