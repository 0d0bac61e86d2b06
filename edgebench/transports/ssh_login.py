"""Getting into an SSH server: configuration, keys, and what goes wrong in words that help."""

from __future__ import annotations

import contextlib
import re
import shlex
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgebench.errors import DeviceLost, DeviceRefused, ProfileError
from edgebench.transports import ssh_known

if TYPE_CHECKING:
    import paramiko

Hop = tuple[str, str | None, int | None]
"""Host, user, port."""

CONNECT_S = 20.0
"""Longest wait for a connection, a login or a channel."""


@dataclass(frozen=True)
class Settings:
    """What a profile may say under ``transport:`` with ``kind: ssh``."""

    host: str
    """Name, address, or a ``Host`` of ``~/.ssh/config``."""
    port: int | None = None
    """22 where neither the profile nor ``~/.ssh/config`` says otherwise."""
    user: str | None = None
    key: str | None = None
    """Private key file. Keys of the agent and the usual files in ``~/.ssh`` are tried as well."""
    known_hosts: str | None = None
    """File of known host keys; ``~/.ssh/known_hosts`` where absent."""
    jump: str | None = None
    """Hosts to go through: ``[user@]host[:port]``, several separated by commas."""


def broken() -> tuple[type[Exception], ...]:
    """What comes of a wire that breaks: paramiko's words and a socket's; a cipher's, and SFTP's, where
    other bytes arrive than were sent."""
    import paramiko
    from cryptography.exceptions import InvalidTag

    return paramiko.SSHException, paramiko.SFTPError, InvalidTag, OSError, EOFError


def login(config: Settings) -> list[paramiko.SSHClient]:
    """Connections to the jump hosts, if any, and to the host itself, in this order.

    Raises ``DeviceRefused``, ``DeviceLost`` and ``ProfileError``.
    """
    hops = [*_jumps(config), (config.host, config.user, config.port)]
    clients: list[paramiko.SSHClient] = []
    try:
        for hop in hops:
            clients.append(_connect(config, *hop, through=clients[-1] if clients else None))
    except BaseException:
        hang_up(clients)
        raise
    return clients


def hang_up(clients: list[paramiko.SSHClient]) -> None:
    for client in reversed(clients):
        with contextlib.suppress(*broken()):
            client.close()
    clients.clear()


def transport(client: paramiko.SSHClient) -> paramiko.Transport:
    found = client.get_transport()
    if found is None:
        raise DeviceLost("the SSH connection is closed")
    return found


def _connect(
    config: Settings, host: str, user: str | None, port: int | None, *, through: paramiko.SSHClient | None
) -> paramiko.SSHClient:
    import paramiko

    entry = _configured(host)
    name, port = entry["hostname"], port or int(entry.get("port", 22))
    known = Path(config.known_hosts or entry.get("userknownhostsfile", "~/.ssh/known_hosts").split()[0]).expanduser()
    client = paramiko.SSHClient()
    for file in (known, Path("/etc/ssh/ssh_known_hosts")):
        ssh_known.load(client, file)
    client.set_missing_host_key_policy(ssh_known.refuse(known))
    keys = _keys(config.key, list(entry.get("identityfile", [])))
    try:
        with _named(name, port, known):
            sock = transport(through).open_channel("direct-tcpip", (name, port), ("127.0.0.1", 0)) if through else None
            client.connect(
                name,
                port,
                username=user or entry.get("user"),
                key_filename=keys,  # type: ignore[arg-type]
                sock=sock,
                timeout=CONNECT_S,
                banner_timeout=CONNECT_S,
                auth_timeout=CONNECT_S,
                channel_timeout=CONNECT_S,
                transport_factory=_wire(),
            )
    except BaseException:
        client.close()
        raise
    return client


class _Through:
    """A channel of a jump host, as a socket: it can be closed when the wire below it is broken, too."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def close(self) -> None:
        with contextlib.suppress(*broken()):
            self._channel.close()


def _wire() -> Callable[..., paramiko.Transport]:
    """paramiko's Transport with the fast cipher first, no waiting for full packets, and exit signals."""
    import paramiko
    from paramiko.common import MSG_CHANNEL_REQUEST

    numbers = {s.name[3:]: int(s) for s in signal.Signals}

    def request(channel: Any, message: Any) -> None:
        # RFC 4254, 6.10: "exit-signal" takes the place of "exit-status". paramiko drops it.
        if message.get_text() == "exit-signal":
            message.get_boolean()
            channel.exit_status = 128 + numbers.get(message.get_text(), 0)
            channel.status_event.set()
        else:
            message.rewind()
            message.get_int()
            paramiko.Channel._handle_request(channel, message)  # type: ignore[attr-defined]

    class Wire(paramiko.Transport):
        _channel_handler_table = {**paramiko.Transport._channel_handler_table, MSG_CHANNEL_REQUEST: request}  # type: ignore[attr-defined] # noqa: RUF012

        def __init__(self, sock: Any, **options: Any) -> None:
            if isinstance(sock, socket.socket):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            else:
                sock = _Through(sock)
            super().__init__(sock, **options)
            security = self.get_security_options()
            security.ciphers = sorted(security.ciphers, key=lambda name: "gcm" not in name)

    return Wire


