"""What llama-server can be made to tell of costs and of logits, by its ordinary requests."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from edgebench.core import Client, Json, Reply, Request
from edgebench.engines import llama_server
from edgebench.errors import EngineFailed

ASKS = ("costs", "parting")

CANDIDATES = 20
"""Likeliest tokens whose probabilities are asked for at each place."""
COMPARED = 5
"""Of them so many tell how much a logit changes with the way it is evaluated, at so many places:"""
PLACES = 4


def answer(client: Client, request: Request, rereads: bool) -> Reply:
    """The reply to a request with ``ask`` in its ``extra``; ``rereads``: whether the draft evaluates
    what is verified as well. Raises ``EngineFailed``."""
    name = request.extra["ask"]
    sent_at = time.monotonic()
    found = costs(client, request, rereads) if name == "costs" else parting(client, request)
    return llama_server.told(name, found, sent_at)


def costs(client: Client, request: Request, rereads: bool) -> Mapping[str, Json]:
    """Seconds for evaluating so many tokens at once, in the midst of the text ``tokens``.

    The text up to there stays in the server's KV cache; n further tokens and ``n_predict`` 1 make
    it evaluate just these n, and ``prompt_ms`` says how long that took. The two continuations taken
    in turn begin differently, so that nothing of the last one is found in the cache.

    Such a request computes the output layer for its last token only, a verification for all. The
    rest is added by ``head``, the output layer's share of a token's arithmetic. ``method`` says so.
    Where a build cannot be asked like this, ``absent`` has the reason.
    """
    try:
        prompt = _tokens(client, _prompt(client, request), special=True)
        made = _tokens(client, str(request.extra["tokens"]), special=False)
        found = _verifications(client, request.extra, prompt, made)
        also = {"draft_rereads": True, "method": f"{found['method']}, which also evaluates what is verified"}
        return {"depth": len(prompt) + len(made) // 2, **found, **(also if rereads else {})}
    except EngineFailed as error:
        return {"absent": str(error)}


def _verifications(
    client: Client, asked: Mapping[str, Json], prompt: Sequence[int], made: Sequence[int]
) -> Mapping[str, Json]:
    held, following = [*prompt, *made[: len(made) // 2]], list(made[len(made) // 2 :])
    other = next((i for i, token in enumerate(following) if token != following[0]), 0)
    sizes = [size for size in asked["sizes"] if size + other <= len(following)]
    if not other or not sizes:
        raise EngineFailed("the generated text is too short, or one token again and again")
    _evaluated(client, held)
    taken: dict[int, list[float]] = {}
    for size in sizes:
        # The first of a size only prepares the others.
        found = [
            _evaluated(client, [*held, *following[start : start + size]], size)
            for start in [0, other] * (1 + int(asked["repeats"]) // 2)
        ]
        taken[size] = found[1:]
    share = float(asked.get("head") or 0.0)
    one = sorted(taken[sizes[0]])[len(taken[sizes[0]]) // 2]
    return {
        "verify_s": {str(size): [one + (each - one) / (1 - share) for each in found] for size, found in taken.items()},
        "method": "verification timed as the prompt of n tokens after a cached text"
        + (f"; the output layer of n − 1 of them added by its share of the arithmetic, {share:.0%}" if share else "")
        + "; a step of the draft timed as the draft alone",
    }


def _evaluated(client: Client, prompt: Sequence[int], expected: int | None = None) -> float:
    """Seconds for what of a prompt isn't cached."""
    timings = _complete(client, prompt, 1, cache_prompt=True)["timings"]
    if expected is not None and timings["prompt_n"] != expected:
        raise EngineFailed(f"the server evaluated {timings['prompt_n']} tokens where {expected} were not in its cache")
    return float(timings["prompt_ms"]) / 1e3


