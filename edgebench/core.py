"""The nouns of edgebench and the roles that plugins play. Standard library only.

Units are base units everywhere inside the program: seconds, bytes, joules, watts, hertz,
degrees Celsius, ratios between 0 and 1. Only ``views`` turns them into ms, MiB or per cent.
A reading that could not be had is absent (``None`` or no key), never 0.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

Json = Any
"""A value that ``json`` can write: None, bool, int, float, str, list, dict."""

Option = bool | int | float | str
"""The value of one setting of a trial."""

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all) while something large moves."""

SCHEMA = 1
"""Version of the record's form, written into every record and every JSON document."""

Status = Literal["ok", "failed", "interrupted", "lost", "skipped", "running"]
"""How a trial ended: ``lost`` is a device that went away, ``skipped`` was never started.
``running`` has not ended yet; it is only seen while reading a store that is being written."""


# --- what is described by people -------------------------------------------------------------


@dataclass(frozen=True)
class Device:
    """A device one can open: read from ``devices/NAME.yaml`` by ``profiles``."""

    name: str
    system: str
    transport: Mapping[str, Json]
    """``{"kind": NAME, …}``: the rest is validated by that transport's own ``Config``."""
    description: str = ""
    workspace: str | None = None
    """Folder on the device that edgebench may fill; the system's default where absent."""
    engines: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)
    defaults: Mapping[str, Option] = field(default_factory=dict)
    source: Path | None = None


@dataclass(frozen=True)
class ModelFile:
    """A model that lies on the controller, checked and known: what a trial is made of."""

    name: str
    path: Path
    sha256: str
    size: int
    """Bytes."""
    format: str
    """``gguf`` or ``mlc``."""
    quantization: str
    architecture: str
    facts: Mapping[str, Json] = field(default_factory=dict)
    """From the header: ``layers``, ``context_length``, ``vocabulary``, ``kv_bytes_per_token``,
    ``parameters``, ``weights_bytes``, ``tokenizer`` …"""


# --- wires -----------------------------------------------------------------------------------


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
class Reversible(Protocol):
    """A wire whose device can also reach the controller."""

    def reverse(self, port: int) -> AbstractContextManager[int]:
        """A port of the controller's loopback as a port on the device's loopback.

        Raises ``DeviceRefused`` where the device forbids it, ``DeviceLost``.
        """


# --- operating systems -----------------------------------------------------------------------


@dataclass(frozen=True)
class Fact:
    """A question to a device: a command and the pure reader of its text (law 1).

    ``parse`` returns the facts it found (``{"cpu": …, "ram_b": …}``); what isn't in the text is
    absent from the result. It raises ``Unreadable`` for text it doesn't understand at all.
    """

    command: str
    parse: Callable[[str], Mapping[str, Json]]


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

    resident: Fact
    """→ ``resident``: share of the file, 0…1, that is cached."""
    fill: str
    """Command that reads the file through."""
    evict: str
    """Command that asks the system to forget the file; whether it did is for ``resident`` to say."""


class Files(Protocol):
    """Files on a device: commands of its shell, and readers of what they print."""

    def join(self, *parts: str) -> str: ...

    def folder(self, path: str) -> Fact:
        """Make a folder and those above it → ``path``, absolute, and ``free_b`` on its disk."""

    def look(self, path: str) -> Fact:
        """→ ``size_b``, ``sealed`` and ``modified``; nothing where there is no such file."""

    def seal(self, path: str) -> str:
        """Mark a file so that ``look`` tells whether it was written to since."""

    def sha256(self, path: str) -> Fact:
        """→ ``sha256``, in lower case."""

    def list(self, folder: str) -> Fact:
        """→ ``files``: ``name`` and ``size_b`` of each; none where there is no such folder."""

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


