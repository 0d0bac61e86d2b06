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
"""Where llama-server looks for its key by itself."""


class Dialect(Engine):
    """What all engines of this family do alike."""

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
"""The words of glibc's, Android's and macOS' loaders."""


def printed(device: DeviceSession, argv: Sequence[str], env: Mapping[str, str], *, timeout: float, hint: str) -> str:
    """What a program prints on either stream. Raises ``EngineMissing`` where it fails or hangs."""
    program = " ".join(argv)
    try:
        said = device.run(device.system.quote(argv, env), timeout=timeout)
    except TimedOut as error:
        raise EngineMissing(f"{program} printed nothing for {timeout:g} s") from error
    if said.status != 0:
        words = (said.stderr.strip() or said.stdout.strip())[-800:]
        if LIBRARY_MISSING.search(words):
            hint = "A library is missing: name its folder in the profile, under env: LD_LIBRARY_PATH."
        raise EngineMissing(f"{program} cannot run on {device.device.name} (exit status {said.status}): {words}", hint)
    return said.stdout + "\n" + said.stderr


def ready(client: Client) -> bool:
    """``GET /health``: 503 while the model loads, then 200."""
    status, _ = client.get("/health")
    if status in (401, 403):
        raise EngineRefused(f"the engine refuses its own key: /health answered {status}")
    return status == 200


def ready_line(text: str) -> bool:
    """``main: model loaded``, printed since 2024 when the slots are there and /health turns to 200."""
    return "model loaded" in text


def count_tokens(client: Client, text: str) -> int:
    """Tokens of a text by the engine's own tokenizer, without the beginning-of-sequence one."""
    status, body = client.post("/tokenize", {"content": text})
    if status != 200 or not isinstance(body, dict) or not isinstance(body.get("tokens"), list):
        raise Unreadable(f"/tokenize answered {status}: {str(body)[:200]}")
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
    """What only this family understands. A field that a build doesn't know, it ignores."""
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
    """Ask, and recompute every figure from counts and times.

    Raises ``EngineFailed`` when the engine breaks off, ``Unreadable`` for an answer without timings.
    """
    path, asked = body(request)
    sent_at = time.monotonic()
    return reply(list(server_sent_events(client.lines(path, asked))), sent_at)


@dataclass
class _Heard:
    """What the events of one answer added up to."""

    text: list[str] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    chunks: list[float] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    timings: dict[str, Any] = field(default_factory=dict)
    finish: str = ""
    speculative: dict[str, Any] = field(default_factory=dict)

    def hear(self, at: float, event: Json) -> None:
        if not isinstance(event, dict):
            raise Unreadable(f"the engine's answer is not an object: {str(event)[:200]}")
        if "error" in event:
            raise EngineFailed(f"the engine answered with an error: {str(event['error'])[:500]}")
        piece, end = _piece(event)
        if piece:
            self.text.append(piece)
            self.chunks.append(at)
        self.tokens.extend(event.get("tokens") or ())
        self.finish = end or self.finish
        self.timings = event.get("timings") or self.timings
        self.speculative = event.get("speculative") or self.speculative
        new = int(self.timings.get("predicted_n", 0)) - len(self.times)
        if new > 0:
            self.arrivals += [at] * new
            self.times += [float(self.timings["predicted_ms"]) / 1e3] * new


def reply(stream: Iterable[tuple[float, Json]], sent_at: float) -> Reply:
    """One reply of the timed events of its stream; ``sent_at`` in the same clock, seconds.

    ``timings.predicted_ms`` counts from the first generated token; with ``timings_per_token`` each
    chunk carries it, which makes the gaps between tokens the engine's own. A chunk is not a token:
    a speculative step sends several tokens at one time, ``predicted_n`` says how many there are.
    """
    heard = _Heard()
    for at, event in stream:
        heard.hear(at, event)
    timings = heard.timings
    if "prompt_ms" not in timings:
        raise Unreadable("the engine's answer holds no timings", "The build must be from 2024 or later.")
    n = int(timings.get("predicted_n", 0))
    cached, evaluated = int(timings.get("cache_n", 0)), int(timings.get("prompt_n", 0))
    prefill_s = float(timings["prompt_ms"]) / 1e3
    # Builds before b4160 tell their times only once, at the end: then the arrivals of the chunks
    # are what there is, and a chunk was a token.
    by_engine = len(set(heard.times)) > 1 or len(heard.times) < 2
    arrivals = heard.arrivals if by_engine else heard.chunks
    clock = heard.times if by_engine else heard.chunks
    offsets = tuple(at - clock[0] for at in clock)
    return Reply(
        text="".join(heard.text),
        tokens=tuple(heard.tokens),
        prompt_tokens=cached + evaluated,
        cached_tokens=cached,
        prefill_tokens=evaluated,
        prefill_s=prefill_s,
        completion_tokens=n,
        token_times=offsets,
        token_clock="engine" if by_engine else "arrival",
        decode_s=offsets[-1] if n > 1 and len(offsets) == n else None,
        ttft_s=arrivals[0] - sent_at if arrivals else None,
        engine_ttft_s=prefill_s + heard.times[0] if by_engine and heard.times else None,
        total_s=arrivals[-1] - sent_at if arrivals else 0.0,
        sent_at=sent_at,
        finish=heard.finish,
        draft_tokens=int(timings.get("draft_n", 0)),
        draft_accepted=int(timings.get("draft_n_accepted", 0)),
        speculation=_speculation(heard.speculative),
    )


