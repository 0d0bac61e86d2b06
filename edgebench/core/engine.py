"""An inference engine: with what it is started, what it is asked, what it answers."""

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
"""Whose clock the times of tokens are by: the engine's own, or the controller's as they arrive."""


@dataclass(frozen=True)
class ModelFile:
    """A model that lies on the controller, checked and known: what a trial is made of."""

    name: str
    path: Path
    sha256: str
    size: int
    """Bytes."""
    format: str
    """Such as ``gguf`` or ``mlc``."""
    quantization: str
    architecture: str
    facts: ModelFacts = ModelFacts()
    """From its header."""


@dataclass(frozen=True)
class Drafting:
    """How to speculate: in a launch for engines that can only be told at their start, else in each request."""

    n_max: int
    """Draft tokens proposed at once; 0: none."""
    method: str = ""
    """A way to draft without a draft model; empty: with the draft model."""
    p_min: float | None = None
    """A draft ends below this probability of its own."""


@dataclass(frozen=True)
class Launch:
    """What an engine is started with. Equal launches share one engine process.

    Paths are on the device.
    """

    model: str
    backend: str = "cpu"
    options: Mapping[str, Option] = field(default_factory=dict)
    """Values of the engine's own ``Options``, see ``options_as``; one that is absent is the engine's default."""
    draft: str | None = None
    drafting: Drafting | None = None
    """How to speculate, where the engine can only be told at its start."""
    rpc: str | None = None
    """Other devices that hold parts of the model, separated by commas: their names, and in the
    launch that an engine is given their addresses as the device sees them."""
    affinity: str | None = None
    """Processors the engine may run on, as ``0-3,8``."""

    def __hash__(self) -> int:
        return hash(repr(self))


@dataclass(frozen=True)
class Sampling:
    """A decoding strategy. The defaults switch everything off."""

    top_k: int = 0
    top_p: float = 1.0
    beams: int = 1


@dataclass(frozen=True)
class Request:
    """One question to an engine. Exactly one of ``tokens`` and ``messages`` is given."""

    tokens: tuple[int, ...] | None = None
    messages: tuple[Message, ...] | None = None
    """``{"role": "user" | "assistant" | "system", "content": …}``"""
    min_prompt_tokens: int | None = None
    """Tokens of the messages' text that every chat template must keep, by the scenario's own count."""
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
    drafting: Drafting | None = None
    """None: as the engine was started."""
    sampling: Sampling | None = None
    """None: the engine's own way at this temperature."""
    kv_cache: bool = True
    """False: the whole text is evaluated again for every token."""
    keep_tokens: bool = False
    """Whether the ids of the generated tokens belong into the record."""


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
    token_clock: TokenClock = "arrival"
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
    speculation: SpeculationCounts | None = None
    costs: SpeculationCosts | None = None
    """The answer to a query for them."""
    divergence: Divergence | None = None
    """The answer to a query for it."""
    log_likelihoods: tuple[float, ...] | None = None
    """Of the tokens asked about, nats: the answer to a query for them."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes, before anything has started."""

    weights_b: float
    kv_b: float
    compute_b: float = 0.0

    @property
    def total_b(self) -> float:
        return self.weights_b + self.kv_b + self.compute_b


class Client(Protocol):
    """An engine's HTTP address, reached through a forwarded loopback port, with its key."""

    def get(self, path: str) -> tuple[int, Json]:
        """Status and body (None where the body isn't JSON). Raises ``EngineFailed``."""

    def post(self, path: str, body: object) -> tuple[int, Json]: ...

    def lines(self, path: str, body: object) -> Iterator[TimedLine]:
        """The lines of a streamed answer to a POST, with the times they arrived at, for
        ``server_sent_events`` or ``json_lines``. Raises ``EngineFailed`` where the status is not 200,
        where the engine breaks off, and where it sends nothing for too long."""


TOKEN_WARM_UP = Request(tokens=(1,) * 16, max_tokens=8, ignore_eos=True, measures=(), label="warm-up")
"""A warm-up for engines that take token ids."""
TEXT_WARM_UP = Request(messages=({"role": "user", "content": "Hi"},), max_tokens=8, measures=(), label="warm-up")
"""A warm-up for engines that take text only."""


