"""An inference engine: launch, requests, replies, and the protocols that engine plugins implement."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, Protocol, runtime_checkable

from edgebench.core.device import Command, Device, Line
from edgebench.core.facts import EngineFacts, ModelFacts
from edgebench.core.launch_options import NoOptions
from edgebench.core.queries import Capability, Message, Query
from edgebench.core.speculation import Divergence, SpeculationCosts, SpeculationCounts
from edgebench.core.values import Json, Option
from edgebench.core.wire import TimedLine
from edgebench.errors import EngineFailed

TokenClock = Literal["engine", "arrival"]
"""The clock of token times: the engine's own, or the controller's on arrival."""


@dataclass(frozen=True)
class ModelFile:
    """A model file on the controller whose checksum and header were verified."""

    name: str
    path: Path
    sha256: str
    size: int
    """Bytes."""
    format: str
    """For example ``gguf`` or ``mlc``."""
    quantization: str
    architecture: str
    facts: ModelFacts = ModelFacts()
    """From its header."""


@dataclass(frozen=True)
class Drafting:
    """Settings of speculative decoding: part of the launch for engines that fix them at start, else of each request."""

    n_max: int
    """Maximum number of draft tokens per step; 0: none."""
    method: str = ""
    """A drafting method without a draft model; empty: use the draft model."""
    p_min: float | None = None
    """Minimum probability of a draft token; the draft ends below it."""


@dataclass(frozen=True)
class Launch:
    """Settings that an engine is started with. Equal launches share one engine process.

    Paths are on the device.
    """

    model: str
    backend: str = "cpu"
    options: Mapping[str, Option] = field(default_factory=dict)
    """Values of the engine's ``Options``, see ``options_as``; an absent one is the engine's default."""
    draft: str | None = None
    drafting: Drafting | None = None
    """For engines that fix it at start."""
    rpc: str | None = None
    """Other devices that hold parts of the model, separated by commas: their names; in the launch that
    an engine receives, their addresses as reachable from the device."""
    affinity: str | None = None
    """CPUs the engine may run on, for example ``0-3,8``."""

    def __hash__(self) -> int:
        return hash(repr(self))


@dataclass(frozen=True)
class Sampling:
    """A decoding strategy. The defaults disable every filter."""

    top_k: int = 0
    top_p: float = 1.0
    beams: int = 1


@dataclass(frozen=True)
class Request:
    """One request to an engine. Exactly one of ``tokens`` and ``messages`` is set."""

    tokens: tuple[int, ...] | None = None
    messages: tuple[Message, ...] | None = None
    """``{"role": "user" | "assistant" | "system", "content": …}``"""
    min_prompt_tokens: int | None = None
    """Tokens of the messages' text that every chat template must keep, counted by the scenario."""
    max_tokens: int = 128
    ignore_eos: bool = False
    reuse_cache: bool = False
    """Whether the engine may reuse the part of its KV cache that this prompt shares with the previous one."""
    temperature: float = 0.0
    seed: int = 0
    measures: tuple[str, ...] = ("prefill", "decode", "ttft")
    """The rates that this request counts for in its round; empty: recorded, but not counted
    (warm-up, filling the context)."""
    label: str = ""
    """Name given by the scenario, for example ``conversation 2, turn 3``."""
    drafting: Drafting | None = None
    """None: as in the launch."""
    sampling: Sampling | None = None
    """None: the engine's default sampler at this temperature."""
    kv_cache: bool = True
    """False: evaluate the whole text again for every token."""
    keep_tokens: bool = False
    """Whether to store the IDs of the generated tokens in the record."""


