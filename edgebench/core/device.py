"""A device, the transport to it, and its operating system."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Generic, Literal, Protocol, TypeVar, runtime_checkable

from edgebench.core.facts import DeviceFacts
from edgebench.core.probe import ProbeSource
from edgebench.core.values import Option, Progress

Answer_co = TypeVar("Answer_co", covariant=True)


@dataclass(frozen=True)
class Device:
    """A device that a session can be opened to; ``profiles`` reads it from ``devices/NAME.yaml``."""

    name: str
    system: str
    transport: Mapping[str, object]
    """``{"kind": NAME, …}``: the rest is validated by that transport's own ``Config``."""
    description: str = ""
    workspace: str | None = None
    """Folder on the device that edgebench may write to; by default that of the system."""
    engines: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    defaults: Mapping[str, Option] = field(default_factory=dict)
    source: Path | None = None


@dataclass(frozen=True)
class Output:
    """Output of a finished command, and its exit status (128 + n: killed by signal n)."""

    stdout: str
    stderr: str
    status: int


@dataclass(frozen=True)
class Line:
    """One line of a running process, without its end; ``at`` is ``time.monotonic()``, seconds."""

    stream: Literal["out", "err"]
    text: str
    at: float


class Process(Protocol):
    """A command running on a device."""

    def read(self, timeout: float) -> Line | None:
        """The next line, or None if none arrived within ``timeout`` seconds or both streams ended.

        Raises ``DeviceLost`` once all lines are read if the connection broke before a status arrived.
        """

    def write(self, text: str) -> None:
        """Send text to its standard input. Raises ``DeviceLost`` if the connection is closed."""

    @property
    def status(self) -> int | None:
        """Exit status once it has ended *and* every line has been read; None until then."""

    def kill(self) -> None:
        """Close the controller's end of it; returns at once. Never raises."""


class Transport(Protocol):
    """A connection to a device. Commands are text in the language of the device's shell.

    A plugin is a class with a nested frozen dataclass ``Config`` (the keys under ``transport:`` in the
    profile, apart from ``kind``) whose only argument is a ``Config``. It does nothing before ``open``.
    """

    Config: ClassVar[type]

    def open(self) -> None:
        """Connect. Raises ``DeviceRefused`` (wrong key, unauthorized …) or ``DeviceLost``."""

    def close(self) -> None:
        """Release all resources on the controller and every forwarded port. Never raises."""

    def run(self, command: str, *, timeout: float = 60, stdin: bytes = b"") -> Output:
        """Run until it exits. Raises ``DeviceLost`` if the connection breaks, ``TimedOut`` after ``timeout`` s."""

    def spawn(self, command: str) -> Process: ...

    def push(self, local: Path, remote: str, progress: Progress | None = None) -> None:
        """Copy a file to the device; resumes at the byte where an interrupted push stopped."""

    def pull(self, remote: str, local: Path) -> None: ...

    def forward(self, port: int) -> AbstractContextManager[int]:
        """A device's loopback port as a port on the controller's loopback."""


@runtime_checkable
class ReverseForwarding(Protocol):
    """A transport whose device can also reach the controller."""

    def reverse(self, port: int) -> AbstractContextManager[int]:
        """A port of the controller's loopback as a port on the device's loopback.

        Raises ``DeviceRefused`` if the device forbids it, ``DeviceLost``.
        """


@dataclass(frozen=True)
class Fact(Generic[Answer_co]):
    """A query to a device: a command and a pure parser of its output (law 1).

    What the output does not contain is absent from the result. ``parse`` raises ``Unreadable`` for output
    that it cannot parse.
    """

    command: str
    parse: Callable[[str], Answer_co]


@dataclass(frozen=True)
class Folder:
    """A folder on a device."""

    path: str
    """Absolute."""
    free_b: int | None = None
    """On its disk."""


@dataclass(frozen=True)
class FileState:
    """A file on a device."""

    size_b: int
    sealed: bool
    """Whether it is unchanged since it was sealed."""
    modified: int | None = None
    """Seconds since 1970."""


