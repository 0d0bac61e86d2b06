"""``edgebench devices init``: create a profile by querying the device."""

from __future__ import annotations

import re
from pathlib import Path

import click

from edgebench.cli.devices_trust import confirm_host_keys
from edgebench.cli.output import ALL
from edgebench.core import Device
from edgebench.errors import DeviceRefused, ProfileError, UsageError

POSIX = "uname -s; echo ${TERMUX_VERSION:+termux}"
SCHEMA = Path("docs/schemas/device.json")
"""Path in a checkout; profiles reference it only if it exists."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@click.command("init")
@click.argument("name")
@click.option("--host", metavar="[USER@]HOST[:PORT]", help="SSH address; HOST may be an alias from ~/.ssh/config.")
@click.option("--serial", metavar="SERIAL", help="ADB serial number from `adb devices`, or HOST:PORT over Wi-Fi.")
@click.option("--known-hosts", metavar="FILE", help="SSH known-hosts file.  [default: ~/.ssh/known_hosts]")
@click.option("--key", metavar="FILE", help="SSH private key.  [default: the agent's keys, then those in ~/.ssh]")
def init(name: str, host: str | None, serial: str | None, known_hosts: str | None, key: str | None) -> None:
    """Create devices/NAME.yaml by querying the device."""
    if not NAME.fullmatch(name) or name == ALL:
        raise UsageError(
            f"{name!r} is not a valid profile name",
            f"Use letters, digits, dots, dashes and underscores; {ALL!r} is reserved.",
        )
    if (host is None) == (serial is None):
        raise UsageError(
            "exactly one of --host and --serial is required",
            "Use --host for a device over SSH, --serial for a phone over ADB (see `adb devices`).",
        )
    file = Path("devices") / f"{name}.yaml"
    if file.exists():
        raise ProfileError(f"{file} already exists", "Remove it, or choose another name.")
    transport: dict[str, object] = {"kind": "adb", "serial": serial}
    if host is not None:
        more = {"key": key, "known_hosts": known_hosts}
        transport = {"kind": "ssh", **_address(host), **{k: v for k, v in more.items() if v}}
    # `devices trust` needs the profile, so an unknown host key is confirmed here.
    confirm_host_keys(Device(name, "linux", transport))
    text = _generate_profile(name, transport)
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")
    click.echo(f"wrote {file}; next: edgebench devices check {name}", err=True)


def _address(text: str) -> dict[str, str | int]:
    from edgebench.transports.ssh_login import parse_hop

    parts = parse_hop(text)
    if not parts:
        raise UsageError(f"--host: {text!r} must have the form [USER@]HOST[:PORT]")
    return {name: value for name, value in zip(("host", "user", "port"), parts, strict=True) if value is not None}


def _generate_profile(name: str, transport: dict[str, object]) -> str:
    """The profile's text."""
    import yaml

    from edgebench.device.session import Session

    system = "android"
    if transport["kind"] == "ssh":
        # Every shell answers one of the two: POSIX shells know $0, cmd.exe %OS%.
        with Session(Device(name, "linux", transport)) as session:
            system = _system(session.run("echo %OS%").stdout, session.run(POSIX).stdout)
    with Session(Device(name, system, transport)) as session:
        facts = session.facts()
        server_fact = session.system.find("llama-server")
        server = server_fact.parse(session.run(server_fact.command).stdout)
    words = [text for text in (facts.model, facts.cpu, facts.os) if text]
    profile: dict[str, object] = {
        "name": name,
        "description": ", ".join(words),
        "system": system,
        "transport": transport,
    }
    profile["engines"] = {"llama.cpp": {"path": server} if server else {}}
    head = f"# yaml-language-server: $schema=../{SCHEMA}\n" if SCHEMA.is_file() else ""
    note = (
        ""
        if server
        else f"# No llama-server on its PATH. Install one with `edgebench devices setup {name}`, or set its path:\n"
        "# engines: {llama.cpp: {path: …}}\n"
    )
    return (
        head + note + yaml.safe_dump(profile, sort_keys=False, allow_unicode=True, default_flow_style=None, width=10**6)
    )


def _system(windows: str, posix: str) -> str:
    """The system, from the output of ``echo %OS%`` and of ``POSIX``."""
    if windows.strip() == "Windows_NT":
        return "windows"
    words = posix.split()
    if "termux" in words:
        return "termux"
    systems = {"Linux": "linux", "Darwin": "macos"}
    if words and words[0] in systems:
        return systems[words[0]]
    if windows.strip() == "%OS%" and not words:
        raise DeviceRefused(
            "unsupported login shell on the device: it is neither cmd.exe nor a POSIX shell (PowerShell?)",
            "On Windows make cmd.exe the login shell: remove DefaultShell from HKLM\\SOFTWARE\\OpenSSH.",
        )
    raise DeviceRefused(
        f"unknown operating system on the device: uname printed {posix.strip()[:100]!r}",
        "Write its profile by hand; see docs/devices.md.",
    )
