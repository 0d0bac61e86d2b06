"""The HTTP dialect of ``mlc_llm serve`` and what its log says, as of v0.20 and the July 2026 sources."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from typing import Any

from edgebench.core import Client, EngineFacts, Json, Line, Reply, Request, server_sent_events
from edgebench.errors import EngineFailed, EngineRefused, Unreadable

MIB = 2**20
"""What the engine prints as MB."""


def ready(client: Client) -> bool:
    """``GET /v1/models``: the port opens only once the model is loaded."""
    status, body = client.get("/v1/models")
    if status == 401:
        raise EngineRefused("the engine refuses its own key: /v1/models answered 401")
    return status == 200 and isinstance(body, dict)


def ready_line(text: str) -> bool:
    """uvicorn's line, printed when the port is bound."""
    return "Uvicorn running on" in text


def count_tokens(client: Client, text: str) -> int:
    """Tokens of a text by the engine's own tokenizer. It has no endpoint for that: the prompt is
    evaluated, one token is generated and the usage read."""
    status, body = client.post("/v1/completions", {"prompt": text, "max_tokens": 1, "temperature": 0.0})
    usage = body.get("usage") if isinstance(body, dict) else None
    if status != 200 or not isinstance(usage, dict):
        raise Unreadable(f"/v1/completions answered {status} without usage: {str(body)[:200]}")
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
    """Ask, and recompute every figure from counts and times; ``models`` is 2 with a draft.

    Raises ``EngineFailed`` when the engine breaks off or refuses, ``Unreadable`` for an answer
    without its debug usage.
    """
    path, asked = body(request)
    sent_at = time.monotonic()
    return reply(list(server_sent_events(client.lines(path, asked))), sent_at, models=models)


def reply(stream: Iterable[tuple[float, Json]], sent_at: float, *, models: int = 1) -> Reply:
    """One reply of the timed events of its stream; ``sent_at`` in the same clock, seconds.

    The rates come from ``usage.extra``: ``ttft_s`` ends with the first token sampled and
    ``end_to_end_latency_s`` with the last one, both by the engine's clock. Its own
    ``decode_tokens_per_s`` is left alone: it is absent where the count is 0, and speculative modes
    never count. The times of single tokens are the arrivals of chunks. The engine counts the first
    token once for each of its models (batch_prefill_base.cc, v0.17 to July 2026).
    """
    text: list[str] = []
    arrivals: list[float] = []
    finish = ""
    usage: dict[str, Any] | None = None
    for at, event in stream:
        if not isinstance(event, dict):
            raise Unreadable(f"the engine's answer is not an object: {str(event)[:200]}")
        if event.get("object") == "error" or "error" in event:
            raise EngineFailed(f"the engine answered with an error: {said(event)}")
        for choice in event.get("choices") or ():
            # Each chunk of a chat carries the role again; text is in one place or the other.
            text.append((choice.get("delta") or choice).get("content") or choice.get("text") or "")
            arrivals.append(at)
            finish = choice.get("finish_reason") or finish
        usage = event.get("usage") or usage
    if finish == "error":
        raise EngineFailed(f"the engine ended the answer with an error: {''.join(text)[-300:] or 'no text'}")
    if usage is None:
        raise Unreadable("the engine's answer ended without its usage")
    usage = {**usage, "completion_tokens": max(int(usage["completion_tokens"]) - (models - 1), 0)}
    return _measured(usage, "".join(text), arrivals, finish, sent_at, models)


