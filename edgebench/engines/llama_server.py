"""The HTTP dialect of llama.cpp's ``llama-server``, spoken by every engine of that family."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edgebench.core import (
    Client,
    DeviceSession,
    Divergence,
    Engine,
    EngineFacts,
    Json,
    Launch,
    Reply,
    Request,
    SpeculationCosts,
    SpeculationCounts,
    server_sent_events,
)
from edgebench.engines.llama_options import LlamaOptions, estimate_memory
from edgebench.errors import EngineFailed, EngineMissing, EngineRefused, TimedOut, Unreadable

BACKENDS = ("cpu", "cuda", "metal", "opencl", "vulkan", "rocm", "sycl")


KEY_VARIABLE = "LLAMA_API_KEY"
"""The environment variable from which llama-server reads its API key."""


class Dialect(Engine):
    """Behaviour that all engines of this family share."""

    formats = ("gguf",)
    backends = BACKENDS
    Options = LlamaOptions
    estimate_memory = staticmethod(estimate_memory)

    def ready(self, client: Client) -> bool:
        return ready(client)

    def count_tokens(self, client: Client, text: str) -> int:
        return count_tokens(client, text)

    def info(self, log: Iterable[str]) -> EngineFacts:
        return info(log)

    def port_taken(self, log: Sequence[str]) -> bool:
        return super().port_taken(log) or any("couldn't bind" in line for line in log)

    def fallback(self, launch: Launch, status: int, log: Sequence[str]) -> tuple[Launch, str] | None:
        return fallback(launch, status)


LIBRARY_MISSING = re.compile(
    r"error while loading shared libraries|CANNOT LINK EXECUTABLE|Library not loaded|symbol lookup error"
)
"""Error messages of the loaders of glibc, Android and macOS."""


def program_output(
    device: DeviceSession, argv: Sequence[str], env: Mapping[str, str], *, timeout: float, hint: str
) -> str:
    """A program's stdout and stderr. Raises ``EngineMissing`` if it fails or times out."""
    program = " ".join(argv)
    try:
        output = device.run(device.system.quote(argv, env), timeout=timeout)
    except TimedOut as error:
        raise EngineMissing(f"{program} printed nothing for {timeout:g} s") from error
    if output.status != 0:
        text = (output.stderr.strip() or output.stdout.strip())[-800:]
        if LIBRARY_MISSING.search(text):
            hint = "A library is missing: name its folder in the profile, under env: LD_LIBRARY_PATH."
        raise EngineMissing(f"{program} cannot run on {device.device.name} (exit status {output.status}): {text}", hint)
    return output.stdout + "\n" + output.stderr


def ready(client: Client) -> bool:
    """Whether ``GET /health`` returns 200; it returns 503 while the model loads."""
    status, _ = client.get("/health")
    if status in (401, 403):
        raise EngineRefused(f"the engine rejected its API key: /health returned {status}")
    return status == 200


def ready_line(text: str) -> bool:
    """Whether a line is ``main: model loaded``, printed since 2024 when /health turns to 200."""
    return "model loaded" in text


def count_tokens(client: Client, text: str) -> int:
    """Tokens of a text by the engine's own tokenizer, without the beginning-of-sequence one."""
    status, body = client.post("/tokenize", {"content": text})
    if status != 200 or not isinstance(body, dict) or not isinstance(body.get("tokens"), list):
        raise Unreadable(f"/tokenize returned {status}: {str(body)[:200]}")
    return len(body["tokens"])


def body(request: Request) -> tuple[str, dict[str, object]]:
    """Path and body of a request. Token ids go to ``/completion``, messages to the chat endpoint,
    which applies the model's own template."""
    common: dict[str, object] = {
        "stream": True,
        "timings_per_token": True,
        "cache_prompt": request.reuse_cache,
        "ignore_eos": request.ignore_eos,
        "temperature": request.temperature,
        "seed": request.seed,
        **_dialect(request),
    }
    if request.tokens is not None:
        prompt = list(request.tokens)
        return "/completion", {"prompt": prompt, "n_predict": request.max_tokens, "return_tokens": True, **common}
    messages = [dict(message) for message in request.messages or ()]
    return "/v1/chat/completions", {"messages": messages, "max_tokens": request.max_tokens, **common}


def _dialect(request: Request) -> dict[str, object]:
    """Fields of this family only; builds ignore fields that they do not know."""
    fields: dict[str, object] = {"return_tokens": True} if request.keep_tokens else {}
    if not request.kv_cache:
        fields["kv_cache"] = False
    if (drafting := request.drafting) is not None:
        fields["speculative.n_max"] = drafting.n_max
        if drafting.method:
            fields["speculative.type"] = drafting.method
        if drafting.p_min is not None:
            fields["speculative.p_min"] = drafting.p_min
    if (sampling := request.sampling) is not None:
        if sampling.beams > 1:
            return {**fields, "n_beams": sampling.beams}
        fields |= {"top_k": sampling.top_k, "top_p": sampling.top_p}
    return fields


