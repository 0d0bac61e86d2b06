"""What llama-server can be made to tell of costs and of logits, by its ordinary requests."""

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
"""Likeliest tokens whose probabilities are asked for at each place."""
COMPARED = 5
"""Of them so many tell how much a logit changes with the way it is evaluated, at so many places:"""
PLACES = 4

Row = Mapping[str, Json]
"""A generated token with its candidates, as the server writes it."""


def answer(client: Client, query: Query, rereads: bool) -> Reply:
    """``rereads``: whether the draft also evaluates what is verified. Raises ``EngineFailed``."""
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
    """Seconds for evaluating so many tokens at once, in the midst of the text ``tokens``.

    The text up to there stays in the server's KV cache; n further tokens and ``n_predict`` 1 make
    it evaluate just these n, and ``prompt_ms`` says how long that took. The two continuations taken
    in turn begin differently, so that nothing of the last one is found in the cache.

    Such a request computes the output layer for its last token only, a verification for all. The
    rest is added by ``head``, the output layer's share of a token's arithmetic. ``method`` says so.
    Where a build cannot be asked like this, ``absent`` has the reason.
    """
    try:
        prompt = _tokens(client, _prompt(client, query.messages), special=True)
        made = _tokens(client, str(query.generated), special=False)
        verify_s, method = _verifications(client, query, prompt, made)
    except EngineFailed as error:
        return SpeculationCosts(absent=str(error))
    if rereads:
        method = f"{method}, which also evaluates what is verified"
    return SpeculationCosts(len(prompt) + len(made) // 2, verify_s, draft_rereads=rereads, method=method)


def _verifications(
    client: Client, query: CostQuery, prompt: Sequence[int], made: Sequence[int]
) -> tuple[Mapping[int, tuple[float, ...]], str]:
    """Seconds by size, each repeat; and how they were measured."""
    held, following = [*prompt, *made[: len(made) // 2]], list(made[len(made) // 2 :])
    other = next((i for i, token in enumerate(following) if token != following[0]), 0)
    sizes = [size for size in query.sizes if size + other <= len(following)]
    if not other or not sizes:
        raise EngineFailed("the generated text is too short, or one token again and again")
    _evaluated(client, held)
    taken: dict[int, list[float]] = {}
    for size in sizes:
        # The first of a size only prepares the others.
        found = [
            _evaluated(client, [*held, *following[start : start + size]], size)
            for start in [0, other] * (1 + query.repeats // 2)
        ]
        taken[size] = found[1:]
    share = query.output_share
    one = sorted(taken[sizes[0]])[len(taken[sizes[0]]) // 2]
    seconds = {size: tuple(one + (each - one) / (1 - share) for each in times) for size, times in taken.items()}
    method = (
        "verification timed as the prompt of n tokens after a cached text"
        + (f"; the output layer of n − 1 of them added by its share of the arithmetic, {share:.0%}" if share else "")
        + "; a step of the draft timed as the draft alone"
    )
    return seconds, method


def _evaluated(client: Client, prompt: Sequence[int], expected: int | None = None) -> float:
    """Seconds for what of a prompt isn't cached."""
    timings = _complete(client, prompt, 1, cache_prompt=True)["timings"]
    if expected is not None and timings["prompt_n"] != expected:
        raise EngineFailed(f"the server evaluated {timings['prompt_n']} tokens where {expected} were not in its cache")
    return float(timings["prompt_ms"]) / 1e3


def divergence(client: Client, query: DivergenceQuery) -> Divergence:
    """How near the two tokens are at which the target's own text and another one diverge.

    From log-probabilities, whose differences are those of logits. The target writes its text once more, one token
    after the other, and then reads it at once. Where the other token isn't among the likeliest,
    ``gap`` is what it is at least.
    """
    prompt = _prompt(client, query.messages)
    one, other = str(query.reference), str(query.other)
    equal = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    length = len(_tokens(client, one[: equal + 1], special=False)) + 4
    again = _complete(client, prompt, length, n_probs=CANDIDATES, ignore_eos=True, return_tokens=True)
    rows, ids = _rows(again), list(again.get("tokens") or ())
    texts = (text.encode() for text in (other, one))
    place, rest = next(((place, rest) for place, rest in (_until(rows, text) for text in texts) if rest), (0, b""))
    if not rest:
        return Divergence(equal)
    if [row["id"] for row in rows[: place + 1]] != ids[: place + 1]:
        raise EngineFailed("a character before it is made of several tokens, which this build tells only together")
    row, likeliest = rows[place], rows[place]["top_logprobs"]
    others = (c for c in likeliest if c["id"] != row["id"] and c["bytes"])
    taken = next((c for c in others if rest.startswith(bytes(c["bytes"]))), likeliest[-1])
    noise = _noise(client, [*_tokens(client, prompt, special=True), *ids[:place]], rows[: place + 1])
    return Divergence(place, abs(row["logprob"] - taken["logprob"]), noise)


def _noise(client: Client, text: Sequence[int], rows: Sequence[Row]) -> float:
    """By how much the last of ``rows``, evaluated one by one, change where the text is read at once."""
    changes: list[float] = []
    for back in range(min(PLACES, len(rows))):
        read = text[: len(text) - back]
        # A token that is only a part of a character is told without its candidates.
        once = _complete(client, read, 1, n_probs=CANDIDATES, ignore_eos=True, cache_prompt=False)
        changes += [_difference(rows[-1 - back], row) for row in once.get("completion_probabilities") or ()]
    if not changes:
        raise EngineFailed("this build does not report log-probabilities")
    return max(changes)


def _until(rows: Sequence[Row], text: bytes) -> tuple[int, bytes]:
    """At which token a text isn't that of ``rows`` any more, and its rest from there."""
    for place, row in enumerate(rows):
        piece = bytes(row["bytes"])
        if piece.startswith(text):  # it ends here
            break
        if not text.startswith(piece):
            return place, text
        text = text[len(piece) :]
    return len(rows), b""


def _difference(one: Row, other: Row) -> float:
    known = {candidate["id"]: candidate["logprob"] for candidate in other["top_logprobs"]}
    both = (c for c in one["top_logprobs"][:COMPARED] if c["id"] in known)
    return max((abs(c["logprob"] - known[c["id"]]) for c in both), default=0.0)


def _rows(completion: Mapping[str, Json]) -> list[Row]:
    """Each generated token with its candidates."""
    found = completion.get("completion_probabilities")
    if not isinstance(found, list) or not all(isinstance(row, dict) and "top_logprobs" in row for row in found):
        raise EngineFailed("this build does not report log-probabilities")
    return found


def _complete(client: Client, prompt: str | Sequence[int], count: int, **fields: object) -> dict[str, Json]:
    asked = {"prompt": prompt, "n_predict": count, "temperature": 0, "stream": False, **fields}
    return _asked(client, "/completion", asked, "timings")


def _prompt(client: Client, messages: Sequence[Message]) -> str:
    body = {"messages": [dict(message) for message in messages]}
    return str(_asked(client, "/apply-template", body, "prompt")["prompt"])


def _tokens(client: Client, text: str, *, special: bool) -> list[int]:
    asked = {"content": text, "add_special": special, "parse_special": special}
    return list(_asked(client, "/tokenize", asked, "tokens")["tokens"])


def _asked(client: Client, path: str, body: Mapping[str, object], wanted: str) -> dict[str, Json]:
    status, found = client.post(path, body)
    if status != 200 or not isinstance(found, dict) or wanted not in found:
        raise EngineFailed(f"{path} answered {status}: {str(found)[:200]}")
    return found
