"""Models onto a device, by content hash: sent once, resumed, verified there, shared between runs."""

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

Answer = TypeVar("Answer")

MODELS = "models"
"""Their folder in a workspace."""

HASH_S = 3600.0
"""Longest wait for a device to read a model through."""

WORKSPACE = "Can its workspace be written? Set workspace: in the profile to a folder that can."

SPARE = 64 * 2**20
"""Bytes that stay free on the device's disk beside a model."""


def place_model(session: Session, model: ModelFile, progress: Progress | None = None) -> str:
    """The model's path on the device; it is sent where it isn't there yet.

    Raises ``DeviceRefused`` (no space, no permission, damaged twice) and ``DeviceLost``.
    """
    if session.is_local:
        return str(model.path)
    if model.format == "mlc":
        name, path = model.sha256[:16], _place_folder(session, model, progress)
    else:
        name = f"{model.sha256}.{model.format}"
        path = place_file(session, model.path, model.sha256, model.size, name, MODELS, progress)
    about = {"file": name, "name": model.name, "size_b": model.size, "used": f"{date.today()}"}
    # A device that cannot keep it can do without.
    session.run(session.system.files.write_line(_models(session, f"{name}.json"), json.dumps(about)))
    return path


@dataclass(frozen=True)
class Placed:
    """What lies among the models of a device."""

    file: str
    size_b: int
    name: str | None = None
    """As it was called by the run that used it last; None where nobody noted it."""
    used: str | None = None
    """That run's day, by its own machine's calendar."""


def placed(session: Session) -> list[Placed]:
    """The models on a device, and what is left of unfinished transfers (``.part``)."""
    files, folder = session.system.files, _models(session)
    known = {one.file: one for one in map(_described, ask(session, files.read_lines(folder))) if one}
    there = ask(session, files.sizes(folder))
    return [
        known.get(file, Placed(file, size))
        for file, size in there.items()
        if file.removesuffix(".json") not in there.keys() - {file}
    ]


def _described(line: str) -> Placed | None:
    """What a run wrote beside its model."""
    try:
        fields = Fields(json.loads(line))
    except ValueError:
        return None
    file, size = fields.text("file"), fields.integer("size_b")
    return None if file is None or size is None else Placed(file, size, fields.text("name"), fields.text("used"))


def remove(session: Session, models: Sequence[Placed]) -> None:
    """Models and their notes. Raises ``DeviceRefused``."""
    for one in models:
        paths = [_models(session, name) for name in (one.file, f"{one.file}.json")]
        say(session, session.system.files.remove(paths))


def _models(session: Session, *name: str) -> str:
    return session.system.files.join(session.workspace, MODELS, *name)


def _place_folder(session: Session, model: ModelFile, progress: Progress | None) -> str:
    """A folder of MLC-LLM's, under the name by which that engine knows the model."""
    from edgebench.modelfiles import mlc

    join = session.system.files.join
    folder, done = join(join(MODELS, model.sha256[:16]), str(model.facts.id)), 0

    def told(part: int, _: int) -> None:
        if progress:
            progress(done + part, model.size)

    there = ""
    for file, sha256 in mlc.files(model.path):
        size = file.stat().st_size
        there = place_file(session, file, sha256, size, file.name, folder, told)
        done += size
    return there[: -len(file.name) - 1]


def place_file(
    session: Session, local: Path, sha256: str, size: int, name: str, folder: str, progress: Progress | None = None
) -> str:
    """A file's path in a folder of the workspace, with exactly this content."""
    files = session.system.files
    there = ask(session, files.make_folder(files.join(session.workspace, folder)))
    target = files.join(there.path, name)
    part = f"{target}.part"
    found = ask(session, files.state(target))
    # A name is given only to what was verified; the seal tells whether it was written to since.
    if found and found.size_b == size and (found.sealed or _digest(session, target) == sha256):
        if not found.sealed:
            say(session, files.seal(target))
        return target
    unfinished = ask(session, files.state(part))
    _check_space(session, there, size - min(unfinished.size_b if unfinished else 0, size))
    # Once more from the beginning: what lay there may not have been the beginning of this file.
    for _ in range(2):
        session.push(local, part, progress)
        if _digest(session, part) == sha256:
            say(session, files.move(part, target))
            say(session, files.seal(target))
            return target
        say(session, files.remove([part]))
    raise DeviceRefused(
        f"{local.name} arrives damaged on {session.device.name}",
        "Its disk or its connection may be failing; if the file here has changed: edgebench models verify",
    )


def ask(session: Session, fact: Fact[Answer]) -> Answer:
    """A question to the device. Raises ``DeviceRefused`` with its own words where it says no."""
    said = session.run(fact.command)
    if said.status != 0:
        raise DeviceRefused(f"{session.device.name}: {said.stderr.strip() or said.stdout.strip()}", WORKSPACE)
    return fact.parse(said.stdout)


def say(session: Session, command: str) -> None:
    """A command to the device. Raises ``DeviceRefused`` with its own words where it fails."""
    ask(session, Fact(command, lambda _: None))


def _digest(session: Session, path: str) -> str:
    fact = session.system.files.sha256(path)
    said = session.run(fact.command, timeout=HASH_S)
    try:
        return fact.parse(said.stdout)
    except Unreadable as error:
        raise DeviceRefused(f"{session.device.name} cannot verify {path}: {said.stderr.strip() or error}") from error


def _check_space(session: Session, there: Folder, needed: int) -> None:
    free = there.free_b
    if free is not None and free < needed + SPARE:
        raise DeviceRefused(
            f"no space on {session.device.name}: {needed / 2**20:.0f} MiB are needed in {there.path} and "
            f"{SPARE / 2**20:.0f} more to spare, {free / 2**20:.0f} MiB are free",
            f"Free some, edgebench devices clean {session.device.name} removes models, or choose another workspace:.",
        )