def complete(client: Client, request: Request) -> Reply:
    """Send a request, and compute every figure from counts and times.

    Raises ``EngineFailed`` if the response is incomplete, ``Unreadable`` for one without timings.
    """
    path, fields = body(request)
    sent_at = time.monotonic()
    return reply(list(server_sent_events(client.lines(path, fields))), sent_at)


@dataclass
class _StreamState:
    """State accumulated from the events of one response."""

    text: list[str] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    chunks: list[float] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    timings: dict[str, Any] = field(default_factory=dict)
    finish: str = ""
    speculative: dict[str, Any] = field(default_factory=dict)

    def add(self, time_s: float, event: Json) -> None:
        if not isinstance(event, dict):
            raise Unreadable(f"the engine's response is not an object: {str(event)[:200]}")
        if "error" in event:
            raise EngineFailed(f"the engine returned an error: {str(event['error'])[:500]}")
        piece, end = _piece(event)
        if piece:
            self.text.append(piece)
            self.chunks.append(time_s)
        self.tokens.extend(event.get("tokens") or ())
        self.finish = end or self.finish
        self.timings = event.get("timings") or self.timings
        self.speculative = event.get("speculative") or self.speculative
        new_tokens = int(self.timings.get("predicted_n", 0)) - len(self.times)
        if new_tokens > 0:
            self.arrivals += [time_s] * new_tokens
            self.times += [float(self.timings["predicted_ms"]) / 1e3] * new_tokens


def reply(stream: Iterable[tuple[float, Json]], sent_at: float) -> Reply:
    """The reply from the timed events of its stream; ``sent_at`` on the same clock, seconds.

    ``timings.predicted_ms`` counts from the first generated token; with ``timings_per_token`` each
    chunk has it, so token gaps are on the engine's clock. A chunk is not a token: a speculative step
    sends several tokens at once, ``predicted_n`` is their number.
    """
    state = _StreamState()
    for time_s, event in stream:
        state.add(time_s, event)
    timings = state.timings
    if "prompt_ms" not in timings:
        raise Unreadable("the engine's response has no timings", "The build must be from 2024 or later.")
    n = int(timings.get("predicted_n", 0))
    cached, evaluated = int(timings.get("cache_n", 0)), int(timings.get("prompt_n", 0))
    prefill_s = float(timings["prompt_ms"]) / 1e3
    # Builds before b4160 report times only once, at the end: token times are then the arrivals of
    # chunks, one token each.
    by_engine = len(set(state.times)) > 1 or len(state.times) < 2
    arrivals = state.arrivals if by_engine else state.chunks
    times = state.times if by_engine else state.chunks
    offsets = tuple(time_s - times[0] for time_s in times)
    return Reply(
        text="".join(state.text),
        tokens=tuple(state.tokens),
        prompt_tokens=cached + evaluated,
        cached_tokens=cached,
        prefill_tokens=evaluated,
        prefill_s=prefill_s,
        completion_tokens=n,
        token_times=offsets,
        token_clock="engine" if by_engine else "arrival",
        decode_s=offsets[-1] if n > 1 and len(offsets) == n else None,
        ttft_s=arrivals[0] - sent_at if arrivals else None,
        engine_ttft_s=prefill_s + state.times[0] if by_engine and state.times else None,
        total_s=arrivals[-1] - sent_at if arrivals else 0.0,
        sent_at=sent_at,
        finish=state.finish,
        draft_tokens=int(timings.get("draft_n", 0)),
        draft_accepted=int(timings.get("draft_n_accepted", 0)),
        speculation=_speculation(state.speculative),
    )


