"""The HTTP API of ``mlc_llm serve`` and its log messages, as of v0.20 and the July 2026 sources."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from typing import Any

from edgebench.core import Client, EngineFacts, Json, Line, Reply, Request, server_sent_events
from edgebench.errors import EngineFailed, EngineRefused, Unreadable

MIB = 2**20
"""Bytes of the engine's MB."""


def ready(client: Client) -> bool:
    """Whether ``GET /v1/models`` returns 200; the port opens only once the model is loaded."""
    status, body = client.get("/v1/models")
    if status == 401:
        raise EngineRefused("the engine rejected its API key: /v1/models returned 401")
    return status == 200 and isinstance(body, dict)


def ready_line(text: str) -> bool:
    """Whether a line is uvicorn's, printed when the port is bound."""
    return "Uvicorn running on" in text


def count_tokens(client: Client, text: str) -> int:
    """Tokens of a text by the engine's own tokenizer. There is no endpoint for it: the engine evaluates the
    text as a prompt and generates one token, and the usage has the count. Raises ``Unreadable``."""
    status, body = client.post("/v1/completions", {"prompt": text, "max_tokens": 1, "temperature": 0.0})
    usage = body.get("usage") if isinstance(body, dict) else None
    if status != 200 or not isinstance(usage, dict):
        raise Unreadable(f"/v1/completions returned {status} without usage: {str(body)[:200]}")
    return int(usage["prompt_tokens"])


def body(request: Request) -> tuple[str, dict[str, object]]:
    """Path and body of a request. Token ids go to ``/v1/completions``, messages to the chat endpoint,
    which applies the model's own template. ``ignore_eos`` counts only inside ``debug_config``.
    ``extra`` is for other dialects."""
    common: dict[str, object] = {
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "seed": request.seed,
        "debug_config": {"ignore_eos": request.ignore_eos},
    }
    if request.tokens is not None:
        return "/v1/completions", {"prompt": list(request.tokens), **common}
    return "/v1/chat/completions", {"messages": [dict(message) for message in request.messages or ()], **common}


def complete(client: Client, request: Request, *, models: int = 1) -> Reply:
    """Send a request, and compute every figure from counts and times; ``models`` is 2 with a draft.

    Raises ``EngineFailed`` if the engine fails or rejects it, ``Unreadable`` for a response without its
    debug usage.
    """
    path, fields = body(request)
    sent_at = time.monotonic()
    return reply(list(server_sent_events(client.lines(path, fields))), sent_at, models=models)


def reply(stream: Iterable[tuple[float, Json]], sent_at: float, *, models: int = 1) -> Reply:
    """The reply from the timed events of its stream; ``sent_at`` on the same clock, seconds.

    The rates come from ``usage.extra``: ``ttft_s`` ends with the first token sampled and
    ``end_to_end_latency_s`` with the last one, both on the engine's clock. Its own
    ``decode_tokens_per_s`` is not used: it is absent if the count is 0, and speculative modes never
    count. Token times are the arrivals of chunks. The engine counts the first token once for each of
    its models (batch_prefill_base.cc, v0.17 to July 2026).
    """
    text: list[str] = []
    arrivals: list[float] = []
    finish = ""
    usage: dict[str, Any] | None = None
    for time_s, event in stream:
        if not isinstance(event, dict):
            raise Unreadable(f"the engine's response is not an object: {str(event)[:200]}")
        if event.get("object") == "error" or "error" in event:
            raise EngineFailed(f"the engine returned an error: {error_text(event)}")
        for choice in event.get("choices") or ():
            # Each chunk of a chat repeats the role; the text is in one of two fields.
            text.append((choice.get("delta") or choice).get("content") or choice.get("text") or "")
            arrivals.append(time_s)
            finish = choice.get("finish_reason") or finish
        usage = event.get("usage") or usage
    if finish == "error":
        raise EngineFailed(f"the engine ended the response with an error: {''.join(text)[-300:] or 'no text'}")
    if usage is None:
        raise Unreadable("the engine's response has no usage")
    usage = {**usage, "completion_tokens": max(int(usage["completion_tokens"]) - (models - 1), 0)}
    return _measured(usage, "".join(text), arrivals, finish, sent_at, models)


