"""Responses in the format of llama-server."""

from __future__ import annotations

import time
from collections.abc import Sequence

from .app import App
from .requests import Fields
from .speculation import GenerationRequest, Tally

GeneratedToken = tuple[int, str]
"""A generated token and the characters it completes."""


def timings(tally: Tally, count: int) -> dict[str, object]:
    """llama-server's ``timings`` after ``count`` tokens: generation counts from the first to the last."""
    prompt_ms = (tally.read_at - tally.started) * 1e3
    generation_ms = (tally.times[count - 1] - tally.times[0]) * 1e3 if count else 0.0
    result: dict[str, object] = {
        "cache_n": tally.cached,
        "prompt_n": tally.evaluated,
        "prompt_ms": prompt_ms,
        "prompt_per_token_ms": prompt_ms / tally.evaluated,
        "prompt_per_second": tally.evaluated / prompt_ms * 1e3,
        "predicted_n": count,
        "predicted_ms": generation_ms,
    }
    if generation_ms > 0:
        result["predicted_per_token_ms"] = generation_ms / (count - 1)
        result["predicted_per_second"] = (count - 1) / generation_ms * 1e3
    if tally.proposed:
        result["draft_n"], result["draft_n_accepted"] = sum(tally.proposed), sum(tally.accepted)
    return result


class Completion:
    """Responses of ``/completion``."""

    def __init__(self, app: App, fields: Fields, request: GenerationRequest, tally: Tally) -> None:
        self.app, self.request, self.tally = app, request, tally
        self.with_timings = fields.flag("timings_per_token", False)
        self.with_tokens = fields.flag("return_tokens", False)

    def start(self) -> list[object]:
        return []

    def progress(self, count: int) -> dict[str, object]:
        return {"timings": timings(self.tally, count)} if self.with_timings else {}

    def chunk(self, generated: GeneratedToken, count: int) -> dict[str, object]:
        """The chunk of one token, the response's ``count``-th."""
        return {
            "index": 0,
            "content": generated[1],
            "tokens": [generated[0]],
            "stop": False,
            "id_slot": 0,
            "tokens_predicted": count,
            "tokens_evaluated": len(self.request.prompt),
            **self.progress(count),
        }

    def summary(self) -> dict[str, object]:
        """Fields of every last chunk."""
        request, tally = self.request, self.tally
        result: dict[str, object] = {"timings": timings(tally, len(tally.times))}
        if request.k:
            result["speculative"] = {
                "type": request.kind,
                "n_max": request.k,
                "steps": tally.steps,
                "proposed_by_position": tally.proposed,
                "accepted_by_position": tally.accepted,
                "draft_evaluated": tally.draft_evaluated,
                "draft_ms": tally.draft_s * 1e3,
                "verify_ms": tally.verify_s * 1e3,
            }
        return result

    def end(self) -> list[object]:
        return [self.complete([])]

    def complete(self, generated: Sequence[GeneratedToken]) -> dict[str, object]:
        return {
            "index": 0,
            "content": "".join(text for _, text in generated),
            "tokens": [token for token, _ in generated] if self.with_tokens else [],
            "id_slot": 0,
            "stop": True,
            "model": self.app.model.path,
            "tokens_predicted": len(self.tally.times),
            "tokens_evaluated": len(self.request.prompt),
            "tokens_cached": len(self.app.model.tokens),
            "truncated": False,
            "stop_type": self.tally.finish,
            "stopping_word": "",
            **self.summary(),
        }


class Chat(Completion):
    """Responses of ``/v1/chat/completions``; with ``return_tokens`` they include token IDs."""

    def frame(self, choice: dict[str, object], object_type: str = "chat.completion.chunk") -> dict[str, object]:
        return {
            "choices": [{"index": 0, "finish_reason": None, **choice}],
            "created": int(time.time()),
            "id": f"chatcmpl-{id(self.tally):x}",
            "model": self.app.model.path,
            "system_fingerprint": self.app.build,
            "object": object_type,
        }

    def start(self) -> list[object]:
        return [self.frame({"delta": {"role": "assistant", "content": None}})]

    def chunk(self, generated: GeneratedToken, count: int) -> dict[str, object]:
        ids = {"tokens": [generated[0]]} if self.with_tokens else {}
        return {**self.frame({"delta": {"content": generated[1]}}), **ids, **self.progress(count)}

    def summary(self) -> dict[str, object]:
        prompt, generated = len(self.request.prompt), len(self.tally.times)
        usage = {"prompt_tokens": prompt, "completion_tokens": generated, "total_tokens": prompt + generated}
        return {"usage": usage, **super().summary()}

    def finish(self) -> str:
        return "stop" if self.tally.finish == "eos" else "length"

    def end(self) -> list[object]:
        return [{**self.frame({"delta": {}, "finish_reason": self.finish()}), **self.summary()}, b"[DONE]"]

    def complete(self, generated: Sequence[GeneratedToken]) -> dict[str, object]:
        message = {"role": "assistant", "content": "".join(text for _, text in generated)}
        frame = self.frame({"message": message, "finish_reason": self.finish()}, "chat.completion")
        return {
            **frame,
            **({"tokens": [token for token, _ in generated]} if self.with_tokens else {}),
            **self.summary(),
        }
