"""Find a phone on an adb server, and advise what to do if it is not ready."""

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
    """Options of ``transport:`` with ``kind: adb`` in a profile."""

    serial: str | None = None
    """As ``adb devices`` prints it, or ``host:port`` of a phone on Wi-Fi. Default: the only phone."""
    host: str | None = None
    """Host of the adb server; default: ``ANDROID_ADB_SERVER_HOST``, else this machine."""
    port: int | None = None
    """Default: ``ANDROID_ADB_SERVER_PORT``, else 5037."""


NOT_READY = {
    "unauthorized": (
        DeviceRefused,
        "the phone has not allowed this computer to debug it",
        'Unlock the phone and tap "Allow" in the dialogue "Allow USB debugging?". If it does not show, unplug and '
        'plug in again, or use "Revoke USB debugging authorizations" in the developer options first.',
    ),
    "authorizing": (DeviceRefused, "the phone has not decided yet", 'Unlock it and tap "Allow", then try again.'),
    "offline": (
        DeviceLost,
        "adb lists the phone, but it does not respond",
        "Unplug it and plug it in again, or switch USB debugging (or wireless debugging) off and on.",
    ),
    "no permissions": (
        DeviceRefused,
        "this user may not use the USB device",
        "Install your system's udev rules for Android (Debian: android-sdk-platform-tools-common), then replug.",
    ),
}
"""State in ``adb devices`` → error class, message and advice."""

ENABLE_DEBUGGING = (
    'On the phone: Settings, About, tap "Build number" seven times; then Developer options, "USB debugging". '
    "Plug it in, or use wireless debugging and write serial: HOST:PORT in the profile."
)


def client(settings: Settings) -> adbutils.AdbClient:
    """A client of the adb server, not yet connected."""
    import adbutils

    return adbutils.AdbClient(settings.host, settings.port, socket_timeout=CONNECT_S)


def find(client: adbutils.AdbClient, settings: Settings) -> adbutils.AdbDevice:
    """The phone, ready. Raises ``DeviceRefused``, ``DeviceLost``, ``ProfileError``."""
    if settings.port is not None:
        _check_server(settings.host or "127.0.0.1", settings.port)
    with server_errors(settings):
        serial = settings.serial or _only_serial(client)
        states = {info.serial: info.state for info in client.list()}
        if ":" in serial and states.get(serial) in (None, "offline"):
            _connect(client, serial, is_listed=serial in states)
            states = {info.serial: info.state for info in client.list()}
        _check_state(serial, states)
        return client.device(serial)


def _check_server(host: str, port: int) -> None:
    """Raise ``DeviceLost`` without a server there: adbutils would start one, but on adb's default port."""
    try:
        socket.create_connection((host, port), CONNECT_S).close()
    except OSError as error:
        raise DeviceLost(
            f"no adb server answers on {host}:{port}: {error.strerror or error}",
            f"Start it there: adb -P {port} start-server, or correct host: and port: in the profile.",
        ) from error


def _only_serial(client: adbutils.AdbClient) -> str:
    devices = client.list()
    if not devices:
        raise DeviceLost("no phone is connected", ENABLE_DEBUGGING)
    if len(devices) > 1:
        names = ", ".join(f"{info.serial} ({info.state})" for info in devices)
        raise ProfileError(
            f"{len(devices)} phones are connected, and the profile does not select one",
            f"Write serial: and one of these under transport: {names}",
        )
    return str(devices[0].serial)


def _connect(client: adbutils.AdbClient, serial: str, is_listed: bool) -> None:
    """Connect over Wi-Fi. Only the reply's text shows a failure: its status is always OKAY."""
    if is_listed:
        # Otherwise an offline phone is "already connected".
        client.disconnect(serial)
    reply = client.connect(serial, timeout=CONNECT_S)
    if reply.startswith("failed to authenticate"):
        return  # its state reports it, too
    if not reply.startswith(("connected to", "already connected")):
        raise DeviceLost(
            f"adb cannot connect to {serial}: {reply.strip()}",
            "Is wireless debugging on, the port the one it shows, and the phone in this network? A phone with Android "
            "11 or later must be paired once: adb pair HOST:PAIRING_PORT",
        )


def _check_state(serial: str, states: dict[str, str]) -> None:
    state = states.get(serial)
    if state == "device":
        return
    if state is None:
        others = ", ".join(sorted(states)) or "none"
        raise DeviceLost(f"{serial} is not connected", f"Connected: {others}. {ENABLE_DEBUGGING}")
    state = "no permissions" if state.startswith("no") else state
    error_cls, message, advice = NOT_READY.get(
        state, (DeviceRefused, f"the phone is in the state {state!r}", "Start Android on it and try again.")
    )
    raise error_cls(f"{serial}: {message}", advice)


@contextlib.contextmanager
def server_errors(settings: Settings) -> Iterator[None]:
    """Raise ``DeviceLost`` for errors of the adb server."""
    from adbutils.errors import AdbError

    port = f":{settings.port}" if settings.port else ""
    address = f"{settings.host or 'this machine'}{port}"
    try:
        yield
    except (AdbError, OSError, EOFError, ValueError, subprocess.SubprocessError) as error:
        raise DeviceLost(f"the adb server on {address} failed: {error}", "Try: adb devices") from error