@contextlib.contextmanager
def _named(name: str, port: int, known: Path) -> Iterator[None]:
    """Everything that can go wrong while connecting, in words that help."""
    import paramiko

    where = name if port == 22 else f"{name}:{port}"
    try:
        yield
    except (socket.gaierror, UnicodeError) as error:
        raise DeviceLost(f"no address is known for {where}", "Check host: in the profile.") from error
    except paramiko.ssh_exception.NoValidConnectionsError as error:
        raise DeviceLost(f"nothing answers on {where}", "Is the device on, and sshd running on that port?") from error
    except paramiko.BadHostKeyException as error:
        raise DeviceRefused(
            f"the host key of {where} has changed: it is {error.key.get_name()} {error.key.fingerprint}, "
            f"known is {error.expected_key.get_name()} {error.expected_key.fingerprint}",
            "This may be a man-in-the-middle attack. If you know why it changed, remove the old key "
            f"(ssh-keygen -f {shlex.quote(str(known))} -R {shlex.quote(ssh_known.entry(error.hostname, port))}), then: "
            "edgebench devices trust NAME",
        ) from error
    except paramiko.AuthenticationException as error:
        raise DeviceRefused(
            f"{where} accepts none of the keys", "Put your public key there (ssh-copy-id), or set user: and key:."
        ) from error
    except OSError as error:
        raise DeviceLost(f"no connection to {where}: {error}", "Is the device on and in the same network?") from error
    except broken() as error:
        if "authentication methods" in str(error):
            raise DeviceRefused(f"there is no key to log in to {where} with", "Set key:, or ssh-add one.") from error
        said = str(error) or type(error).__name__
        raise DeviceLost(f"no SSH connection to {where}: {said}", "Is it an SSH server that listens there?") from error


def _configured(host: str) -> paramiko.SSHConfigDict:
    """What ``~/.ssh/config`` says of a host. Raises ``ProfileError``."""
    import paramiko
    from paramiko.ssh_exception import ConfigParseError, CouldNotCanonicalize

    file = Path("~/.ssh/config").expanduser()
    try:
        found = (paramiko.SSHConfig.from_path(str(file)) if file.exists() else paramiko.SSHConfig()).lookup(host)
        int(found.get("port", 22))
    except (ConfigParseError, CouldNotCanonicalize, OSError, ValueError, LookupError, ImportError) as error:
        raise ProfileError(f"{file} is not understood: {error}", "Correct the file.") from error
    return found


def _jumps(config: Settings) -> list[Hop]:
    text: str = config.jump or _configured(config.host).get("proxyjump", "none")
    found: list[Hop] = []
    for part in [] if text.lower() == "none" else text.split(","):
        one = hop(part.strip())
        if one is None:
            raise ProfileError(f"jump: {part.strip()!r} is not [user@]host[:port]")
        found.append(one)
    return found


def hop(text: str) -> Hop | None:
    """``[user@]host[:port]``, an address of IPv6 in brackets; None where it is not."""
    found = re.fullmatch(r"(?:ssh://)?(?:([^@]+)@)?(\[[^\]]+\]|[^:@]+)(?::(\d+))?", text)
    return (found[2].strip("[]"), found[1], int(found[3]) if found[3] else None) if found else None


def _keys(key: str | None, configured: list[str]) -> list[str]:
    """Private key files to try. A file that the profile names must be there and be a key."""
    import paramiko
    from cryptography.exceptions import UnsupportedAlgorithm
    from paramiko.pkey import UnknownKeyType

    if key is None:
        return [file for file in map(str, (Path(f).expanduser() for f in configured)) if Path(file).exists()]
    file = Path(key).expanduser()
    try:
        paramiko.PKey.from_path(file)
    except (paramiko.PasswordRequiredException, TypeError):
        pass  # Locked, by its own or by cryptography's word for it: the agent may hold it.
    except OSError as error:
        raise ProfileError(f"key file {file}: {error.strerror or error}", "Correct key: in the profile.") from error
    except (paramiko.SSHException, UnknownKeyType, UnsupportedAlgorithm, ValueError, IndexError) as error:
        raise ProfileError(
            f"key file {file}: not a private key that can be read", "Correct key: in the profile."
        ) from error
    return [str(file)]
