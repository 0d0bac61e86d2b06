"""Check what works on a device, step by step, with advice on what does not."""

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
from edgebench.device.engines import create_engine, prepare_engine
from edgebench.device.session import Session
from edgebench.errors import DeviceRefused, EdgebenchError

PREFERRED_ENGINE = "llama.cpp"
"""The engine checked first of those that read the same model format."""
ECHO_TEXT = "ünïcödé 'quotes' \"double\" $(id) `id` \\ % & | < >"


@dataclass(frozen=True)
class Check:
    """Result of one check. ``advice``: what to do if it failed; not ``is_required``: the profile does not use it."""

    name: str
    ok: bool
    message: str
    advice: str = ""
    is_required: bool = True
    exit_code: int = 0
    """Exit status of a command that fails because of it."""

    def document(self) -> dict[str, object]:
        """The check as an object of ``devices check --json``."""
        renamed = {"message": "said", "is_required": "needed"}
        return {renamed.get(name, name): value for name, value in vars(self).items()}


def run_checks(device: Device) -> Iterator[Check]:
    """Run all checks, without those that depend on a failed one."""
    with contextlib.ExitStack() as stack:
        session = Session(device)
        connected = _run_check("connection", lambda: _connect(stack, session))
        yield connected
        if not connected.ok:
            return
        for name, probe in (("commands", _commands), ("facts", _facts)):
            yield _run_check(name, lambda probe=probe: probe(session))  # type: ignore[misc]
        workspace = _run_check("workspace", lambda: _workspace(session))
        yield workspace
        if workspace.ok:
            yield _run_check("files", lambda: _files(session))
            yield _run_check("lock", lambda: _lock(session))
        for name in device.engines:
            yield _run_check(f"engine {name}", lambda name=name: _engine(session, name))  # type: ignore[misc]
        for name in _additional_engines(device):
            check = _run_check(f"engine {name}", lambda name=name: _engine(session, name))  # type: ignore[misc]
            yield replace(check, is_required=False)


def _additional_engines(device: Device) -> list[str]:
    """For each model format that no engine of the profile reads, an engine that does."""
    known_formats = {
        weight_format for name in device.engines for weight_format in plugins.load("engines", name).formats
    }
    engines = []
    for name in sorted(plugins.names("engines"), key=lambda name: (name != PREFERRED_ENGINE, name)):
        if additional := {*plugins.load("engines", name).formats} - known_formats:
            known_formats |= additional
            engines.append(name)
    return engines


def _run_check(name: str, probe: Callable[[], str]) -> Check:
    try:
        return Check(name, True, probe())
    except EdgebenchError as error:
        code = max(error.exit_code, DeviceRefused.exit_code)
        return Check(name, False, str(error), error.hint, exit_code=code)


def _connect(stack: contextlib.ExitStack, session: Session) -> str:
    stack.enter_context(session)
    return str(session.device.transport["kind"])


def _commands(session: Session) -> str:
    output = session.run(session.system.echo(ECHO_TEXT))
    if output.stdout.strip() != ECHO_TEXT:
        raise EdgebenchError(
            f"text is altered in transit: {output.stdout.strip() or output.stderr.strip()!r}",
            "Is system: in the profile right, and the login shell a common one? On Windows it must be cmd.exe.",
        )
    return "text is transmitted unchanged"


def _facts(session: Session) -> str:
    facts = session.facts()
    known = [text for text in (facts.model, facts.cpu, facts.os) if text]
    missing = f"; unknown: {', '.join(facts.absent)}" if facts.absent else ""
    if not known and len(facts.absent) == len(session.system.facts):
        raise EdgebenchError("the device answered no query", "Is system: in the profile right?")
    return (", ".join(known) or "some") + missing


def _workspace(session: Session) -> str:
    if session.is_local:
        return "this machine: models are used in place"
    folder = provision.query(session, session.system.files.make_folder(session.workspace))
    return folder.path + (f", {folder.free_b // 10**9} GB free" if folder.free_b is not None else "")


def _files(session: Session) -> str:
    if session.is_local:
        return "not needed"
    content = secrets.token_bytes(100_000)
    sha256 = hashlib.sha256(content).hexdigest()
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / "check"
        local.write_bytes(content)
        path = provision.deploy_file(session, local, sha256, len(content), "check", provision.MODELS)
    provision.execute(session, session.system.files.remove([path]))
    return "sent, verified, removed"


def _lock(session: Session) -> str:
    with lock.hold_lock(session):
        return "the device is not in use"


def _engine(session: Session, name: str) -> str:
    facts = prepare_engine(name, create_engine(session, name))
    return ", ".join(text for text in (facts.name, facts.build, facts.path) if text)
