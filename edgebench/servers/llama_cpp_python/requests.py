"""Validation of requests, and their errors."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from .sampling import SamplingParams
from .speculation import GenerationRequest

MAX_DRAFT_TOKENS = 64
MAX_BEAMS = 16
DRAFT_METHODS = ("draft-simple", "prompt-lookup")


class RequestError(Exception):
    """An invalid request; message and body as in llama-server."""

    def __init__(self, message: str, code: int = 400, kind: str = "invalid_request_error", **extra: object) -> None:
        super().__init__(message)
        self.code = code
        self.body = {"error": {"code": code, "message": message, "type": kind, **extra}}


class Fields:
    """The fields of a request; null counts as absent. All accessors raise ``RequestError``."""

    def __init__(self, body: Mapping[str, object]) -> None:
        self.body = body

    def __contains__(self, name: str) -> bool:
        return self.body.get(name) is not None

    def flag(self, name: str, default: bool) -> bool:
        value = self.body[name] if name in self else default
        if not isinstance(value, bool):
            raise RequestError(f"'{name}' must be true or false")
        return value

    def text(self, name: str, default: str) -> str:
        value = self.body[name] if name in self else default
        if not isinstance(value, str):
            raise RequestError(f"'{name}' must be a text")
        return value

    def number(self, name: str, minimum: float, maximum: float, default: float) -> float:
        value = self.body[name] if name in self else default
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not minimum <= value <= maximum:
            raise RequestError(f"'{name}' must be a number between {minimum} and {maximum}, not {value!r}")
        return value

    def integer(self, name: str, minimum: int, maximum: int, default: int) -> int:
        return int(self.number(name, minimum, maximum, default))

    def integers(self, name: str, minimum: int, maximum: int, default: list[int]) -> list[int]:
        value = self.body[name] if name in self else default
        if not isinstance(value, list) or any(
            type(item) is not int or not minimum <= item <= maximum for item in value
        ):
            raise RequestError(f"'{name}' must be a list of whole numbers between {minimum} and {maximum}")
        return value


def parse_request(fields: Fields, prompt: list[int], draft_max: int, has_draft: bool) -> GenerationRequest:
    """Validate a request for a generation. ``draft_max``: default number of draft tokens."""
    method = fields.text("speculative.type", DRAFT_METHODS[0])
    if method not in DRAFT_METHODS:
        raise RequestError(f"'speculative.type' must be one of {', '.join(DRAFT_METHODS)}, not {method!r}")
    can_draft = has_draft or method != DRAFT_METHODS[0]
    beams, kv_cache = fields.integer("n_beams", 1, MAX_BEAMS, 1), fields.flag("kv_cache", True)
    forbids_drafts = beams > 1 or not kv_cache
    k = fields.integer("speculative.n_max", 0, MAX_DRAFT_TOKENS, draft_max if can_draft and not forbids_drafts else 0)
    if k and forbids_drafts:
        raise RequestError(
            "beam search and generation without a KV cache go without drafts: 'speculative.n_max' must be 0"
        )
    if k and not can_draft:
        raise RequestError("'speculative.n_max' needs a draft model (-md), or 'speculative.type': 'prompt-lookup'")
    limit = next((name for name in ("n_predict", "max_tokens", "max_completion_tokens") if name in fields), "n_predict")
    seed = fields.integer("seed", -1, 2**63, -1)
    return GenerationRequest(
        prompt=prompt,
        n_predict=fields.integer(limit, -1, 2**31, -1),
        sampling=SamplingParams(
            float(fields.number("temperature", 0, 1e3, SamplingParams.temperature)),
            fields.integer("top_k", 0, 2**31, SamplingParams.top_k),
            float(fields.number("top_p", 0, 1, SamplingParams.top_p)),
        ),
        seed=seed if seed >= 0 else secrets.randbits(63),  # as llama-server: another text each time
        ignore_eos=fields.flag("ignore_eos", False),
        cache_prompt=fields.flag("cache_prompt", True),
        kv_cache=kv_cache,
        beams=beams,
        k=k,
        p_min=float(fields.number("speculative.p_min", 0, 1, 0)),
        kind=method,
    )
