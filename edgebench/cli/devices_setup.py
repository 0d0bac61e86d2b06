"""``edgebench devices setup``: install an engine on a device."""

from __future__ import annotations

import click

from edgebench import profiles
from edgebench.cli.output import ProfileName, transfer
from edgebench.device.session import Session
from edgebench.errors import DeviceRefused

ENGINE = "llama.cpp"
PKG_S = 1800.0


@click.command("setup")
@click.argument("device", type=ProfileName("devices"))
@click.option("--backend", metavar="NAME", help="Backend: cpu, vulkan or metal.  [default: the profile's, else cpu]")
@click.option("--mirror", metavar="FOLDER|URL", help="Folder or base URL to take the release archive from.")
def setup(device: str, backend: str | None, mirror: str | None) -> None:
    """Install llama.cpp on a device and verify that it runs.

    If the profile sets a path, only that path is verified. On Termux, the package llama-cpp is installed. All other
    devices get a pinned release archive of llama.cpp, unpacked into the workspace.
    """
    from edgebench.device import lock
    from edgebench.device.engines import create_engine, prepare_engine

    profile = profiles.load_device(device)
    settings = profile.engines.get(ENGINE, {})
    with Session(profile) as session, lock.hold_lock(session):
        if session.is_local or settings.get("path"):
            pass
        elif profile.system == "termux":
            _package(session)
        else:
            _archive(session, backend or str(profile.defaults.get("backend", "cpu")), mirror)
        facts = prepare_engine(ENGINE, create_engine(session, ENGINE))
    description = ", ".join(text for text in (facts.build, facts.path) if text)
    click.echo(f"{device} runs {ENGINE}: {description}", err=True)


def _package(session: Session) -> None:
    output = session.run("pkg install -y llama-cpp", timeout=PKG_S)
    if output.status != 0:
        raise DeviceRefused(
            f"Termux failed to install the package llama-cpp: {(output.stderr or output.stdout).strip()[-300:]}",
            "On the phone, run `pkg update` and `pkg install llama-cpp`.",
        )


def _archive(session: Session, backend: str, mirror: str | None) -> None:
    from edgebench.device import archives

    archive = archives.choose_archive(ENGINE, session.device.system, archives.detect_architecture(session), backend)
    with transfer(f"fetching {archive.file}") as progress:
        path = archives.fetch(archive, mirror, progress)
    for name in archives.deploy(session, archive, path):
        click.echo(f"deploying {name}", err=True)
