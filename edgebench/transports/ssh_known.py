"""Host keys: known ones, and those that nobody has said to be the right ones yet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgebench.errors import DeviceRefused, ProfileError

if TYPE_CHECKING:
    import paramiko


class UnknownHostKey(DeviceRefused):
    """The host shows a key that nobody has said to be the right one yet."""

    def __init__(self, name: str, key: paramiko.PKey, file: Path) -> None:
        self.name, self.key, self.file = name, key, file
        super().__init__(
            f"the host key of {name} is not known: {key.get_name()} {self.fingerprint}",
            "Compare it with the device's own, then: edgebench devices trust NAME",
        )

    @property
    def fingerprint(self) -> str:
        return str(self.key.fingerprint)

    def trust(self) -> None:
        """Write the key into the file of known hosts. Raises ``ProfileError``."""
        line = f"{self.name} {self.key.get_name()} {self.key.get_base64()}\n".encode()
        try:
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            old = self.file.read_bytes() if self.file.exists() else b""
            with self.file.open("ab") as file:
                file.write(line if not old or old.endswith(b"\n") else b"\n" + line)
        except OSError as error:
            raise ProfileError(
                f"{self.file}: {error.strerror}", "Say known_hosts: in the profile: a file that can be written."
            ) from error


def load(client: paramiko.SSHClient, file: Path) -> None:
    """The keys that a file knows. Raises ``ProfileError``."""
    from paramiko.hostkeys import InvalidHostKey

    try:
        if file.exists():
            client.load_system_host_keys(str(file))
    except InvalidHostKey as error:
        raise ProfileError(f"{file}: invalid host key: {error.args[0]}", "Remove the line.") from error
    except (OSError, ValueError) as error:
        raise ProfileError(f"{file}: {error}", "known_hosts: in the profile names another file.") from error


def refuse(known: Path) -> paramiko.MissingHostKeyPolicy:
    """Raises ``UnknownHostKey`` for a host that is in no file; ``known`` is where it would be written."""
    import paramiko

    class Refuse(paramiko.MissingHostKeyPolicy):
        def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
            raise UnknownHostKey(hostname, key, known)

    return Refuse()


def entry(name: str, port: int) -> str:
    """A host's name in a file of known hosts."""
    return name if port == 22 else f"[{name}]:{port}"
