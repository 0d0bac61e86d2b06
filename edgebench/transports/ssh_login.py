"""Log in to an SSH server: configuration, keys, and error messages with advice."""

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
"""Timeout for a connection, a login or a channel."""


@dataclass(frozen=True)
class Settings:
    """Options of ``transport:`` in a profile with ``kind: ssh``."""

    host: str
    """Name, address, or a ``Host`` of ``~/.ssh/config``."""
    port: int | None = None
    """Default: from ``~/.ssh/config``, else 22."""
    user: str | None = None
    key: str | None = None
    """Private key file. Keys of the agent and the default files in ``~/.ssh`` are tried as well."""
    known_hosts: str | None = None
    """known_hosts file; default: ``~/.ssh/known_hosts``."""
    jump: str | None = None
    """Jump hosts: ``[user@]host[:port]``, separated by commas."""


def transport_errors() -> tuple[type[Exception], ...]:
    """Exceptions of a broken connection: paramiko's, the socket's, and for corrupted data the cipher's
    and SFTP's."""
    import paramiko
    from cryptography.exceptions import InvalidTag

    return paramiko.SSHException, paramiko.SFTPError, InvalidTag, OSError, EOFError


def login(config: Settings) -> list[paramiko.SSHClient]:
    """Connections to the jump hosts, if any, and to the host itself, in this order.

    Raises ``DeviceRefused``, ``DeviceLost`` and ``ProfileError``.
    """
    hops = [*_jump_hosts(config), (config.host, config.user, config.port)]
    clients: list[paramiko.SSHClient] = []
    try:
        for hop in hops:
            clients.append(_connect(config, *hop, jump_client=clients[-1] if clients else None))
    except BaseException:
        close_clients(clients)
        raise
    return clients


def close_clients(clients: list[paramiko.SSHClient]) -> None:
    for client in reversed(clients):
        with contextlib.suppress(*transport_errors()):
            client.close()
    clients.clear()


def open_transport(client: paramiko.SSHClient) -> paramiko.Transport:
    transport = client.get_transport()
    if transport is None:
        raise DeviceLost("the SSH connection is closed")
    return transport


def _connect(
    config: Settings, host: str, user: str | None, port: int | None, *, jump_client: paramiko.SSHClient | None
) -> paramiko.SSHClient:
    import paramiko

    entry = _host_config(host)
    name, port = entry["hostname"], port or int(entry.get("port", 22))
    known_hosts = Path(
        config.known_hosts or entry.get("userknownhostsfile", "~/.ssh/known_hosts").split()[0]
    ).expanduser()
    client = paramiko.SSHClient()
    for file in (known_hosts, Path("/etc/ssh/ssh_known_hosts")):
        ssh_known.load_known_hosts(client, file)
    client.set_missing_host_key_policy(ssh_known.reject_policy(known_hosts))
    keys = _keys(config.key, list(entry.get("identityfile", [])))
    try:
        with _translate_errors(name, port, known_hosts):
            sock = (
                open_transport(jump_client).open_channel("direct-tcpip", (name, port), ("127.0.0.1", 0))
                if jump_client
                else None
            )
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
                transport_factory=_transport_class(),
            )
    except BaseException:
        client.close()
        raise
    return client


class _ChannelSocket:
    """A channel of a jump host, as a socket: it can be closed even when the connection below it is broken."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def close(self) -> None:
        with contextlib.suppress(*transport_errors()):
            self._channel.close()


def _transport_class() -> Callable[..., paramiko.Transport]:
    """paramiko's Transport with the fast cipher first, no waiting for full packets, and exit signals."""
    import paramiko
    from paramiko.common import MSG_CHANNEL_REQUEST

    numbers = {sig.name[3:]: int(sig) for sig in signal.Signals}

    def request(channel: Any, message: Any) -> None:
        # RFC 4254, 6.10: "exit-signal" replaces "exit-status". paramiko ignores it.
        if message.get_text() == "exit-signal":
            message.get_boolean()
            channel.exit_status = 128 + numbers.get(message.get_text(), 0)
            channel.status_event.set()
        else:
            message.rewind()
            message.get_int()
            paramiko.Channel._handle_request(channel, message)  # type: ignore[attr-defined]

    class FastTransport(paramiko.Transport):
        _channel_handler_table = {**paramiko.Transport._channel_handler_table, MSG_CHANNEL_REQUEST: request}  # type: ignore[attr-defined] # noqa: RUF012

        def __init__(self, sock: Any, **options: Any) -> None:
            if isinstance(sock, socket.socket):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            else:
                sock = _ChannelSocket(sock)
            super().__init__(sock, **options)
            security = self.get_security_options()
            security.ciphers = sorted(security.ciphers, key=lambda name: "gcm" not in name)

    return FastTransport