def _measured(
    usage: dict[str, Any], text: str, arrivals: list[float], finish: str, sent_at: float, models: int
) -> Reply:
    completed, prompt = usage["completion_tokens"], int(usage["prompt_tokens"])
    if not completed and finish == "length":
        raise EngineFailed("the prompt exceeds the engine's context", "Use a larger --ctx or a shorter prompt.")
    extra = usage.get("extra")
    if not isinstance(extra, dict) or "ttft_s" not in extra or "end_to_end_latency_s" not in extra:
        raise Unreadable(
            "the engine's usage has no times", "mlc_llm serve must be from 2024-09 or later and take --enable-debug."
        )
    prefilled, first = int(extra.get("prefill_tokens", prompt)), float(extra["ttft_s"])
    if prefilled > models * prompt:
        # A full cache preempts the request, and the engine evaluates the whole text again to continue: then
        # `ttft_s` ends with the last evaluation, and the remaining time is not decode time.
        raise EngineFailed(
            f"the engine's KV cache overflowed: it evaluated {prefilled} tokens for a prompt of {prompt}",
            "Use a larger --ctx, or a shorter prompt.",
        )
    return Reply(
        text=text,
        prompt_tokens=prompt,
        cached_tokens=max(prompt - prefilled, 0),
        prefill_tokens=prefilled,
        prefill_s=first,
        completion_tokens=completed,
        token_times=tuple(at - arrivals[0] for at in arrivals),
        token_clock="arrival",  # noqa: S106 - a clock
        decode_s=float(extra["end_to_end_latency_s"]) - first if completed > 1 else None,
        ttft_s=arrivals[0] - sent_at if arrivals else None,
        engine_ttft_s=first,
        total_s=arrivals[-1] - sent_at if arrivals else 0.0,
        sent_at=sent_at,
        finish=finish,
    )