class Engine(Protocol):
    """An inference engine: a process on the device that listens on the device's loopback.

    A plugin is a subclass that takes (opened device, the profile's settings for this engine). It must
    have ``Config``, ``formats``, ``backends`` and the abstract methods; the rest has defaults.

    Every method may raise ``EngineFailed`` (the trial fails), ``EngineRefused`` (waiting longer won't help),
    ``Unreadable`` (a reply that isn't understood), and ``DeviceLost`` or ``TimedOut`` of the device's own
    calls. Anything else is a fault of the engine: the trial fails, with the traceback in its log.
    """

    Config: ClassVar[type]
    """A frozen dataclass: what a profile may say under ``engines: NAME:``."""
    formats: ClassVar[tuple[str, ...]]
    """The model formats it reads, the preferred one first: ``gguf``, ``mlc``, or the suffix of a file."""
    backends: ClassVar[tuple[str, ...]]
    """The compute backends it can be asked for, such as ``cpu`` and ``vulkan``."""
    Options: ClassVar[type] = NoOptions
    """A frozen dataclass of its launch options, see ``option``."""
    warm_up: ClassVar[Request] = TOKEN_WARM_UP
    """Sent after each start; recorded, and counted in no metric."""
    capabilities: ClassVar[tuple[Capability, ...]] = ()

    @abstractmethod
    def prepare(self) -> EngineFacts:
        """Find the program and learn what it can do; facts of the engine. Raises ``EngineMissing``."""

    @abstractmethod
    def command(self, launch: Launch, port: int) -> Command:
        """How to start it. An environment variable named in the command's ``secrets`` holds the key
        that ``Client`` sends with each request."""

    @abstractmethod
    def ready(self, client: Client) -> bool:
        """Whether it answers. False: still loading."""

    def ready_line(self, text: str) -> bool:
        """Whether this line of its log says that it is loaded: a finer clock than asking."""
        return False

    @abstractmethod
    def complete(self, client: Client, request: Request) -> Reply:
        """Send a request and read its reply. Raises ``EngineFailed``, ``Unreadable``."""

    def count_tokens(self, client: Client, text: str) -> int:
        """Tokens of a text by the engine's own tokenizer, special ones not added."""
        raise EngineFailed("this engine does not count tokens", "Use a scenario that does not need it.")

    @abstractmethod
    def info(self, log: Iterable[str]) -> EngineFacts:
        """What its log says of it."""

    @staticmethod
    def estimate_memory(model: ModelFacts, options: Mapping[str, Option]) -> MemoryEstimate | None:
        """Memory needed by facts of the model's header and options of the trial; None where they don't tell.

        What each launch option adds by its own ``memory_b`` is not in it.
        """
        if not model.weights_bytes:
            return None
        return MemoryEstimate(model.weights_bytes, (model.kv_bytes_per_token or 0.0) * int(options.get("ctx", 0)))

    def port_taken(self, log: Sequence[str]) -> bool:
        """Whether it ended because another program listens on its port: it is started on another one."""
        return any("address already in use" in line.lower() for line in log)

    def fallback(self, launch: Launch, status: int, log: Sequence[str]) -> tuple[Launch, str] | None:
        """After a death: another launch worth one try and why, or None."""
        return None


@runtime_checkable
class SpeculativeEngine(Protocol):
    """An engine that can decode speculatively."""

    k_per_request: ClassVar[bool]
    """Whether draft tokens are said with each request, so that one process serves every K."""
    drafts_without_model: ClassVar[tuple[str, ...]]
    """Ways to draft without a draft model."""
    ends_drafts: ClassVar[bool]
    """Whether a draft can be ended where the draft model is unsure (``--p-min``)."""


@runtime_checkable
class RpcHost(Protocol):
    """An engine that can use devices other than its own: each runs an RPC server that holds a part of the model."""

    def find_rpc(self) -> Mapping[str, object]:
        """Find the server's program on this device; facts of it. Raises ``EngineMissing``."""

    def rpc_command(self, port: int) -> Command:
        """After ``find_rpc``: how to start it, on the device's loopback only."""

    def rpc_facts(self, log: Sequence[str]) -> Mapping[str, object]:
        """What a running server says of itself."""

    def port_taken(self, log: Sequence[str]) -> bool: ...


@runtime_checkable
class AnswersQueries(Protocol):
    """An engine that can be asked more than to generate: see ``Capability``."""

    def answer(self, client: Client, query: Query) -> Reply:
        """A reply without text, with ``costs``, ``divergence`` or ``log_likelihoods``.

        Raises ``EngineFailed``, ``Unreadable``.
        """


@runtime_checkable
class LogDiagnostics(Protocol):
    """What an engine may be able to tell beyond ``Engine``, from its log alone."""

    def compiling(self, log: Sequence[Line]) -> tuple[float, bool] | None:
        """Seconds this start has spent compiling the model, and whether that is over; None: it
        compiles nothing. Such a start isn't measured: the engine is started again."""

    def verdict(self, log: Sequence[str]) -> tuple[str, str] | None:
        """A fault after which it lives on but never answers: its own words and what to do."""

    def last_words(self, log: Sequence[str]) -> tuple[str, str] | None:
        """Of an engine that died: the sentence that says why, and what to do. None: there is none."""


@runtime_checkable
class PreflightCheck(Protocol):
    """An engine that knows of a trial, before anything is sent to a device, that it can't be carried out there."""

    @staticmethod
    def check(device: Device, scenario: str, backend: str, options: Mapping[str, Option]) -> None:
        """Raises ``UsageError``."""


@runtime_checkable
class AppEngine(Protocol):
    """An engine whose program is not what was started: an app that an operating system runs."""

    def attach(self) -> int | None:
        """The pid of what computes; None: not there yet."""

    @property
    def load_began(self) -> float | None:
        """``time.monotonic()`` when it began to load the model; None: with its start."""


@runtime_checkable
class BandwidthKernel(Protocol):
    """An engine whose compute library a program of ours can call, to see what the GPU can do."""

    def routine(self) -> Command:
        """A Python on the device that runs what comes on its standard input, in the engine's own
        environment. Last argument: the path near which the library lies; empty: in its packages."""
