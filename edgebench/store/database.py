"""The store's SQLite file: opening, migrating, and readable errors.

Write-ahead logging with full synchronisation: commits survive a killed process and a power failure;
readers never wait for writers.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from importlib import resources
from pathlib import Path

from edgebench.errors import StoreError

APPLICATION_ID = 0x45644265
"""``PRAGMA application_id`` of stores, to distinguish them from other SQLite files."""

IN_MEMORY = ":memory:"
"""SQLite's name of a database without a file."""

_LOCK_TIMEOUT_S = 60.0
"""Timeout for another process's transaction; edgebench's take milliseconds."""


def connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """Open a store in autocommit mode, created or migrated to this version if needed.

    ``read_only`` never creates a file; it changes one only to migrate it, and migrates a copy in memory
    if the file is not writable. Raises ``StoreError``.
    """
    if str(path) == IN_MEMORY:  # each connection of SQLite would have a separate one
        raise StoreError("a store is a file, and cannot be :memory:", "Name a file, such as one in a temporary folder.")
    if path.is_dir():
        raise StoreError(f"{path} cannot be opened: it is a folder", "Name a file with --store.")
    with translate_errors(path):
        if read_only:
            db = _open_read_only(path)
            try:
                if _version(db, path) == len(_migrations()):
                    return db
                if not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
                    return _migrated_copy(db)
            except BaseException:
                db.close()
                raise
            db.close()
        return _open(path)


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Translate errors of SQLite and the disk into ``StoreError``."""
    try:
        yield
    except (zlib.error, json.JSONDecodeError) as error:
        raise StoreError(f"{path} is damaged: {error}", _DAMAGED_HINT) from error
    except (sqlite3.Error, OSError) as error:
        message = error.strerror if isinstance(error, OSError) else None
        raise _store_error(path, message or str(error)) from error


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Run the block as one transaction, after waiting for other writers."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        # A full disk may have rolled it back already.
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _version(db: sqlite3.Connection, path: Path) -> int:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (application_id,) = db.execute("PRAGMA application_id").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and application_id != APPLICATION_ID:
        raise StoreError(f"{path} is a database, but not one of edgebench", "Name another file with --store.")
    if version > len(_migrations()):
        raise StoreError(
            f"{path} was made by a newer edgebench (store version {version}, this one supports {len(_migrations())})",
            "Update edgebench, or name another file with --store.",
        )
    return int(version)


def _migrate(db: sqlite3.Connection) -> None:
    with transaction(db):
        # Read again: another process may have migrated meanwhile.
        (version,) = db.execute("PRAGMA user_version").fetchone()
        for number, script in enumerate(_migrations()[version:], start=version + 1):
            for statement in _statements(script):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {number}")
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def _migrated_copy(db: sqlite3.Connection) -> sqlite3.Connection:
    """A copy in memory of an older store that is not writable, migrated to this version."""
    copy = sqlite3.connect(":memory:", isolation_level=None)
    with closing(db):
        db.backup(copy)
    _migrate(copy)
    return copy


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, timeout=_LOCK_TIMEOUT_S, isolation_level=None)
    try:
        # Checked before any change: it may be another program's file.
        version = _version(db, path)
        _use_wal(db)
        # A commit is on the disk before the next round begins; there are few of them.
        db.execute("PRAGMA synchronous = FULL")
        if version < len(_migrations()):
            _migrate(db)
    except BaseException:
        db.close()
        raise
    return db


def _open_read_only(path: Path) -> sqlite3.Connection:
    if not path.exists():
        raise StoreError(f"{path} does not exist", "Create it with `edgebench run`, or pass another file with --store.")
    address = path.absolute().as_uri()
    # SQLite's own read-only mode leaves an empty log next to the file, since it may not delete it.
    db = sqlite3.connect(f"{address}?mode=rw", uri=True, timeout=_LOCK_TIMEOUT_S, isolation_level=None)
    try:
        db.execute("PRAGMA query_only = ON")
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        # In a read-only folder SQLite cannot create the file that coordinates readers and writers.
        # Without a leftover log of a writer, the file can be read as it is.
        db.close()
        if os.access(path.parent, os.W_OK) or path.with_name(path.name + "-wal").exists():
            raise
        db = sqlite3.connect(f"{address}?mode=ro&immutable=1", uri=True, isolation_level=None)
    return db


def _use_wal(db: sqlite3.Connection) -> None:
    """Enable write-ahead logging, with retries, since SQLite's own timeout does not apply here."""
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


@cache
def _migrations() -> tuple[str, ...]:
    folder = resources.files("edgebench") / "data" / "store"
    scripts = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    return tuple(file.read_text("utf-8") for file in scripts)


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


_DAMAGED_HINT = "Keep the file; `sqlite3 FILE .recover` extracts what is readable. Name another one with --store."


def _store_error(path: Path, message: str) -> StoreError:
    for patterns, description, hint in (
        (("disk is full", "No space", "disk I/O error"), "cannot be read or written: no space, or the disk failed",
         "Every finished round before this is kept. Free some space and run again."),
        (("readonly", "read-only", "Read-only"), "cannot be written", "Name a file you may write with --store."),
        (("not a database",), "is not a store of edgebench", "Name another file with --store."),
        (("malformed", "corrupt"), "is damaged", _DAMAGED_HINT),
        (("locked",), f"was kept locked by another program for {_LOCK_TIMEOUT_S:.0f} s", "See what else has it open."),
        (("unable to open", "No such", "Permission", "Not a directory", "Is a directory", "File exists"),
         "cannot be opened", "Check the path and its permissions, or name another one with --store."),
    ):  # fmt: skip
        if any(pattern in message for pattern in patterns):
            return StoreError(f"{path} {description} ({message})", hint)
    return StoreError(f"{path}: {message}", "Name another file with --store.")
