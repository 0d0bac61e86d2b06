"""What works on a device, one thing after the other, and what to do about what doesn't."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from edgebench import plugins
from edgebench.core import Device
from edgebench.device import lock, provision
from edgebench.device.session import Session
from edgebench.errors import DeviceRefused, EdgebenchError

FIRST = "llama.cpp"
"""The engine offered first of those that read the same form."""
TEXT = "ünïcödé 'quotes' \"double\" $(id) `id` \\ % & | < >"


@dataclass(frozen=True)
class Check:
    """One thing that was tried. ``advice`` where it doesn't work; not ``needed``: the profile asks for
    nothing of the kind."""

    name: str
    ok: bool
    said: str
    advice: str = ""
    needed: bool = True
    exit_code: int = 0
    """What a command that fails of it ends with."""


def run(device: Device) -> Iterator[Check]:
    """Try everything; what needs something that doesn't work isn't tried."""
    with contextlib.ExitStack() as stack:
        session = Session(device)
        connected = _try("connection", lambda: _connect(stack, session))
        yield connected
        if not connected.ok:
            return
        for name, look in (("commands", _commands), ("facts", _facts)):
            yield _try(name, lambda look=look: look(session))  # type: ignore[misc]
        workspace = _try("workspace", lambda: _workspace(session))
        yield workspace
        if workspace.ok:
            yield _try("files", lambda: _files(session))
            yield _try("lock", lambda: _lock(session))
        for name in device.engines:
            yield _try(f"engine {name}", lambda name=name: _engine(session, name))  # type: ignore[misc]
        for name in _offered(device):
            found = _try(f"engine {name}", lambda name=name: _engine(session, name))  # type: ignore[misc]
            yield replace(found, needed=False)


def _offered(device: Device) -> list[str]:
    """For each form of models that no engine of the profile reads, an engine that does."""
    forms = {form for name in device.engines for form in plugins.load("engines", name).formats}
    found = []
    for name in sorted(plugins.names("engines"), key=lambda name: (name != FIRST, name)):
        if new := {*plugins.load("engines", name).formats} - forms:
            forms |= new
            found.append(name)
    return found


def _try(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except EdgebenchError as error:
        code = max(error.exit_code, DeviceRefused.exit_code)
        return Check(name, False, str(error), error.hint, exit_code=code)


def _connect(stack: contextlib.ExitStack, session: Session) -> str:
    stack.enter_context(session)
    return str(session.device.transport["kind"])


def _commands(session: Session) -> str:
    said = session.run(session.system.echo(TEXT))
    if said.stdout.strip() != TEXT:
        raise EdgebenchError(
            f"text does not arrive as it was sent: {said.stdout.strip() or said.stderr.strip()!r}",
            "Is system: in the profile right, and the login shell a usual one? On Windows it must be cmd.exe.",
        )
    return "text arrives as it was sent"


def _facts(session: Session) -> str:
    facts = session.facts()
    told = [text for text in (facts.model, facts.cpu, facts.os) if text]
    without = f"; not told: {', '.join(facts.absent)}" if facts.absent else ""
    if not told and len(facts.absent) == len(session.system.facts):
        raise EdgebenchError("the device answers none of the questions", "Is system: in the profile right?")
    return (", ".join(told) or "some") + without


def _workspace(session: Session) -> str:
    if session.is_local:
        return "this machine: models stay where they are"
    there = provision.ask(session, session.system.files.make_folder(session.workspace))
    return there.path + (f", {there.free_b // 10**9} GB free" if there.free_b is not None else "")


def _files(session: Session) -> str:
    if session.is_local:
        return "not needed"
    content = secrets.token_bytes(100_000)
    sha256 = hashlib.sha256(content).hexdigest()
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / "check"
        local.write_bytes(content)
        path = provision.place_file(session, local, sha256, len(content), "check", provision.MODELS)
    provision.say(session, session.system.files.remove([path]))
    return "sent, verified, removed"


def _lock(session: Session) -> str:
    with lock.held(session):
        return "the device is not in use"


def _engine(session: Session, name: str) -> str:
    facts = plugins.create("engines", name, session, config=session.device.engines.get(name, {})).prepare()
    return ", ".join(text for text in (facts.name, facts.build, facts.path) if text)