@contextlib.contextmanager
def _translate_errors(name: str, port: int, known_hosts: Path) -> Iterator[None]:
    """Translate errors of connecting into ``DeviceLost`` and ``DeviceRefused`` with advice."""
    import paramiko

    address = name if port == 22 else f"{name}:{port}"
    try:
        yield
    except (socket.gaierror, UnicodeError) as error:
        raise DeviceLost(f"cannot resolve {address}", "Check host: in the profile.") from error
    except paramiko.ssh_exception.NoValidConnectionsError as error:
        raise DeviceLost(f"no response from {address}", "Is the device on, and sshd running on that port?") from error
    except paramiko.BadHostKeyException as error:
        raise DeviceRefused(
            f"the host key of {address} has changed: received {error.key.get_name()} {error.key.fingerprint}, "
            f"expected {error.expected_key.get_name()} {error.expected_key.fingerprint}",
            "This may be a man-in-the-middle attack. If you know why it changed, remove the old key "
            f"(ssh-keygen -f {shlex.quote(str(known_hosts))} "
            f"-R {shlex.quote(ssh_known.host_entry(error.hostname, port))}), then: edgebench devices trust NAME",
        ) from error
    except paramiko.AuthenticationException as error:
        raise DeviceRefused(
            f"{address} accepts none of the keys", "Install your public key there (ssh-copy-id), or set user: and key:."
        ) from error
    except OSError as error:
        raise DeviceLost(f"no connection to {address}: {error}", "Is the device on and in the same network?") from error
    except transport_errors() as error:
        if "authentication methods" in str(error):
            raise DeviceRefused(f"no SSH key available for {address}", "Set key:, or ssh-add one.") from error
        message = str(error) or type(error).__name__
        raise DeviceLost(f"no SSH connection to {address}: {message}", "Is an SSH server listening there?") from error


def _host_config(host: str) -> paramiko.SSHConfigDict:
    """A host's options in ``~/.ssh/config``. Raises ``ProfileError``."""
    import paramiko
    from paramiko.ssh_exception import ConfigParseError, CouldNotCanonicalize

    file = Path("~/.ssh/config").expanduser()
    try:
        host_config = (paramiko.SSHConfig.from_path(str(file)) if file.exists() else paramiko.SSHConfig()).lookup(host)
        int(host_config.get("port", 22))
    except (ConfigParseError, CouldNotCanonicalize, OSError, ValueError, LookupError, ImportError) as error:
        raise ProfileError(f"cannot parse {file}: {error}", "Correct the file.") from error
    return host_config


def _jump_hosts(config: Settings) -> list[Hop]:
    text: str = config.jump or _host_config(config.host).get("proxyjump", "none")
    hops: list[Hop] = []
    for part in [] if text.lower() == "none" else text.split(","):
        parsed = parse_hop(part.strip())
        if parsed is None:
            raise ProfileError(f"jump: {part.strip()!r} is not [user@]host[:port]")
        hops.append(parsed)
    return hops


def parse_hop(text: str) -> Hop | None:
    """Parse ``[user@]host[:port]``, an IPv6 address in brackets; None if it has another form."""
    match = re.fullmatch(r"(?:ssh://)?(?:([^@]+)@)?(\[[^\]]+\]|[^:@]+)(?::(\d+))?", text)
    return (match[2].strip("[]"), match[1], int(match[3]) if match[3] else None) if match else None


def _keys(key: str | None, identity_files: list[str]) -> list[str]:
    """Private key files to try. A key file set in the profile must exist and be readable."""
    import paramiko
    from cryptography.exceptions import UnsupportedAlgorithm
    from paramiko.pkey import UnknownKeyType

    if key is None:
        return [file for file in map(str, (Path(name).expanduser() for name in identity_files)) if Path(file).exists()]
    file = Path(key).expanduser()
    try:
        paramiko.PKey.from_path(file)
    except (paramiko.PasswordRequiredException, TypeError):
        pass  # Encrypted (TypeError is cryptography's): the agent may hold it.
    except OSError as error:
        raise ProfileError(f"key file {file}: {error.strerror or error}", "Correct key: in the profile.") from error
    except (paramiko.SSHException, UnknownKeyType, UnsupportedAlgorithm, ValueError, IndexError) as error:
        raise ProfileError(f"key file {file}: not a readable private key", "Correct key: in the profile.") from error
    return [str(file)]
