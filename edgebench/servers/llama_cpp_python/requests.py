"""What a request may say, checked, and how a refusal reads."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from .sampling import Shape
from .speculation import Ask

MOST_DRAFT_TOKENS = 64
MOST_BEAMS = 16
KINDS = ("draft-simple", "prompt-lookup")


class Refused(Exception):
    """A request that isn't served, in the words and the form of llama-server."""

    def __init__(self, message: str, code: int = 400, kind: str = "invalid_request_error", **extra: object) -> None:
        super().__init__(message)
        self.code = code
        self.body = {"error": {"code": code, "message": message, "type": kind, **extra}}


class Fields:
    """The fields of a request; null is as good as absent. Every reader raises ``Refused``."""

    def __init__(self, body: Mapping[str, object]) -> None:
        self.body = body

    def __contains__(self, name: str) -> bool:
        return self.body.get(name) is not None

    def flag(self, name: str, default: bool) -> bool:
        value = self.body[name] if name in self else default
        if not isinstance(value, bool):
            raise Refused(f"'{name}' must be true or false")
        return value

    def text(self, name: str, default: str) -> str:
        value = self.body[name] if name in self else default
        if not isinstance(value, str):
            raise Refused(f"'{name}' must be a text")
        return value

    def number(self, name: str, least: float, most: float, default: float) -> float:
        value = self.body[name] if name in self else default
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
            raise Refused(f"'{name}' must be a number between {least} and {most}, not {value!r}")
        return value

    def whole(self, name: str, least: int, most: int, default: int) -> int:
        return int(self.number(name, least, most, default))

    def wholes(self, name: str, least: int, most: int, default: list[int]) -> list[int]:
        value = self.body[name] if name in self else default
        if not isinstance(value, list) or any(type(one) is not int or not least <= one <= most for one in value):
            raise Refused(f"'{name}' must be a list of whole numbers between {least} and {most}")
        return value


def ask(fields: Fields, prompt: list[int], draft_max: int, has_draft: bool) -> Ask:
    """A request for a generation. ``draft_max``: draft tokens where it doesn't say."""
    kind = fields.text("speculative.type", KINDS[0])
    if kind not in KINDS:
        raise Refused(f"'speculative.type' must be one of {', '.join(KINDS)}, not {kind!r}")
    can_draft = has_draft or kind != KINDS[0]
    beams, kv_cache = fields.whole("n_beams", 1, MOST_BEAMS, 1), fields.flag("kv_cache", True)
    plain = beams > 1 or not kv_cache
    k = fields.whole("speculative.n_max", 0, MOST_DRAFT_TOKENS, draft_max if can_draft and not plain else 0)
    if k and plain:
        raise Refused("beam search and generation without a KV cache go without drafts: 'speculative.n_max' must be 0")
    if k and not can_draft:
        raise Refused("'speculative.n_max' needs a draft model (-md), or 'speculative.type': 'prompt-lookup'")
    limit = next((name for name in ("n_predict", "max_tokens", "max_completion_tokens") if name in fields), "n_predict")
    seed = fields.whole("seed", -1, 2**63, -1)
    return Ask(
        prompt=prompt,
        n_predict=fields.whole(limit, -1, 2**31, -1),
        shape=Shape(
            float(fields.number("temperature", 0, 1e3, Shape.temperature)),
            fields.whole("top_k", 0, 2**31, Shape.top_k),
            float(fields.number("top_p", 0, 1, Shape.top_p)),
        ),
        seed=seed if seed >= 0 else secrets.randbits(63),  # as llama-server: another text each time
        ignore_eos=fields.flag("ignore_eos", False),
        cache_prompt=fields.flag("cache_prompt", True),
        kv_cache=kv_cache,
        beams=beams,
        k=k,
        p_min=float(fields.number("speculative.p_min", 0, 1, 0)),
        kind=kind,
    )