@dataclass(frozen=True)
class Reply:
    """An engine's reply, with the counts and times that all rates are computed from."""

    text: str
    tokens: tuple[int, ...] = ()
    """IDs of the generated tokens, if the engine reports them."""
    prompt_tokens: int = 0
    """All tokens of the prompt, cached ones included."""
    cached_tokens: int = 0
    prefill_tokens: int = 0
    """Prompt tokens that were evaluated for this request."""
    prefill_s: float | None = None
    """Seconds the engine spent on them, on its own clock."""
    completion_tokens: int = 0
    token_times: tuple[float, ...] = ()
    """Seconds of each generated token after the first one, first included (0.0): non-decreasing.
    A speculative step yields several tokens at one instant."""
    token_clock: TokenClock = "arrival"
    decode_s: float | None = None
    """First generated token to the last, seconds, on the clock of ``token_clock``."""
    ttft_s: float | None = None
    """Request sent to first token received, seconds, on the controller's clock."""
    engine_ttft_s: float | None = None
    total_s: float = 0.0
    sent_at: float = 0.0
    """``time.monotonic()`` on the controller when the request was sent."""
    finish: str = ""
    """``stop``, ``length`` …"""
    draft_tokens: int = 0
    draft_accepted: int = 0
    speculation: SpeculationCounts | None = None
    costs: SpeculationCosts | None = None
    """The reply to a ``CostQuery``."""
    divergence: Divergence | None = None
    """The reply to a ``DivergenceQuery``."""
    log_likelihoods: tuple[float, ...] | None = None
    """Of each token, in nats: the reply to a ``LikelihoodQuery``."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Estimated memory in bytes, before the engine starts."""

    weights_b: float
    kv_b: float
    compute_b: float = 0.0

    @property
    def total_b(self) -> float:
        return self.weights_b + self.kv_b + self.compute_b


class Client(Protocol):
    """An HTTP client of an engine, through a forwarded loopback port, with its API key."""

    def get(self, path: str) -> tuple[int, Json]:
        """Status and body (None if the body is not JSON). Raises ``EngineFailed``."""

    def post(self, path: str, body: object) -> tuple[int, Json]: ...

    def lines(self, path: str, body: object) -> Iterator[TimedLine]:
        """The lines of a streamed response to a POST, with their times of arrival, for
        ``server_sent_events`` or ``json_lines``. Raises ``EngineFailed`` if the status is not 200,
        if the response ends unexpectedly, or if it times out."""


TOKEN_WARM_UP = Request(tokens=(1,) * 16, max_tokens=8, ignore_eos=True, measures=(), label="warm-up")
"""A warm-up for engines that accept token IDs."""
TEXT_WARM_UP = Request(messages=({"role": "user", "content": "Hi"},), max_tokens=8, measures=(), label="warm-up")
"""A warm-up for engines that accept text only."""


class Engine(Protocol):
    """An inference engine: a process on the device that listens on the device's loopback.

    A plugin is a subclass whose constructor takes a ``DeviceSession`` and a ``Config``. It must define
    ``Config``, ``formats``, ``backends`` and the abstract methods; the rest has defaults.

    Every method may raise ``EngineFailed`` (the trial fails), ``EngineRefused`` (waiting longer does not help),
    ``Unreadable`` (a reply that cannot be parsed), and ``DeviceLost`` or ``TimedOut`` from calls of the
    session. Any other exception is a fault of the engine: the trial fails, with the traceback in its log.
    """

    Config: ClassVar[type]
    """A frozen dataclass: the keys under ``engines: NAME:`` in a profile."""
    formats: ClassVar[tuple[str, ...]]
    """The model formats it reads, the preferred one first: ``gguf``, ``mlc``, or the suffix of a file."""
    backends: ClassVar[tuple[str, ...]]
    """The compute backends it supports, for example ``cpu`` and ``vulkan``."""
    Options: ClassVar[type] = NoOptions
    """A frozen dataclass of its launch options, see ``option``."""
    warm_up: ClassVar[Request] = TOKEN_WARM_UP
    """Sent after each start; recorded, and counted in no metric."""
    capabilities: ClassVar[tuple[Capability, ...]] = ()

    @abstractmethod
    def prepare(self) -> EngineFacts:
        """Find the program and detect its features; returns facts of the engine. Raises ``EngineMissing``."""

    @abstractmethod
    def command(self, launch: Launch, port: int) -> Command:
        """The command that starts it. An environment variable named in the command's ``secrets`` holds the
        API key that ``Client`` sends with each request."""

    @abstractmethod
    def ready(self, client: Client) -> bool:
        """Whether it accepts requests. False: still loading."""

    def ready_line(self, text: str) -> bool:
        """Whether this line of its log reports that it is loaded: more precise than polling ``ready``."""
        return False

    @abstractmethod
    def complete(self, client: Client, request: Request) -> Reply:
        """Send a request and read its reply. Raises ``EngineFailed``, ``Unreadable``."""

    def count_tokens(self, client: Client, text: str) -> int:
        """Number of tokens of a text with the engine's tokenizer, without special tokens."""
        raise EngineFailed("this engine does not count tokens", "Use a scenario that does not need it.")

    @abstractmethod
    def info(self, log: Iterable[str]) -> EngineFacts:
        """Facts of the engine from its log."""

    @staticmethod
    def estimate_memory(model: ModelFacts, options: Mapping[str, Option]) -> MemoryEstimate | None:
        """Memory needed, from facts of the model's header and options of the trial; None if they are insufficient.

        Excludes what launch options add with ``memory_b``.
        """
        if not model.weights_bytes:
            return None
        return MemoryEstimate(model.weights_bytes, (model.kv_bytes_per_token or 0.0) * int(options.get("ctx", 0)))

    def port_taken(self, log: Sequence[str]) -> bool:
        """Whether it exited because its port is in use; it is then started on another one."""
        return any("address already in use" in line.lower() for line in log)

    def fallback(self, launch: Launch, status: int, log: Sequence[str]) -> tuple[Launch, str] | None:
        """After a crash: another launch to try once, and the reason; or None."""
        return None