def drafts(client: Client) -> tuple[int, int]:
    """Draft tokens proposed and accepted since the engine started.

    ``/metrics`` has only ratios; the counts come from a special request of the debug mode. Step 0 of the
    engine's lists is the verifier's own token, which is always accepted and not counted here.
    """
    body = {
        "messages": [{"role": "user", "content": ""}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "debug_config": {"special_request": "query_engine_metrics"},
    }
    for _, event in server_sent_events(client.lines("/v1/chat/completions", body)):
        usage = event.get("usage") if isinstance(event, dict) else None
        if isinstance(usage, dict) and isinstance(usage.get("extra"), dict):
            counts = usage["extra"].get("spec_decode") or {}
            return sum(counts.get("draft_count", [])[1:]), sum(counts.get("accept_count", [])[1:])
    raise Unreadable("the engine did not report its metrics")


def error_text(event: dict[str, Json]) -> str:
    """The message in an error's body."""
    error = event.get("error")
    message = error.get("message") if isinstance(error, dict) else error
    return str(message or event.get("message") or event)[:500]


_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_DEVICE_FOUND = re.compile(r"\b(Found|Using) device: (\w+):\d+")
_ESTIMATE = re.compile(
    r"Estimated total single GPU memory usage: ([\d.]+) MB "
    r"\(Parameters: ([\d.]+) MB\. KVCache: ([\d.]+) MB\. Temporary buffer: ([\d.]+) MB\)"
)
_CAPACITY = re.compile(r"max KV cache token capacity is (\d+), prefill chunk size is (\d+)")
_BASE = re.compile(r"edgebench: (\d+) bytes resident before the model loads")
_PARTS = ("total", "parameters", "KV cache", "temporary")


def info(log: Iterable[str]) -> EngineFacts:
    """Device, the engine's own estimate of its memory and its final settings, from its log.

    The device is the one that was found when exactly one was requested; the engine does not start
    without it and never falls back silently. The estimate counts every model's weights at their stored
    size and is too low for 32-bit ones: it never replaces measurements.
    """
    backend_used, backends_found = None, set()
    buffers: dict[str, int] = {}
    kv_capacity = base_rss_b = None
    extra: dict[str, object] = {}
    for line in map(plain, log):
        if device := _DEVICE_FOUND.search(line):
            backends_found.add(device[2])
            backend_used = device[2] if device[1] == "Using" else backend_used
        elif estimate := _ESTIMATE.search(line):
            buffers = {
                f"estimated {name}": round(float(value) * MIB)
                for name, value in zip(_PARTS, estimate.groups(), strict=True)
            }
        elif actual := _CAPACITY.search(line):
            kv_capacity, extra["prefill_chunk"] = int(actual[1]), int(actual[2])
        elif base := _BASE.search(line):
            base_rss_b = int(base[1])
        elif "Using cached model lib:" in line or "Using compiled model lib:" in line:
            extra["model_lib"] = line.split("model lib:", 1)[1].strip()
    backend = backend_used or (backends_found.pop() if len(backends_found) == 1 else None)
    return EngineFacts(backend=backend, buffers=buffers, kv_capacity=kv_capacity, base_rss_b=base_rss_b, extra=extra)


def plain(line: str) -> str:
    """A line without its colours."""
    return _COLOUR.sub("", line)


def compiling(log: Sequence[Line]) -> tuple[float, bool] | None:
    """See ``core.LogDiagnostics``: from ``Compiling using commands below`` to ``Using compiled model lib``,
    added up over the models of a start."""
    seconds, started_at = 0.0, None
    has_compiled = False
    for line in log:
        if "Compiling using commands below" in line.text:
            has_compiled, started_at = True, line.at
        elif started_at is not None and "Using compiled model lib" in line.text:
            seconds, started_at = seconds + line.at - started_at, None
    if not has_compiled:
        return None
    if started_at is not None:
        return seconds + time.monotonic() - started_at, False
    return seconds, True


_FATAL = re.compile(r"(?:\w+\.)*(\w*(?:Error|Exception)): (.+)|(?:Check failed: .*?: |Error: )(.+)")
_STOPPED = ("Exception in thread", "terminate called after throwing")

REMEDIES: tuple[tuple[str, str], ...] = (
    ("insufficient gpu memory", "It does not fit: use a smaller --ctx, --batch or quantization."),
    ("out of memory", "It does not fit: use a smaller --ctx, --batch or quantization."),
    ("out_of_host_memory", "It does not fit: use a smaller --ctx, --batch or quantization."),
    ("device is not found", "Name a backend that this machine has and that this build of MLC-LLM was made for."),
    ("loader of that name is not registered", "The model library was compiled for another backend: compile it again."),
    ("vm_load_executable", "The model library was compiled by another version of MLC-LLM: compile it again."),
    ("invalid elf header", "The model library was compiled for another system: compile it on this one."),
    ("wrong elf class", "The model library was compiled for another processor: compile it on this one."),
    ("mach-o", "The model library was compiled for another system: compile it on this one."),
    ("tensor-cache.json", "The weight index has the file name of another version: see docs/mlc-llm.md."),
    ("ndarray-cache.json", "The weight index has the file name of another version: see docs/mlc-llm.md."),
    (
        "compilation failed",
        "Read the compiler's output: edgebench results show ID --log. It needs gcc or clang on that device.",
    ),
    (
        "request_ids.size() == num_samples",
        "MLC-LLM's sampler for the CPU cannot verify drafts: use a backend that samples itself (cuda, metal, vulkan).",
    ),
    ("mlc_jit_policy", "Compiling is forbidden by MLC_JIT_POLICY on that device: compile there once, or allow it."),
)


def verdict(log: Sequence[str]) -> tuple[str, str] | None:
    """See ``core.LogDiagnostics``. The model runs in its own thread: if that thread crashes, the server keeps
    running, but never opens its port or never responds again."""
    start = next((i for i, line in enumerate(log) if any(word in line for word in _STOPPED)), None)
    if start is None:
        return None
    message = last_words([plain(line) for line in log[start:]])
    return (message, remedy(message)) if message else None


def last_words(lines: Sequence[str]) -> str:
    """The message of the last error in a log; empty if there is none."""
    for line in reversed(lines):
        if match := _FATAL.search(line):
            message = match[2] or match[3] or ""
            nested = re.search(r"Check failed: .*? is false: (.+)", message)
            return (nested[1] if nested else message).strip()[:500]
    return ""


def remedy(message: str) -> str:
    return next((hint for pattern, hint in REMEDIES if pattern in message.lower()), "")
