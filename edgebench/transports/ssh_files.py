"""Files over SFTP: uploads resume, downloads are complete or absent."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from edgebench.core import Progress
from edgebench.errors import DeviceRefused
from edgebench.transports.streams import temporary_path

if TYPE_CHECKING:
    import paramiko

WRITE_B = 255 * 1024
"""Bytes per SFTP write: OpenSSH's server takes packets of 256 KiB."""


def push(sftp: paramiko.SFTPClient, source: BinaryIO, remote: str, progress: Progress | None) -> None:
    """Upload, resuming a partial file. Raises ``DeviceRefused`` if it cannot be written."""
    size = os.fstat(source.fileno()).st_size
    with _translate_errors(remote):
        path = _path(remote)
        done = _remote_size(sftp, path)
        if done > size:
            sftp.truncate(path, done := 0)
        with sftp.open(path, "r+b" if done else "wb", bufsize=0) as sink:
            source.seek(done)
            sink.seek(done)
            sink.MAX_REQUEST_SIZE = WRITE_B
            while done < size:
                block = source.read(WRITE_B)
                # The last write waits for all replies, so it reports a full disk.
                sink.set_pipelined(done + len(block) < size)
                sink.write(block)
                done += len(block)
                if progress:
                    progress(done, size)


def pull(sftp: paramiko.SFTPClient, remote: str, local: Path) -> None:
    with _translate_errors(remote), temporary_path(local) as part:
        sftp.get(_path(remote), str(part))


def _path(path: str) -> str:
    """Windows' ``C:\\folder`` is ``/C:/folder`` in SFTP."""
    return "/" + path.replace("\\", "/") if re.match(r"[A-Za-z]:[\\/]", path) else path


def _remote_size(sftp: paramiko.SFTPClient, path: str) -> int:
    try:
        return sftp.stat(path).st_size or 0
    except FileNotFoundError:
        return 0


@contextlib.contextmanager
def _translate_errors(remote: str) -> Iterator[None]:
    """Raise ``DeviceRefused`` for errors that the SFTP server reports."""
    try:
        yield
    except FileNotFoundError as error:
        raise DeviceRefused(f"{remote}: no such file or folder on the device") from error
    except PermissionError as error:
        raise DeviceRefused(f"{remote}: permission denied", "Choose another workspace: in the profile.") from error
    except OSError as error:
        if isinstance(error, ConnectionError | TimeoutError) or "closed" in str(error).lower():
            raise
        # For a full disk, SFTP has only the generic code 4, "Failure".
        raise DeviceRefused(f"{remote}: {error}", "Is its disk full?") from error
