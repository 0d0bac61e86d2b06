"""Host keys: reject unknown ones, and add a key to known_hosts once the user trusts it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgebench.errors import DeviceRefused, ProfileError

if TYPE_CHECKING:
    import paramiko


class UnknownHostKey(DeviceRefused):
    """The host's key is not in known_hosts."""

    def __init__(self, name: str, key: paramiko.PKey, file: Path) -> None:
        self.name, self.key, self.file = name, key, file
        super().__init__(
            f"the host key of {name} is unknown: {key.get_name()} {self.fingerprint}",
            "Compare it with the key on the device, then: edgebench devices trust NAME",
        )

    @property
    def fingerprint(self) -> str:
        return str(self.key.fingerprint)

    def trust(self) -> None:
        """Append the key to the known_hosts file. Raises ``ProfileError``."""
        line = f"{self.name} {self.key.get_name()} {self.key.get_base64()}\n".encode()
        try:
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            content = self.file.read_bytes() if self.file.exists() else b""
            with self.file.open("ab") as file:
                file.write(line if not content or content.endswith(b"\n") else b"\n" + line)
        except OSError as error:
            raise ProfileError(
                f"{self.file}: {error.strerror}", "Set known_hosts: in the profile to a writable file."
            ) from error


def load_known_hosts(client: paramiko.SSHClient, file: Path) -> None:
    """Load the keys of a known_hosts file. Raises ``ProfileError``."""
    from paramiko.hostkeys import InvalidHostKey

    try:
        if file.exists():
            client.load_system_host_keys(str(file))
    except InvalidHostKey as error:
        raise ProfileError(f"{file}: invalid host key: {error.args[0]}", "Remove the line.") from error
    except (OSError, ValueError) as error:
        raise ProfileError(f"{file}: {error}", "Set known_hosts: in the profile to another file.") from error


def reject_policy(known_hosts: Path) -> paramiko.MissingHostKeyPolicy:
    """A policy that raises ``UnknownHostKey``; its ``trust`` writes the key to ``known_hosts``."""
    import paramiko

    class RaiseUnknown(paramiko.MissingHostKeyPolicy):
        def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
            raise UnknownHostKey(hostname, key, known_hosts)

    return RaiseUnknown()


def host_entry(name: str, port: int) -> str:
    """A host's name as known_hosts has it."""
    return name if port == 22 else f"[{name}]:{port}"
