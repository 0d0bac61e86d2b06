"""Deploy models to a device by checksum: sent once, resumed, verified, shared between runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TypeVar

from edgebench.core import Fact, Folder, ModelFile, Progress
from edgebench.core.fields import Fields
from edgebench.device.session import Session
from edgebench.errors import DeviceRefused, Unreadable

Value = TypeVar("Value")

MODELS = "models"
"""Folder of the models in a workspace."""

HASH_TIMEOUT_S = 3600.0
"""Timeout for hashing a model on a device."""

WORKSPACE_HINT = "Is its workspace writable? If not, set workspace: in the profile to a writable folder."

MIN_FREE_B = 64 * 2**20
"""Bytes that stay free on the device's disk after a model is deployed."""


def deploy_model(session: Session, model: ModelFile, progress: Progress | None = None) -> str:
    """The model's path on the device; it is sent unless it is there.

    Raises ``DeviceRefused`` (no space, no permission, corrupted twice) and ``DeviceLost``.
    """
    if session.is_local:
        return str(model.path)
    if model.format == "mlc":
        name, path = model.sha256[:16], _deploy_folder(session, model, progress)
    else:
        name = f"{model.sha256}.{model.format}"
        path = deploy_file(session, model.path, model.sha256, model.size, name, MODELS, progress)
    metadata = {"file": name, "name": model.name, "size_b": model.size, "used": f"{date.today()}"}
    # Optional: a failure to write it is ignored.
    session.run(session.system.files.write_line(_models_path(session, f"{name}.json"), json.dumps(metadata)))
    return path


@dataclass(frozen=True)
class DeployedModel:
    """A file or folder among the models of a device."""

    file: str
    size_b: int
    name: str | None = None
    """Its name in the run that used it last; None without metadata."""
    used: str | None = None
    """Date of that run, by the controller's clock."""


def list_deployed(session: Session) -> list[DeployedModel]:
    """The models on a device, including unfinished transfers (``.part``)."""
    files, folder = session.system.files, _models_path(session)
    models = {model.file: model for model in map(_parse_metadata, query(session, files.read_lines(folder))) if model}
    sizes = query(session, files.sizes(folder))
    return [
        models.get(file, DeployedModel(file, size))
        for file, size in sizes.items()
        if file.removesuffix(".json") not in sizes.keys() - {file}
    ]


def _parse_metadata(line: str) -> DeployedModel | None:
    """Parse a model's metadata file; None if it is invalid."""
    try:
        fields = Fields(json.loads(line))
    except ValueError:
        return None
    file, size = fields.text("file"), fields.integer("size_b")
    return None if file is None or size is None else DeployedModel(file, size, fields.text("name"), fields.text("used"))


def remove(session: Session, models: Sequence[DeployedModel]) -> None:
    """Remove models and their metadata. Raises ``DeviceRefused``."""
    for model in models:
        paths = [_models_path(session, name) for name in (model.file, f"{model.file}.json")]
        execute(session, session.system.files.remove(paths))


def _models_path(session: Session, *name: str) -> str:
    return session.system.files.join(session.workspace, MODELS, *name)


def _deploy_folder(session: Session, model: ModelFile, progress: Progress | None) -> str:
    """Deploy a folder of MLC weights under the model's ID in that engine; returns its path."""
    from edgebench.modelfiles import mlc

    join = session.system.files.join
    folder, done = join(join(MODELS, model.sha256[:16]), str(model.facts.id)), 0

    def report_progress(part: int, _: int) -> None:
        if progress:
            progress(done + part, model.size)

    path = ""
    for file, sha256 in mlc.files(model.path):
        size = file.stat().st_size
        path = deploy_file(session, file, sha256, size, file.name, folder, report_progress)
        done += size
    return path[: -len(file.name) - 1]


def deploy_file(
    session: Session, local: Path, sha256: str, size: int, name: str, folder: str, progress: Progress | None = None
) -> str:
    """Deploy a file to a folder of the workspace; returns the path of the verified file. Raises ``DeviceRefused``."""
    files = session.system.files
    remote_folder = query(session, files.make_folder(files.join(session.workspace, folder)))
    target = files.join(remote_folder.path, name)
    part = f"{target}.part"
    state = query(session, files.state(target))
    # Only a verified file gets the final name; the seal shows whether it was written to since.
    if state and state.size_b == size and (state.sealed or _remote_sha256(session, target) == sha256):
        if not state.sealed:
            execute(session, files.seal(target))
        return target
    unfinished = query(session, files.state(part))
    _check_space(session, remote_folder, size - min(unfinished.size_b if unfinished else 0, size))
    # The second attempt starts over: the partial file may not be a prefix of this one.
    for _ in range(2):
        session.push(local, part, progress)
        if _remote_sha256(session, part) == sha256:
            execute(session, files.move(part, target))
            execute(session, files.seal(target))
            return target
        execute(session, files.remove([part]))
    raise DeviceRefused(
        f"{local.name} was corrupted during transfer to {session.device.name}",
        "The disk or the connection may be failing. If the local file has changed, run: edgebench models verify",
    )


def query(session: Session, fact: Fact[Value]) -> Value:
    """Run a fact's command and parse its output. Raises ``DeviceRefused`` with the output if it fails."""
    output = session.run(fact.command)
    if output.status != 0:
        raise DeviceRefused(f"{session.device.name}: {output.stderr.strip() or output.stdout.strip()}", WORKSPACE_HINT)
    return fact.parse(output.stdout)


def execute(session: Session, command: str) -> None:
    """Run a command. Raises ``DeviceRefused`` with its output if it fails."""
    query(session, Fact(command, lambda _: None))


def _remote_sha256(session: Session, path: str) -> str:
    fact = session.system.files.sha256(path)
    output = session.run(fact.command, timeout=HASH_TIMEOUT_S)
    try:
        return fact.parse(output.stdout)
    except Unreadable as error:
        raise DeviceRefused(f"{session.device.name} cannot verify {path}: {output.stderr.strip() or error}") from error


def _check_space(session: Session, folder: Folder, required: int) -> None:
    free = folder.free_b
    if free is not None and free < required + MIN_FREE_B:
        raise DeviceRefused(
            f"not enough space on {session.device.name}: {required / 2**20:.0f} MiB required in {folder.path} plus "
            f"{MIN_FREE_B / 2**20:.0f} MiB reserve, {free / 2**20:.0f} MiB free",
            f"Free some space (edgebench devices clean {session.device.name} removes models), or set workspace:.",
        )
