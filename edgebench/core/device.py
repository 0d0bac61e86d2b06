"""A device, the wire to it, and the operating system it speaks through."""

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
    """A device one can open: read from ``devices/NAME.yaml`` by ``profiles``."""

    name: str
    system: str
    transport: Mapping[str, object]
    """``{"kind": NAME, …}``: the rest is validated by that transport's own ``Config``."""
    description: str = ""
    workspace: str | None = None
    """Folder on the device that edgebench may fill; the system's default where absent."""
    engines: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    defaults: Mapping[str, Option] = field(default_factory=dict)
    source: Path | None = None


@dataclass(frozen=True)
class Output:
    """What a finished command printed, and its true exit status (128 + n: killed by signal n)."""

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
        """The next line, or None when none came in ``timeout`` seconds or both streams ended.

        Raises ``DeviceLost`` once all lines are read and the wire broke before a status came.
        """

    def write(self, text: str) -> None:
        """Send text to its standard input. Raises ``DeviceLost`` when the wire is gone."""

    @property
    def status(self) -> int | None:
        """Exit status once it has ended *and* every line has been read; None until then."""

    def kill(self) -> None:
        """End the wire's side of it, without asking; returns at once. Never raises."""


class Transport(Protocol):
    """A wire to a device. Commands are text in the device's own shell language.

    A plugin is a class with a nested frozen dataclass ``Config`` (what the profile may say under
    ``transport:``, apart from ``kind``) that takes a ``Config`` and nothing else. It touches
    nothing before ``open``.
    """

    Config: ClassVar[type]

    def open(self) -> None:
        """Connect. Raises ``DeviceRefused`` (wrong key, unauthorized …) or ``DeviceLost``."""

    def close(self) -> None:
        """Let go of everything on this side and of every forward. Never raises."""

    def run(self, command: str, *, timeout: float = 60, stdin: bytes = b"") -> Output:
        """Run to its end. Raises ``DeviceLost`` when the wire breaks, ``TimedOut`` when late."""

    def spawn(self, command: str) -> Process: ...

    def push(self, local: Path, remote: str, progress: Progress | None = None) -> None:
        """Copy a file there, going on at the byte where an earlier, broken push stopped."""

    def pull(self, remote: str, local: Path) -> None: ...

    def forward(self, port: int) -> AbstractContextManager[int]:
        """A device's loopback port as a port on the controller's loopback."""


@runtime_checkable
class ReverseForwarding(Protocol):
    """A wire whose device can also reach the controller."""

    def reverse(self, port: int) -> AbstractContextManager[int]:
        """A port of the controller's loopback as a port on the device's loopback.

        Raises ``DeviceRefused`` where the device forbids it, ``DeviceLost``.
        """


@dataclass(frozen=True)
class Fact(Generic[Answer_co]):
    """A question to a device: a command and the pure parser of its text (law 1).

    What isn't in the text is absent from the answer. ``parse`` raises ``Unreadable`` for text it
    doesn't understand at all.
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
    """Whether it was not written to since it was sealed."""
    modified: int | None = None
    """Seconds since 1970."""


@dataclass(frozen=True)
class Command:
    """A program to be started on a device."""

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    secrets: tuple[str, ...] = ()
    """Names of environment variables whose values arrive on standard input, one line each in
    this order, so that no argv, log or process list holds them."""


@dataclass(frozen=True)
class PageCache:
    """How a file's place in the operating system's page cache is seen and changed."""

    resident: Fact[float]
    """Share of the file, 0…1, that is cached."""
    fill: str
    """Command that reads the file through."""
    evict: str
    """Command that asks the system to forget the file; whether it did is for ``resident`` to say."""


class Files(Protocol):
    """Files on a device: commands of its shell, and readers of what they print."""

    def join(self, *parts: str) -> str: ...

    def make_folder(self, path: str) -> Fact[Folder]:
        """Make a folder and those above it."""

    def state(self, path: str) -> Fact[FileState | None]:
        """None where there is no such file."""

    def seal(self, path: str) -> str:
        """Mark a file so that ``state`` tells whether it was written to since."""

    def sha256(self, path: str) -> Fact[str]:
        """In lower case."""

    def sizes(self, folder: str) -> Fact[Mapping[str, int]]:
        """Bytes of each file in a folder, by name; none where there is no such folder."""

    def write_line(self, path: str, line: str) -> str:
        """Make a file of one line of ASCII; its name ends in ``.json``."""

    def read_lines(self, folder: str) -> Fact[Sequence[str]]:
        """The lines of all ``.json`` files in a folder; none where there is no such folder."""

    def move(self, source: str, target: str) -> str: ...

    def executable(self, path: str) -> str:
        """Let a program be run."""

    def remove(self, paths: Sequence[str]) -> str:
        """Those that are not there are no mistake."""

    def lock(self, path: str, owner: str, lease: int) -> str:
        """Text that takes a lock and holds it until its standard input ends.

        On its standard output: ``taken``, or ``held OWNER``, or why neither. Every line that comes
        on its standard input renews the lease (seconds); a lock whose lease ran out may be taken.
        """


SILENCED = 128 + 14
"""Exit status of a program that its watcher ended because its controller was silent: SIGALRM's."""


class System(Protocol):
    """An operating system: how it is spoken to."""

    facts: Mapping[str, Fact[DeviceFacts]]
    files: Files
    default_workspace: str
    """Under the home folder unless absolute."""

    suffix: str
    """With which the names of programs end: ``.exe`` on Windows, nothing elsewhere."""

    def quote(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> str:
        """One command line of this system's shell that starts exactly this argv, in this environment."""

    def echo(self, text: str) -> str:
        """Print a line of text: what tells whether text arrives."""

    def find(self, program: str) -> Fact[str | None]:
        """The path of a program on the PATH, None where there is none."""

    def supervise(self, command: Command, tag: str) -> str:
        """Text that runs a command under a watcher which ends it without its controller.

        In-band protocol, on the watcher's standard output: ``{tag} pid PID UPTIME`` at the start
        (device clock, seconds), ``{tag} exit STATUS UPTIME`` at the end. A watcher that needs time
        to learn the pid says ``{tag} start 0 UPTIME`` before. On its standard input: first one line
        per secret, after the pid ``beat`` about once a second, or ``stop`` (ask politely), ``term``,
        ``kill``. Several missed beats end the program with exit status ``SILENCED``; the end of
        standard input ends it, too.
        """

    def page_cache(self, path: str) -> PageCache | None:
        """None where the system lets nobody look into its page cache."""

    def loop(self, sources: Mapping[str, ProbeSource], pid: int) -> str:
        """The sampler's loop as text, for one process that prints what ``sampler`` reads.

        It goes on until process ``pid`` is gone (0: until it is killed) or its output breaks.
        """


class DeviceSession(Protocol):
    """An open device as engines and probes see it: the part of ``session`` they may use."""

    device: Device
    system: System
    workspace: str

    @property
    def is_local(self) -> bool:
        """Whether the device is the controller itself."""

    def run(self, command: str, *, timeout: float = 60, stdin: bytes = b"") -> Output: ...

    def push(self, local: Path, remote: str, progress: Progress | None = None) -> None: ...