def _measured(
    usage: dict[str, Any], text: str, arrivals: list[float], finish: str, sent_at: float, models: int
) -> Reply:
    completed, prompt = usage["completion_tokens"], int(usage["prompt_tokens"])
    if not completed and finish == "length":
        raise EngineFailed("the prompt does not fit the engine's context", "Use a larger --ctx or a shorter prompt.")
    extra = usage.get("extra")
    if not isinstance(extra, dict) or "ttft_s" not in extra or "end_to_end_latency_s" not in extra:
        raise Unreadable(
            "the engine's usage holds no times", "mlc_llm serve must be from 2024-09 or later and take --enable-debug."
        )
    prefilled, first = int(extra.get("prefill_tokens", prompt)), float(extra["ttft_s"])
    if prefilled > models * prompt:
        # It preempts a request for which its cache has no room left, and evaluates the whole text anew to go on:
        # then `ttft_s` ends with the last of these, and what is left of the time is no decoding.
        raise EngineFailed(
            f"the engine ran out of room in its cache and evaluated {prefilled} tokens for a prompt of {prompt}",
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

    ``/metrics`` gives only ratios; the counts come from a special request of the debug mode. Step 0
    of the engine's lists is the verifier's own token and is always accepted: it isn't counted.
    """
    asked = {
        "messages": [{"role": "user", "content": ""}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "debug_config": {"special_request": "query_engine_metrics"},
    }
    for _, event in server_sent_events(client.lines("/v1/chat/completions", asked)):
        usage = event.get("usage") if isinstance(event, dict) else None
        if isinstance(usage, dict) and isinstance(usage.get("extra"), dict):
            counts = usage["extra"].get("spec_decode") or {}
            return sum(counts.get("draft_count", [])[1:]), sum(counts.get("accept_count", [])[1:])
    raise Unreadable("the engine did not answer with its metrics")


def said(event: dict[str, Json]) -> str:
    """The words of an error's body."""
    error = event.get("error")
    words = error.get("message") if isinstance(error, dict) else error
    return str(words or event.get("message") or event)[:500]


_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_FOUND = re.compile(r"\b(Found|Using) device: (\w+):\d+")
_ESTIMATE = re.compile(
    r"Estimated total single GPU memory usage: ([\d.]+) MB "
    r"\(Parameters: ([\d.]+) MB\. KVCache: ([\d.]+) MB\. Temporary buffer: ([\d.]+) MB\)"
)
_ACTUAL = re.compile(r"max KV cache token capacity is (\d+), prefill chunk size is (\d+)")
_BASE = re.compile(r"edgebench: (\d+) bytes resident before the model loads")
_PARTS = ("total", "parameters", "KV cache", "temporary")


def info(log: Iterable[str]) -> EngineFacts:
    """Device, the engine's own estimate of its memory and its final settings, from its log.

    The device is the one it found when it was told to use just that one; it refuses to start
    without it and knows no silent fall-back. The estimate counts every model's weights at their
    stored size and is too low for 32-bit ones: it stands beside what is sampled, never for it.
    """
    used, found = None, set()
    buffers: dict[str, int] = {}
    kv_capacity = base_rss_b = None
    extra: dict[str, object] = {}
    for line in map(plain, log):
        if device := _FOUND.search(line):
            found.add(device[2])
            used = device[2] if device[1] == "Using" else used
        elif estimate := _ESTIMATE.search(line):
            buffers = {
                f"estimated {name}": round(float(value) * MIB)
                for name, value in zip(_PARTS, estimate.groups(), strict=True)
            }
        elif actual := _ACTUAL.search(line):
            kv_capacity, extra["prefill_chunk"] = int(actual[1]), int(actual[2])
        elif base := _BASE.search(line):
            base_rss_b = int(base[1])
        elif "Using cached model lib:" in line or "Using compiled model lib:" in line:
            extra["model_lib"] = line.split("model lib:", 1)[1].strip()
    backend = used or (found.pop() if len(found) == 1 else None)
    return EngineFacts(backend=backend, buffers=buffers, kv_capacity=kv_capacity, base_rss_b=base_rss_b, extra=extra)


def plain(line: str) -> str:
    """A line without its colours."""
    return _COLOUR.sub("", line)


def compiling(log: Sequence[Line]) -> tuple[float, bool] | None:
    """See ``core.LogDiagnostics``: from ``Compiling using commands below`` to ``Using compiled model lib``,
    added up over the models of a start."""
    seconds, since = 0.0, None
    seen = False
    for line in log:
        if "Compiling using commands below" in line.text:
            seen, since = True, line.at
        elif since is not None and "Using compiled model lib" in line.text:
            seconds, since = seconds + line.at - since, None
    if not seen:
        return None
    if since is not None:
        return seconds + time.monotonic() - since, False
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
    ("tensor-cache.json", "The weights' cache file has the name of another version: see docs/mlc-llm.md."),
    ("ndarray-cache.json", "The weights' cache file has the name of another version: see docs/mlc-llm.md."),
    (
        "compilation failed",
        "Read the compiler's own words: edgebench results show ID --log. It needs gcc or clang on that device.",
    ),
    (
        "request_ids.size() == num_samples",
        "MLC-LLM's sampler for the CPU cannot verify drafts: use a backend that samples itself (cuda, metal, vulkan).",
    ),
    ("mlc_jit_policy", "Compiling is forbidden by MLC_JIT_POLICY on that device: compile there once, or allow it."),
)


def verdict(log: Sequence[str]) -> tuple[str, str] | None:
    """See ``core.LogDiagnostics``. The model runs on a thread of its own: when that thread dies, the
    server goes on without it, never opens its port or never answers again."""
    begin = next((i for i, line in enumerate(log) if any(word in line for word in _STOPPED)), None)
    if begin is None:
        return None
    words = last_words([plain(line) for line in log[begin:]])
    return (words, remedy(words)) if words else None


def last_words(lines: Sequence[str]) -> str:
    """The sentence of the last error in a log; empty where there is none."""
    for line in reversed(lines):
        if found := _FATAL.search(line):
            words = found[2] or found[3] or ""
            nested = re.search(r"Check failed: .*? is false: (.+)", words)
            return (nested[1] if nested else words).strip()[:500]
    return ""


def remedy(words: str) -> str:
    return next((hint for mark, hint in REMEDIES if mark in words.lower()), "")