def costs_of(document: Mapping[str, Any]) -> SpeculationCosts:
    """What was measured of verifying and drafting. Raises ``Unreadable`` for another form."""
    try:
        return SpeculationCosts(
            depth=int(document.get("depth", 0)),
            verify_s={int(n): tuple(map(float, each)) for n, each in (document.get("verify_s") or {}).items()},
            draft_s=tuple(tuple(map(float, steps)) for steps in document.get("draft_s") or ()),
            draft_two_s=tuple(map(float, document.get("draft_two_s") or ())),
            draft_rereads=bool(document.get("draft_rereads", False)),
            method=str(document.get("method", "")),
            absent=str(document.get("absent", "")),
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise Unreadable(f"the costs of speculation are in an unknown form: {error}") from error


def divergence_of(document: Mapping[str, Any]) -> Divergence:
    """Where two texts differ. Raises ``Unreadable`` for another form."""
    try:
        position, gap, noise = (document.get(name) for name in ("position", "gap", "noise"))
        return Divergence(
            None if position is None else int(position),
            None if gap is None else float(gap),
            None if noise is None else float(noise),
        )
    except (TypeError, ValueError) as error:
        raise Unreadable(f"the comparison of two texts is in an unknown form: {error}") from error


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
    """Text and reason of the end, in either endpoint's form."""
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
"""The beginning of a buffer's name → the backend that computes with what is in it."""


def info(log: Iterable[str]) -> EngineFacts:
    """What an engine of this family said while it loaded: buffers, layers offloaded, the backend used.

    Lines are searched, not anchored: since b9151 each begins with a time stamp. The backend is
    where the *weights* lie, which is what silent fall-backs to the CPU can't fake.
    """
    layers = offloaded = None
    buffers: dict[str, int] = {}
    base_rss_b: int | None = None
    for line in log:
        if found := None if layers else _OFFLOADED.search(line):  # the draft's come after the target's
            offloaded, layers = int(found[1]), int(found[2])
        elif found := _BUFFER.search(line) or _BUFFER_2024.search(line):
            name = f"{found[1]} {found[2] or 'model'}"
            buffers[name] = buffers.get(name, 0) + round(float(found[3]) * 2**20)
        elif found := _BASE.search(line):
            base_rss_b = int(found[1])
    return EngineFacts(
        backend=_backend(buffers),
        layers_offloaded=offloaded,
        layers=layers,
        buffers=buffers,
        base_rss_b=base_rss_b,
    )


def _backend(buffers: Mapping[str, int]) -> str | None:
    weights: dict[str, int] = {}
    for name, size in buffers.items():
        place, kind = name.rsplit(" ", 1)
        if kind == "model":
            named = next((b for prefix, b in _DEVICES.items() if place.startswith(prefix)), place.lower())
            if place.startswith("RPC"):
                continue  # on another device
            # `CUDA_Host` is the CPU's own memory, pinned so that the GPU copies it faster.
            backend = "cpu" if place.endswith("_Host") else named
            weights[backend] = weights.get(backend, 0) + size
    gpu = {backend: size for backend, size in weights.items() if backend != "cpu"}
    # The embedding table stays on the CPU even where every layer is offloaded.
    if gpu:
        return max(gpu, key=lambda backend: gpu[backend])
    return "cpu" if weights else None


def fallback(launch: Launch, status: int) -> tuple[Launch, str] | None:
    """Without repacked weights after SIGILL, SIGSEGV or SIGBUS: the known death on virtual machines
    whose CPU claims AMX while their kernel forbids it."""
    if launch.options.get("repack", True) and status - 128 in (signal.SIGILL, signal.SIGSEGV, signal.SIGBUS):
        name = signal.Signals(status - 128).name
        why = f"the engine died by {name}; started again without repacked weights (--no-repack)"
        return replace(launch, options={**launch.options, "repack": False}), why
    return None