@runtime_checkable
class SpeculativeEngine(Protocol):
    """An engine that can decode speculatively."""

    k_per_request: ClassVar[bool]
    """Whether the number of draft tokens is part of each request, so that one process serves every K."""
    drafts_without_model: ClassVar[tuple[str, ...]]
    """Drafting methods without a draft model."""
    ends_drafts: ClassVar[bool]
    """Whether a draft can end early at a minimum probability (``--p-min``)."""


@runtime_checkable
class RpcHost(Protocol):
    """An engine that can place parts of the model on other devices, each of which runs an RPC server."""

    def find_rpc(self) -> Mapping[str, object]:
        """Find the server's program on this device; returns its facts. Raises ``EngineMissing``."""

    def rpc_command(self, port: int) -> Command:
        """The command that starts it on the device's loopback; requires ``find_rpc`` first."""

    def rpc_facts(self, log: Sequence[str]) -> Mapping[str, object]:
        """Facts of a running server from its log."""

    def port_taken(self, log: Sequence[str]) -> bool: ...


@runtime_checkable
class AnswersQueries(Protocol):
    """An engine that answers queries beyond generation: see ``Capability``."""

    def answer(self, client: Client, query: Query) -> Reply:
        """A reply without text, with ``costs``, ``divergence`` or ``log_likelihoods``.

        Raises ``EngineFailed``, ``Unreadable``.
        """


@runtime_checkable
class LogDiagnostics(Protocol):
    """Diagnostics that an engine may derive from its log."""

    def compiling(self, log: Sequence[Line]) -> tuple[float, bool] | None:
        """Seconds that this start has spent compiling the model, and whether compilation has ended; None if
        nothing is compiled. Such a start is not measured: the engine is started again."""

    def verdict(self, log: Sequence[str]) -> tuple[str, str] | None:
        """A fault after which the engine keeps running but never responds: its message and a hint."""

    def last_words(self, log: Sequence[str]) -> tuple[str, str] | None:
        """The cause of a crash: the line of the log that names it and a hint; or None."""


@runtime_checkable
class PreflightCheck(Protocol):
    """An engine that can reject an impossible trial before anything is sent to a device."""

    @staticmethod
    def check(device: Device, scenario: str, backend: str, options: Mapping[str, Option]) -> None:
        """Raises ``UsageError``."""


@runtime_checkable
class AppEngine(Protocol):
    """An engine that runs as an app of the operating system, not as the process that was started."""

    def attach(self) -> int | None:
        """The pid of the app's process; None if it is not running yet."""

    @property
    def load_began(self) -> float | None:
        """``time.monotonic()`` when it began to load the model; None: when it started."""


@runtime_checkable
class BandwidthKernel(Protocol):
    """An engine whose compute library edgebench can call to measure the GPU's memory bandwidth."""

    def routine(self) -> Command:
        """A Python interpreter on the device that runs a script from its standard input in the engine's
        environment. Last argument: the path next to which the library is; empty: in its packages."""
