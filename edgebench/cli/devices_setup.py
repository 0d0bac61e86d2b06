"""``edgebench devices setup``: an engine onto a device that has none."""

from __future__ import annotations

import click

from edgebench import plugins, profiles
from edgebench.cli.output import ProfileName, transfer
from edgebench.device.session import Session
from edgebench.errors import DeviceRefused

ENGINE = "llama.cpp"
PKG_S = 1800.0


@click.command("setup")
@click.argument("device", type=ProfileName("devices"))
@click.option("--backend", help="cpu, vulkan, metal.  [default: the profile's, else cpu]")
@click.option("--mirror", metavar="FOLDER|URL", help="Where to take the archive from, under the same name.")
def setup(device: str, backend: str | None, mirror: str | None) -> None:
    """Put llama.cpp onto a device and look whether it runs there.

    A profile that names its own path is only checked. Termux installs its own package. Everything
    else gets a pinned release archive of llama.cpp, put into the workspace, where runs find it.
    """
    from edgebench.device import lock

    found = profiles.load_device(device)
    settings = found.engines.get(ENGINE, {})
    with Session(found) as session, lock.held(session):
        if session.is_local or settings.get("path"):
            pass
        elif found.system == "termux":
            _package(session)
        else:
            _archive(session, backend or str(found.defaults.get("backend", "cpu")), mirror)
        facts = plugins.create("engines", ENGINE, session, config=settings).prepare()
    told = ", ".join(str(facts[key]) for key in ("build", "path") if facts.get(key))
    click.echo(f"{device} runs {ENGINE}: {told}", err=True)


def _package(session: Session) -> None:
    said = session.run("pkg install -y llama-cpp", timeout=PKG_S)
    if said.status != 0:
        raise DeviceRefused(
            f"Termux cannot install its package llama-cpp: {(said.stderr or said.stdout).strip()[-300:]}",
            "On the phone: pkg update, then pkg install llama-cpp",
        )


def _archive(session: Session, backend: str, mirror: str | None) -> None:
    from edgebench.device import archives

    archive = archives.choose(ENGINE, session.device.system, archives.machine(session), backend)
    with transfer(f"getting {archive.file}") as progress:
        path = archives.fetch(archive, mirror, progress)
    for name in archives.place(session, archive, path):
        click.echo(f"putting {name} in place", err=True)