@dataclass(frozen=True)
class Command:
    """A program to start on a device."""

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    secrets: tuple[str, ...] = ()
    """Names of environment variables whose values are passed on standard input, one line each in
    this order, so that no argv, log or process list contains them."""


@dataclass(frozen=True)
class PageCache:
    """Commands that inspect and change a file's state in the operating system's page cache."""

    resident: Fact[float]
    """Share of the file, 0…1, that is cached."""
    fill: str
    """Command that reads the whole file."""
    evict: str
    """Command that asks the system to evict the file; ``resident`` reports whether it did."""


class Files(Protocol):
    """File operations on a device: shell commands, and parsers of their output."""

    def join(self, *parts: str) -> str: ...

    def make_folder(self, path: str) -> Fact[Folder]:
        """Create a folder and its parents."""

    def state(self, path: str) -> Fact[FileState | None]:
        """None if the file does not exist."""

    def seal(self, path: str) -> str:
        """Mark a file so that ``state`` reports later changes."""

    def sha256(self, path: str) -> Fact[str]:
        """In lower case."""

    def sizes(self, folder: str) -> Fact[Mapping[str, int]]:
        """Size in bytes of each file in a folder, by name; empty if the folder does not exist."""

    def write_line(self, path: str, line: str) -> str:
        """Write a file of one line of ASCII; its name ends in ``.json``."""

    def read_lines(self, folder: str) -> Fact[Sequence[str]]:
        """The lines of all ``.json`` files in a folder; empty if the folder does not exist."""

    def move(self, source: str, target: str) -> str: ...

    def executable(self, path: str) -> str:
        """Make a file executable."""

    def remove(self, paths: Sequence[str]) -> str:
        """Remove files; missing ones are ignored."""

    def lock(self, path: str, owner: str, lease: int) -> str:
        """Command that acquires a lock and holds it until its standard input ends.

        It prints ``taken``, ``held OWNER``, or an error. Each line on its standard input renews the lease
        (seconds); a lock whose lease has expired may be taken over.
        """


SILENCED = 128 + 14
"""Exit status of a program that the watchdog stopped for lack of heartbeats: that of SIGALRM."""


class System(Protocol):
    """An operating system: its shell, files and facts."""

    facts: Mapping[str, Fact[DeviceFacts]]
    files: Files
    default_workspace: str
    """Relative to the home folder unless absolute."""

    suffix: str
    """Suffix of executable files: ``.exe`` on Windows, empty elsewhere."""

    def quote(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> str:
        """A command line for this system's shell that starts exactly this argv in this environment."""

    def echo(self, text: str) -> str:
        """Print a line of text, to check that text arrives unchanged."""

    def find(self, program: str) -> Fact[str | None]:
        """The path of a program on the PATH, or None."""

    def supervise(self, command: Command, tag: str) -> str:
        """Command line that runs a command under a watchdog, which stops it if the controller disappears.

        In-band protocol on the watchdog's standard output: ``{tag} pid PID UPTIME`` at the start
        (device clock, seconds), ``{tag} exit STATUS UPTIME`` at the end. A watchdog that needs time
        to find the pid prints ``{tag} start 0 UPTIME`` first. On its standard input: one line per
        secret, then, after the pid, the heartbeat ``beat`` about once a second, or ``stop`` (graceful),
        ``term``, ``kill``. Several missed heartbeats end the program with exit status ``SILENCED``; so
        does the end of standard input.
        """

    def page_cache(self, path: str) -> PageCache | None:
        """None if the system gives no access to its page cache."""

    def loop(self, sources: Mapping[str, ProbeSource], pid: int) -> str:
        """The sampling loop as a command line, run by one process that prints what ``sampler`` parses.

        It runs until process ``pid`` has exited (0: until it is killed) or its output is closed.
        """


class DeviceSession(Protocol):
    """An open session with a device, as far as engines and probes may use it."""

    device: Device
    system: System
    workspace: str

    @property
    def is_local(self) -> bool:
        """Whether the device is the controller itself."""

    def run(self, command: str, *, timeout: float = 60, stdin: bytes = b"") -> Output: ...

    def push(self, local: Path, remote: str, progress: Progress | None = None) -> None: ...
