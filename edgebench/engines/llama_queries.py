"""Measures speculation costs and divergence with llama-server's ordinary requests."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from edgebench.core import (
    Capability,
    Client,
    CostQuery,
    Divergence,
    DivergenceQuery,
    Json,
    Message,
    Query,
    Reply,
    SpeculationCosts,
)
from edgebench.errors import EngineFailed

CAPABILITIES: tuple[Capability, ...] = ("speculation-costs", "text-divergence")

CANDIDATES = 20
"""Number of most likely tokens requested at each position."""
COMPARED_CANDIDATES = 5
"""Number of candidates and of positions that the noise of logits is measured at:"""
NOISE_POSITIONS = 4

Row = Mapping[str, Json]
"""A generated token with its candidates, as the server writes it."""


def answer(client: Client, query: Query, rereads: bool) -> Reply:
    """Answer a query; ``rereads``: whether the draft also evaluates verified tokens. Raises ``EngineFailed``."""
    sent_at = time.monotonic()
    if isinstance(query, CostQuery):
        reply = Reply("", costs=costs(client, query, rereads))
    elif isinstance(query, DivergenceQuery):
        reply = Reply("", divergence=divergence(client, query))
    else:
        raise EngineFailed(
            "llama-server cannot compute log-likelihoods of given tokens", "Use --engine llama-cpp-python."
        )
    return replace(reply, token_clock="engine", sent_at=sent_at, total_s=time.monotonic() - sent_at)  # noqa: S106 - a clock


def costs(client: Client, query: CostQuery, rereads: bool) -> SpeculationCosts:
    """Seconds to evaluate n tokens at once, in the middle of the generated text.

    The first half of the text stays in the server's KV cache; with n further tokens and ``n_predict`` 1
    it evaluates just these n, and ``prompt_ms`` is the time. Two alternating continuations start with
    different tokens, so that the previous one is never found in the cache.

    Such a request computes the output layer for its last token only, a verification for all. The
    rest is added by ``output_share``, the output layer's share of a token's arithmetic; ``method``
    describes it. ``absent`` is the reason if a build does not support this.
    """
    try:
        prompt = _tokens(client, _prompt(client, query.messages), special=True)
        generated = _tokens(client, str(query.generated), special=False)
        verify_s, method = _verifications(client, query, prompt, generated)
    except EngineFailed as error:
        return SpeculationCosts(absent=str(error))
    if rereads:
        method = f"{method}, which also evaluates what is verified"
    return SpeculationCosts(len(prompt) + len(generated) // 2, verify_s, draft_rereads=rereads, method=method)


def _verifications(
    client: Client, query: CostQuery, prompt: Sequence[int], generated: Sequence[int]
) -> tuple[Mapping[int, tuple[float, ...]], str]:
    """Number of tokens → seconds of each repeat; and the method."""
    cached, rest = [*prompt, *generated[: len(generated) // 2]], list(generated[len(generated) // 2 :])
    offset = next((i for i, token in enumerate(rest) if token != rest[0]), 0)
    sizes = [size for size in query.sizes if size + offset <= len(rest)]
    if not offset or not sizes:
        raise EngineFailed("the generated text is too short or repeats one token")
    _time_evaluation(client, cached)
    times_by_size: dict[int, list[float]] = {}
    for size in sizes:
        # The first request of a size is a warm-up.
        repeats_s = [
            _time_evaluation(client, [*cached, *rest[start : start + size]], size)
            for start in [0, offset] * (1 + query.repeats // 2)
        ]
        times_by_size[size] = repeats_s[1:]
    share = query.output_share
    single_s = sorted(times_by_size[sizes[0]])[len(times_by_size[sizes[0]]) // 2]
    seconds = {
        size: tuple(single_s + (time_s - single_s) / (1 - share) for time_s in values)
        for size, values in times_by_size.items()
    }
    method = (
        "verification timed as the prompt of n tokens after a cached text"
        + (f"; the output layer of n − 1 of them added by its share of the arithmetic, {share:.0%}" if share else "")
        + "; a step of the draft timed as the draft alone"
    )
    return seconds, method


def _time_evaluation(client: Client, prompt: Sequence[int], expected: int | None = None) -> float:
    """Seconds to evaluate the uncached part of a prompt."""
    timings = _complete(client, prompt, 1, cache_prompt=True)["timings"]
    if expected is not None and timings["prompt_n"] != expected:
        raise EngineFailed(f"the server evaluated {timings['prompt_n']} tokens instead of the {expected} uncached ones")
    return float(timings["prompt_ms"]) / 1e3


def divergence(client: Client, query: DivergenceQuery) -> Divergence:
    """Measures the gap of the two tokens at which the target's own text and another one diverge.

    Uses log-probabilities, whose differences equal those of logits. The target generates its text again, token
    by token, and then evaluates it at once. If the other token is not among the candidates, ``gap`` is a
    lower bound.
    """
    prompt = _prompt(client, query.messages)
    reference, other = str(query.reference), str(query.other)
    equal = next(
        (i for i, (a, b) in enumerate(zip(reference, other, strict=False)) if a != b), min(len(reference), len(other))
    )
    length = len(_tokens(client, reference[: equal + 1], special=False)) + 4
    completion = _complete(client, prompt, length, n_probs=CANDIDATES, ignore_eos=True, return_tokens=True)
    rows, ids = _rows(completion), list(completion.get("tokens") or ())
    texts = (text.encode() for text in (other, reference))
    position, tail = next(
        ((position, tail) for position, tail in (_find_divergence(rows, text) for text in texts) if tail), (0, b"")
    )
    if not tail:
        return Divergence(equal)
    if [row["id"] for row in rows[: position + 1]] != ids[: position + 1]:
        raise EngineFailed("a preceding character spans several tokens, which this build reports only together")
    row, likeliest = rows[position], rows[position]["top_logprobs"]
    alternatives = (c for c in likeliest if c["id"] != row["id"] and c["bytes"])
    alternative = next((c for c in alternatives if tail.startswith(bytes(c["bytes"]))), likeliest[-1])
    noise = _noise(client, [*_tokens(client, prompt, special=True), *ids[:position]], rows[: position + 1])
    return Divergence(position, abs(row["logprob"] - alternative["logprob"]), noise)


def _noise(client: Client, text: Sequence[int], rows: Sequence[Row]) -> float:
    """Largest change of a log-probability of the last ``rows`` if the text is evaluated at once."""
    changes: list[float] = []
    for offset in range(min(NOISE_POSITIONS, len(rows))):
        prefix = text[: len(text) - offset]
        # Tokens that are part of a character are reported without candidates.
        completion = _complete(client, prefix, 1, n_probs=CANDIDATES, ignore_eos=True, cache_prompt=False)
        changes += [_difference(rows[-1 - offset], row) for row in completion.get("completion_probabilities") or ()]
    if not changes:
        raise EngineFailed("this build does not report log-probabilities")
    return max(changes)


def _find_divergence(rows: Sequence[Row], text: bytes) -> tuple[int, bytes]:
    """(index of the first token that differs from ``rows``, rest of the text from there; empty without divergence)."""
    for position, row in enumerate(rows):
        piece = bytes(row["bytes"])
        if piece.startswith(text):  # the text ends here
            break
        if not text.startswith(piece):
            return position, text
        text = text[len(piece) :]
    return len(rows), b""


def _difference(row_a: Row, row_b: Row) -> float:
    logprobs = {candidate["id"]: candidate["logprob"] for candidate in row_b["top_logprobs"]}
    common = (c for c in row_a["top_logprobs"][:COMPARED_CANDIDATES] if c["id"] in logprobs)
    return max((abs(c["logprob"] - logprobs[c["id"]]) for c in common), default=0.0)


def _rows(completion: Mapping[str, Json]) -> list[Row]:
    """The generated tokens with their candidates. Raises ``EngineFailed`` if the build does not report them."""
    rows = completion.get("completion_probabilities")
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "top_logprobs" in row for row in rows):
        raise EngineFailed("this build does not report log-probabilities")
    return rows


def _complete(client: Client, prompt: str | Sequence[int], count: int, **fields: object) -> dict[str, Json]:
    body = {"prompt": prompt, "n_predict": count, "temperature": 0, "stream": False, **fields}
    return _post(client, "/completion", body, "timings")


def _prompt(client: Client, messages: Sequence[Message]) -> str:
    body = {"messages": [dict(message) for message in messages]}
    return str(_post(client, "/apply-template", body, "prompt")["prompt"])


def _tokens(client: Client, text: str, *, special: bool) -> list[int]:
    body = {"content": text, "add_special": special, "parse_special": special}
    return list(_post(client, "/tokenize", body, "tokens")["tokens"])


def _post(client: Client, path: str, body: Mapping[str, object], key: str) -> dict[str, Json]:
    status, document = client.post(path, body)
    if status != 200 or not isinstance(document, dict) or key not in document:
        raise EngineFailed(f"{path} returned {status}: {str(document)[:200]}")
    return document
