"""Finding a phone on an adb server, and what to do on the phone when it isn't ready."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgebench.errors import DeviceLost, DeviceRefused, ProfileError

if TYPE_CHECKING:
    import adbutils

CONNECT_S = 20.0
"""Longest wait for the adb server or a phone on Wi-Fi to answer."""


@dataclass(frozen=True)
class Settings:
    """What a profile may say under ``transport:`` with ``kind: adb``."""

    serial: str | None = None
    """As ``adb devices`` prints it, or ``host:port`` of a phone on Wi-Fi. Absent: the only one."""
    host: str | None = None
    """Where the adb server runs; ``ANDROID_ADB_SERVER_HOST`` or this machine where absent."""
    port: int | None = None
    """``ANDROID_ADB_SERVER_PORT`` or 5037 where absent."""


NOT_READY = {
    "unauthorized": (
        DeviceRefused,
        "the phone has not allowed this computer to debug it",
        'Unlock the phone and tap "Allow" in the dialogue "Allow USB debugging?". If it does not show, unplug and '
        'plug in again, or use "Revoke USB debugging authorizations" in the developer options first.',
    ),
    "authorizing": (DeviceRefused, "the phone is still deciding", 'Unlock it and tap "Allow", then try again.'),
    "offline": (
        DeviceLost,
        "adb sees the phone, but it does not answer",
        "Unplug it and plug it in again, or switch USB debugging (or wireless debugging) off and on.",
    ),
    "no permissions": (
        DeviceRefused,
        "this user may not use the USB device",
        "Install your system's udev rules for Android (Debian: android-sdk-platform-tools-common), then replug.",
    ),
}
"""State in ``adb devices`` → how it is, and what to do about it."""

HOW_TO = (
    'On the phone: Settings, About, tap "Build number" seven times; then Developer options, "USB debugging". '
    "Plug it in, or use wireless debugging and write serial: HOST:PORT in the profile."
)


def client(settings: Settings) -> adbutils.AdbClient:
    """What speaks to the adb server, not yet connected."""
    import adbutils

    return adbutils.AdbClient(settings.host, settings.port, socket_timeout=CONNECT_S)


def find(client: adbutils.AdbClient, settings: Settings) -> adbutils.AdbDevice:
    """The phone, ready. Raises ``DeviceRefused``, ``DeviceLost``, ``ProfileError``."""
    if settings.port is not None:
        _listens(settings.host or "127.0.0.1", settings.port)
    with server_errors(settings):
        serial = settings.serial or _only(client)
        states = {info.serial: info.state for info in client.list()}
        if ":" in serial and states.get(serial) in (None, "offline"):
            _connect(client, serial, known=serial in states)
            states = {info.serial: info.state for info in client.list()}
        _check(serial, states)
        return client.device(serial)


def _listens(host: str, port: int) -> None:
    """Where no adb server runs adbutils starts one, but on adb's own port."""
    try:
        socket.create_connection((host, port), CONNECT_S).close()
    except OSError as error:
        raise DeviceLost(
            f"no adb server answers on {host}:{port}: {error.strerror or error}",
            f"Start it there: adb -P {port} start-server, or correct host: and port: in the profile.",
        ) from error


def _only(client: adbutils.AdbClient) -> str:
    found = client.list()
    if not found:
        raise DeviceLost("no phone is connected", HOW_TO)
    if len(found) > 1:
        names = ", ".join(f"{info.serial} ({info.state})" for info in found)
        raise ProfileError(
            f"{len(found)} phones are connected, and the profile does not say which",
            f"Write serial: and one of these under transport: {names}",
        )
    return str(found[0].serial)


def _connect(client: adbutils.AdbClient, serial: str, known: bool) -> None:
    """Over Wi-Fi. The server's own word decides: it answers "OKAY" also where it failed."""
    if known:
        # Otherwise an offline phone is "already connected".
        client.disconnect(serial)
    said = client.connect(serial, timeout=CONNECT_S)
    if said.startswith("failed to authenticate"):
        return  # its state says so, too
    if not said.startswith(("connected to", "already connected")):
        raise DeviceLost(
            f"adb cannot connect to {serial}: {said.strip()}",
            "Is wireless debugging on, the port the one it shows, and the phone in this network? A phone with Android "
            "11 or later must be paired once: adb pair HOST:PAIRING_PORT",
        )


def _check(serial: str, states: dict[str, str]) -> None:
    state = states.get(serial)
    if state == "device":
        return
    if state is None:
        others = ", ".join(sorted(states)) or "none"
        raise DeviceLost(f"{serial} is not connected", f"Connected: {others}. {HOW_TO}")
    state = "no permissions" if state.startswith("no") else state
    kind, what, advice = NOT_READY.get(
        state, (DeviceRefused, f"the phone is in the state {state!r}", "Start Android on it and try again.")
    )
    raise kind(f"{serial}: {what}", advice)


@contextlib.contextmanager
def server_errors(settings: Settings) -> Iterator[None]:
    """An adb server that can't be reached, or says no."""
    from adbutils.errors import AdbError

    port = f":{settings.port}" if settings.port else ""
    where = f"{settings.host or 'this machine'}{port}"
    try:
        yield
    except (AdbError, OSError, EOFError, ValueError, subprocess.SubprocessError) as error:
        raise DeviceLost(
            f"the adb server on {where} does not answer as it should: {error}", "Try: adb devices"
        ) from error