def costs_of(document: Mapping[str, Any]) -> SpeculationCosts:
    """Parse the costs of verifying and drafting. Raises ``Unreadable`` for another format."""
    try:
        return SpeculationCosts(
            depth=int(document.get("depth", 0)),
            verify_s={int(n): tuple(map(float, times)) for n, times in (document.get("verify_s") or {}).items()},
            draft_s=tuple(tuple(map(float, steps)) for steps in document.get("draft_s") or ()),
            draft_two_s=tuple(map(float, document.get("draft_two_s") or ())),
            draft_rereads=bool(document.get("draft_rereads", False)),
            method=str(document.get("method", "")),
            absent=str(document.get("absent", "")),
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise Unreadable(f"the costs of speculation have an unknown format: {error}") from error


def divergence_of(document: Mapping[str, Any]) -> Divergence:
    """Parse the comparison of two texts. Raises ``Unreadable`` for another format."""
    try:
        position, gap, noise = (document.get(name) for name in ("position", "gap", "noise"))
        return Divergence(
            None if position is None else int(position),
            None if gap is None else float(gap),
            None if noise is None else float(noise),
        )
    except (TypeError, ValueError) as error:
        raise Unreadable(f"the comparison of two texts has an unknown format: {error}") from error


def _speculation(document: Mapping[str, Any]) -> SpeculationCounts | None:
    if not document:
        return None
    seconds = [document.get(name) for name in ("draft_ms", "verify_ms")]
    return SpeculationCounts(
        steps=int(document.get("steps", 0)),
        proposed_by_position=tuple(map(int, document.get("proposed_by_position") or ())),
        accepted_by_position=tuple(map(int, document.get("accepted_by_position") or ())),
        draft_evaluated=int(document.get("draft_evaluated", 0)),
        draft_s=None if seconds[0] is None else float(seconds[0]) / 1e3,
        verify_s=None if seconds[1] is None else float(seconds[1]) / 1e3,
    )


def _piece(event: dict[str, Any]) -> tuple[str, str]:
    """(text, finish reason) of an event of either endpoint."""
    choices = event.get("choices")
    if choices is None:
        ends = {"limit": "length", "eos": "stop", "word": "stop"}
        return event.get("content") or "", ends.get(event.get("stop_type", ""), "") if event.get("stop") else ""
    if not choices:
        return "", ""
    delta = choices[0].get("delta") or {}
    return (delta.get("reasoning_content") or "") + (delta.get("content") or ""), choices[0].get("finish_reason") or ""


_OFFLOADED = re.compile(r"offloaded (\d+)/(\d+) layers to GPU")
_BUFFER = re.compile(r"(?<!\S)(\S{1,80})\s{1,40}(model|KV|compute|output|RS) buffer size\s*=\s*([\d.]+) MiB")
# Until b3974 (October 2024) the weights' buffers were not called `model`.
_BUFFER_2024 = re.compile(r"load_tensors:\s{1,40}(\S{1,80})() buffer size\s*=\s*([\d.]+) MiB")
_BASE = re.compile(r"edgebench: (\d+) bytes resident before the model loads")
# What is allocated, a multiple of 256 tokens. Builds of 2024 name another function.
_CONTEXT = re.compile(r"llama_(?:context|new_context_with_model|init_from_model): n_ctx\s*= (\d+)")
_DEVICES = {
    "CUDA": "cuda",
    "Metal": "metal",
    "MTL": "metal",
    "Vulkan": "vulkan",
    "OpenCL": "opencl",
    "GPUOpenCL": "opencl",
    "ROCm": "rocm",
    "SYCL": "sycl",
    "CPU": "cpu",
    "AMX": "cpu",  # weights rearranged for the CPU's matrix unit
}
"""Prefix of a buffer's name → the backend that computes with its contents."""


def info(log: Iterable[str]) -> EngineFacts:
    """Facts from the log of an engine of this family: buffers, layers offloaded, the backend used.

    Lines are searched, not anchored: since b9151 each starts with a time stamp. The backend is the one
    that holds the *weights*, which also reveals silent fall-backs to the CPU.
    """
    layers = offloaded = None
    buffers: dict[str, int] = {}
    base_rss_b = context = None
    for line in log:
        if match := None if layers else _OFFLOADED.search(line):  # the draft's line comes after the target's
            offloaded, layers = int(match[1]), int(match[2])
        elif match := _BUFFER.search(line) or _BUFFER_2024.search(line):
            name = f"{match[1]} {match[2] or 'model'}"
            buffers[name] = buffers.get(name, 0) + round(float(match[3]) * 2**20)
        elif match := _BASE.search(line):
            base_rss_b = int(match[1])
        elif match := None if context else _CONTEXT.search(line):  # the target's comes first
            context = int(match[1])
    return EngineFacts(
        backend=_backend(buffers),
        layers_offloaded=offloaded,
        layers=layers,
        buffers=buffers,
        kv_capacity=context,
        base_rss_b=base_rss_b,
    )


def _backend(buffers: Mapping[str, int]) -> str | None:
    weights: dict[str, int] = {}
    for name, size in buffers.items():
        buffer, buffer_type = name.rsplit(" ", 1)
        if buffer_type == "model":
            device_backend = next((b for prefix, b in _DEVICES.items() if buffer.startswith(prefix)), buffer.lower())
            if buffer.startswith("RPC"):
                continue  # on another device
            # `CUDA_Host` is the CPU's own memory, pinned so that the GPU copies it faster.
            backend = "cpu" if buffer.endswith("_Host") else device_backend
            weights[backend] = weights.get(backend, 0) + size
    gpu = {backend: size for backend, size in weights.items() if backend != "cpu"}
    # The embedding table stays on the CPU even if every layer is offloaded.
    if gpu:
        return max(gpu, key=lambda backend: gpu[backend])
    return "cpu" if weights else None


def fallback(launch: Launch, status: int) -> tuple[Launch, str] | None:
    """Disable repacking after SIGILL, SIGSEGV or SIGBUS: a known crash on virtual machines whose CPU reports
    AMX while their kernel forbids it. None for other exits."""
    if launch.options.get("repack", True) and status - 128 in (signal.SIGILL, signal.SIGSEGV, signal.SIGBUS):
        name = signal.Signals(status - 128).name
        reason = f"the engine died by {name}; started again without repacked weights (--no-repack)"
        return replace(launch, options={**launch.options, "repack": False}), reason
    return None