class System(Protocol):
    """An operating system: how it is spoken to."""

    facts: Mapping[str, Fact]
    files: Files
    default_workspace: str
    """Under the home folder unless absolute."""

    suffix: str
    """With which the names of programs end: ``.exe`` on Windows, nothing elsewhere."""

    def quote(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> str:
        """One command line of this system's shell that starts exactly this argv, in this environment."""

    def echo(self, text: str) -> str:
        """Print a line of text: what tells whether text arrives."""

    def find(self, program: str) -> Fact:
        """→ ``path`` of a program on the PATH, nothing where there is none."""

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

    def loop(self, readings: Mapping[str, Reading], pid: int) -> str:
        """The sampler's loop as text, for one process that prints what ``sampler`` reads.

        It goes on until process ``pid`` is gone (0: until it is killed) or its output breaks.
        """


SILENCED = 128 + 14
"""Exit status of a program that its watcher ended because its controller was silent: SIGALRM's."""


# --- engines ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Launch:
    """With what an engine is started. Equal launches share one engine process.

    None means the engine's own default. Paths are on the device.
    """

    model: str
    backend: str = "cpu"
    ctx: int | None = None
    batch: int | None = None
    ubatch: int | None = None
    threads: int | None = None
    gpu_layers: int | Literal["all"] | None = None
    draft: str | None = None
    draft_gpu_layers: int | Literal["all"] | None = None
    k: int | None = None
    """Draft tokens proposed at once, where the engine can only be told at its start."""
    p_min: float | None = None
    """A draft ends below this probability of its own, where the engine can only be told at its start."""
    spec_type: str | None = None
    """llama.cpp's name of a way to draft without a model, such as ``ngram-simple``."""
    rpc: str | None = None
    """Other devices that hold parts of the model, separated by commas: their names, and in the
    launch that an engine is given their addresses as the device sees them."""
    affinity: str | None = None
    """Processors the engine may run on, as ``0-3,8``."""
    repack: bool = True
    """False: weights are not rearranged for the CPU's matrix units (llama.cpp's extra buffer
    types), the way out where a virtual machine claims AMX and forbids it."""
    extra: Mapping[str, Option] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash(repr(self))


@dataclass(frozen=True)
class Request:
    """One question to an engine. Exactly one of ``tokens`` and ``messages`` is given."""

    tokens: tuple[int, ...] | None = None
    messages: tuple[Mapping[str, str], ...] | None = None
    """``{"role": "user" | "assistant" | "system", "content": …}``"""
    max_tokens: int = 128
    ignore_eos: bool = False
    reuse_cache: bool = False
    """Whether the engine may keep the part of its KV cache that this prompt shares with the last."""
    temperature: float = 0.0
    seed: int = 0
    measures: tuple[str, ...] = ("prefill", "decode", "ttft")
    """The rates that this request counts for in its round; empty: kept in the record, not counted
    (warm-up, filling the context)."""
    label: str = ""
    """What the scenario calls it, such as ``conversation 2, turn 3``."""
    extra: Mapping[str, Json] = field(default_factory=dict)
    """Further fields of the engine's dialect, such as ``speculative.n_max``."""


@dataclass(frozen=True)
class Reply:
    """What an engine answered, with the counts and times that every rate is recomputed from."""

    text: str
    tokens: tuple[int, ...] = ()
    """Ids of the generated tokens, where the engine tells them."""
    prompt_tokens: int = 0
    """All tokens of the prompt, cached ones included."""
    cached_tokens: int = 0
    prefill_tokens: int = 0
    """Prompt tokens that were evaluated for this request."""
    prefill_s: float | None = None
    """Seconds the engine spent on them, by its own clock."""
    completion_tokens: int = 0
    token_times: tuple[float, ...] = ()
    """Seconds of each generated token after the first one, first included (0.0): non-decreasing.
    A speculative step yields several tokens at one instant."""
    token_clock: Literal["engine", "arrival"] = "arrival"
    decode_s: float | None = None
    """First generated token to the last, seconds, by ``token_clock``."""
    ttft_s: float | None = None
    """Request sent to first token received, by the controller's clock."""
    engine_ttft_s: float | None = None
    total_s: float = 0.0
    sent_at: float = 0.0
    """``time.monotonic()`` on the controller when the request was sent."""
    finish: str = ""
    """``stop``, ``length`` …"""
    draft_tokens: int = 0
    draft_accepted: int = 0
    extra: Mapping[str, Json] = field(default_factory=dict)
    """What else the engine said, as it said it (``timings`` …)."""


@dataclass(frozen=True)
class EngineNotes:
    """What an engine said of itself, from its own log and answers."""

    build: str | None = None
    backend: str | None = None
    """The backend that really computes: ``cpu``, ``cuda``, ``metal``, ``opencl``, ``vulkan``."""
    layers_offloaded: int | None = None
    layers: int | None = None
    buffers: Mapping[str, int] = field(default_factory=dict)
    """``{"CPU model": bytes, "CPU KV": bytes, …}``"""
    instruction_sets: tuple[str, ...] = ()
    load_s: float | None = None
    extra: Mapping[str, Json] = field(default_factory=dict)


class Client(Protocol):
    """An engine's HTTP address, reached through a forwarded loopback port, with its key."""

    def get(self, path: str) -> tuple[int, Json]:
        """Status and body (None where the body isn't JSON). Raises ``EngineFailed``."""

    def post(self, path: str, body: Json) -> tuple[int, Json]: ...

    def stream(self, path: str, body: Json) -> Iterator[tuple[float, Json]]:
        """Server-sent events as (``time.monotonic()``, data). Raises ``EngineFailed``."""


class Opened(Protocol):
    """An open device as engines and probes see it: the part of ``session`` they may use."""

    device: Device
    system: System
    workspace: str

    @property
    def here(self) -> bool:
        """Whether the device is the controller itself."""

    def run(self, command: str, *, timeout: float = 60, stdin: bytes = b"") -> Output: ...

    def push(self, local: Path, remote: str, progress: Progress | None = None) -> None: ...


class Engine(Protocol):
    """An inference engine: a process on the device that listens on the device's loopback.

    A plugin is a class that takes (opened device, the profile's settings for this engine).
    ``Config`` is a frozen dataclass of what a profile may say under ``engines: NAME:``.
    """

    Config: ClassVar[type]
    format: ClassVar[str]
    """The form of model it takes: ``gguf`` or ``mlc``."""
    k_per_request: ClassVar[bool]
    """Whether draft tokens are said with each request, so that one process serves every K."""
    drafts_without_model: ClassVar[tuple[str, ...]]
    """Ways to draft without a draft model."""
    ends_drafts: ClassVar[bool]
    """Whether a draft can be ended where the draft model is unsure (``--p-min``)."""
    asks: ClassVar[tuple[str, ...]]
    """What it answers beside generating, as ``ask`` in a request's ``extra``: ``costs`` of verifying and
    drafting, ``parting`` of two texts, ``logits``; ``tokens``: it tells the ids of generated tokens."""

    def prepare(self) -> Mapping[str, Json]:
        """Find the program and learn what it can do; facts of the engine. Raises ``EngineMissing``."""

    def command(self, launch: Launch, port: int, key_variable: str) -> Command:
        """How to start it; its API key is in the environment variable ``key_variable``."""

    def ready(self, client: Client) -> bool:
        """Whether it answers. False: still loading."""

    def ready_line(self, text: str) -> bool:
        """Whether this line of its log says that it is loaded: a finer clock than asking."""

    def complete(self, client: Client, request: Request) -> Reply: ...

    def count_tokens(self, client: Client, text: str) -> int:
        """Tokens of a text by the engine's own tokenizer, special ones not added."""

    def notes(self, log: Iterable[str]) -> EngineNotes: ...

    def fallback(self, launch: Launch, status: int, log: Sequence[str]) -> tuple[Launch, str] | None:
        """After a death: another launch worth one try and why, or None."""


@runtime_checkable
class Narrator(Protocol):
    """What an engine may be able to tell beyond ``Engine``, from its log alone."""

    def compiling(self, log: Sequence[Line]) -> tuple[float, bool] | None:
        """Seconds this start has spent compiling the model, and whether that is over; None: it
        compiles nothing. Such a start isn't measured: the engine is started again."""

    def verdict(self, log: Sequence[str]) -> tuple[str, str] | None:
        """A fault after which it lives on but never answers: its own words and what to do."""

    def last_words(self, log: Sequence[str]) -> tuple[str, str] | None:
        """Of an engine that died: the sentence that says why, and what to do. None: there is none."""


@runtime_checkable
class Detached(Protocol):
    """An engine whose program is not what was started: an app that an operating system runs."""

    def attach(self) -> int | None:
        """The pid of what computes; None: not there yet."""

    @property
    def load_began(self) -> float | None:
        """``time.monotonic()`` when it began to load the model; None: with its start."""


@runtime_checkable
class Calculator(Protocol):
    """An engine whose compute library a program of ours can call, to see what the GPU can do."""

    def routine(self) -> Command:
        """A Python on the device that runs what comes on its standard input, in the engine's own
        environment. Last argument: the path near which the library lies; empty: in its packages."""


# --- scenarios -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """What a scenario may know of the trial it runs in."""

    model: ModelFile
    ctx: int
    """Tokens."""
    options: Mapping[str, Option]
    seed: int
    count_tokens: Callable[[str], int]
    """Tokens of a text by the engine's own tokenizer."""
    engine: str = ""


class Scenario(Protocol):
    """What is asked of an engine in one round. A plugin is a class without arguments."""

    options: ClassVar[Mapping[str, Option | tuple[str, ...]]]
    """Its own options and their defaults; ``run`` takes them as ``--name value``. A tuple of words:
    a trial for each of them, unless some of them are asked for."""

    def needs(self, options: Mapping[str, Option]) -> int:
        """The least context, in tokens, that it can run in."""

    def turns(self, setting: Setting) -> Generator[Request, Reply, Mapping[str, float] | None]:
        """Yield a request, be sent its reply; one run through is one round.

        Returns further metrics of the round, where it has some of its own. A scenario that only
        some engines can run names them in a class attribute ``engines``; what its options mean, for
        ``run --help``, stands in ``helps``.
        """


# --- measurements ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """One reading of a probe."""

    name: str
    """As in the glossary: ``rss_b``, ``cpu_util`` …"""
    value: float
    at: float
    """Seconds on the device's clock."""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Quantity:
    """What a probe measures: one definition, one unit (the glossary is made from these)."""

    unit: str
    text: str
    """The definition, one or two sentences."""
    over: Mapping[str, Literal["mean", "median", "p95", "max", "min", "sum", "last"]]
    """The metrics of a stretch of time, and how each is made from the readings in it."""
    across: Literal["mean", "sum", "max"] = "mean"
    """How readings with different labels (cores, sensors, GPUs) make one metric."""


@dataclass(frozen=True)
class Reading:
    """What a probe reads at once: files or a command, never both.

    ``{pid}`` in a file's path stands for each process of the engine's tree, in a command for the
    engine's process.
    """

    files: tuple[str, ...] = ()
    """Paths; shell patterns are expanded."""
    lines: tuple[str, ...] = ()
    """How the lines wanted from the files begin, plain text; every line where empty."""
    command: str = ""
    """One line of the system's shell. With interval 0 it is expected to go on by itself."""
    interval: float = 0.5
    """Seconds between two readings; 0: once, at the start."""


class Probe(Protocol):
    """Readings of one kind, on every system that has them. A plugin is a class without arguments.

    ``parse`` is fed the text of one reading at a time (``path:line`` for files; one line at a time
    of a command with interval 0), in order, and may keep what it needs of earlier ones. What is
    not in the text is absent from its result. It raises ``Unreadable`` or ``ValueError`` for text
    it doesn't understand.
    """

    quantities: Mapping[str, Quantity]
    """By the name of the samples it gives."""
    readings: Mapping[str, Sequence[Reading]]
    """By system."""

    def parse(self, at: float, text: str) -> Iterable[Sample]: ...


@dataclass(frozen=True)
class Metric:
    """One metric of a record: its rounds, their median and its 95 % bootstrap interval."""

    value: float
    unit: str
    rounds: tuple[float | None, ...] = ()
    """In the order of the rounds; None where that round has no reading."""
    low: float | None = None
    high: float | None = None
    iqr: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Doubt:
    """A named reason not to believe a number, from the closed list in ``doubts``."""

    id: str
    detail: str = ""


Questions = Generator[tuple[int, Request], Reply, Mapping[int, Sequence[str | Doubt]]]
"""Yields the number of the trial whose engine is to answer, and what; is sent the reply, or thrown
the ``EdgebenchError`` that came instead. Returns notes and doubts by the number of the trial."""


@dataclass(frozen=True)
class Trial:
    """One device × model × engine × scenario × set of options."""

    device: str
    model: str
    engine: str
    backend: str
    scenario: str
    options: Mapping[str, Option]


@dataclass(frozen=True)
class Failure:
    """Why a trial has no result."""

    message: str
    hint: str = ""
    exit_status: int | None = None
    signal: str | None = None
    log: tuple[str, ...] = ()
    """The engine's last lines."""


@dataclass(frozen=True)
class Round:
    """One pass over a trial."""

    index: int
    started: str
    """ISO 8601, UTC."""
    metrics: Mapping[str, float]
    turns: tuple[Mapping[str, Json], ...] = ()
    """One per request: label, counts, times and the rates of that turn."""
    samples: tuple[Sample, ...] = ()
    fresh: bool = False
    """Whether the engine was started for this round (its ``load_s`` counts)."""
    notes: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """How one trial ended: immutable, versioned, everything a view is drawn from."""

    id: str
    run: Mapping[str, Json]
    """``id``, ``name``, ``started``, ``command``, ``seed``, ``version`` of edgebench."""
    status: Status
    trial: Trial
    facts: Mapping[str, Json]
    """``device``, ``model``, ``engine``, ``controller``."""
    metrics: Mapping[str, Metric]
    doubts: tuple[Doubt, ...] = ()
    rounds: tuple[Round, ...] = ()
    failure: Failure | None = None
    notes: tuple[str, ...] = ()
    started: str = ""
    finished: str = ""
    schema: int = SCHEMA


# --- views -----------------------------------------------------------------------------------


@runtime_checkable
class View(Protocol):
    """A form of the results. A plugin is a class without arguments; it formats, nothing else."""

    suffix: ClassVar[str]

    def render(self, records: Sequence[Record]) -> str: ...


@runtime_checkable
class Streamed(View, Protocol):
    """A view that is written record by record: no store is too large for it."""

    def pieces(self, records: Iterable[Record]) -> Iterator[str]:
        """Together what ``render`` gives. ``records`` may be gone through more than once."""