def parting(client: Client, request: Request) -> Mapping[str, Json]:
    """How near the two tokens are at which ``one``, the target's own text, and ``other`` part.

    ``position``, ``gap`` and ``noise`` as the server of llama-cpp-python tells them, from
    log-probabilities: these differ as logits do. The target writes its text once more, one token
    after the other, and then reads it at once. Where the other token isn't among the likeliest,
    ``gap`` is what it is at least.
    """
    prompt = _prompt(client, request)
    one, other = str(request.extra["one"]), str(request.extra["other"])
    equal = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    length = len(_tokens(client, one[: equal + 1], special=False)) + 4
    again = _complete(client, prompt, length, n_probs=CANDIDATES, ignore_eos=True, return_tokens=True)
    rows, ids = _rows(again), list(again.get("tokens") or ())
    texts = (text.encode() for text in (other, one))
    place, rest = next(((place, rest) for place, rest in (_until(rows, text) for text in texts) if rest), (0, b""))
    if not rest:
        return {"position": equal}
    if [row["id"] for row in rows[: place + 1]] != ids[: place + 1]:
        raise EngineFailed("a character before it is made of several tokens, which this build tells only together")
    row, likeliest = rows[place], rows[place]["top_logprobs"]
    others = (c for c in likeliest if c["id"] != row["id"] and c["bytes"])
    taken = next((c for c in others if rest.startswith(bytes(c["bytes"]))), likeliest[-1])
    noise = _noise(client, [*_tokens(client, prompt, special=True), *ids[:place]], rows[: place + 1])
    return {"position": place, "gap": abs(row["logprob"] - taken["logprob"]), "noise": noise}


def _noise(client: Client, text: Sequence[int], rows: Sequence[Any]) -> float:
    """By how much the last of ``rows``, evaluated one by one, change where the text is read at once."""
    changes: list[float] = []
    for back in range(min(PLACES, len(rows))):
        read = text[: len(text) - back]
        # A token that is only a part of a character is told without its candidates.
        once = _complete(client, read, 1, n_probs=CANDIDATES, ignore_eos=True, cache_prompt=False)
        changes += [_difference(rows[-1 - back], row) for row in once.get("completion_probabilities") or ()]
    if not changes:
        raise EngineFailed("this build tells no log-probabilities of tokens")
    return max(changes)


def _until(rows: Sequence[Any], text: bytes) -> tuple[int, bytes]:
    """At which token a text isn't that of ``rows`` any more, and its rest from there."""
    for place, row in enumerate(rows):
        piece = bytes(row["bytes"])
        if piece.startswith(text):  # it ends here
            break
        if not text.startswith(piece):
            return place, text
        text = text[len(piece) :]
    return len(rows), b""


def _difference(one: Any, other: Any) -> float:
    known = {candidate["id"]: candidate["logprob"] for candidate in other["top_logprobs"]}
    both = (c for c in one["top_logprobs"][:COMPARED] if c["id"] in known)
    return max((abs(c["logprob"] - known[c["id"]]) for c in both), default=0.0)


def _rows(completion: Any) -> list[Any]:
    """Each generated token with its candidates."""
    found = completion.get("completion_probabilities")
    if not isinstance(found, list) or not all(isinstance(row, dict) and "top_logprobs" in row for row in found):
        raise EngineFailed("this build tells no log-probabilities of tokens")
    return found


def _complete(client: Client, prompt: str | Sequence[int], count: int, **fields: Json) -> Any:
    asked = {"prompt": prompt, "n_predict": count, "temperature": 0, "stream": False, **fields}
    return _asked(client, "/completion", asked, "timings")


def _prompt(client: Client, request: Request) -> str:
    messages = [dict(message) for message in request.messages or ()]
    return str(_asked(client, "/apply-template", {"messages": messages}, "prompt")["prompt"])


def _tokens(client: Client, text: str, *, special: bool) -> list[int]:
    asked = {"content": text, "add_special": special, "parse_special": special}
    return list(_asked(client, "/tokenize", asked, "tokens")["tokens"])


def _asked(client: Client, path: str, body: Mapping[str, Json], wanted: str) -> Any:
    status, found = client.post(path, body)
    if status != 200 or not isinstance(found, dict) or wanted not in found:
        raise EngineFailed(f"{path} answered {status}: {str(found)[:200]}")
    return found
