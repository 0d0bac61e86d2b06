"""The forms of llama-server's answers."""

from __future__ import annotations

import time
from collections.abc import Sequence

from .questions import App
from .requests import Fields
from .speculation import Ask, Tally

Made = tuple[int, str]
"""A generated token and the characters it completes."""


def timings(tally: Tally, count: int) -> dict[str, object]:
    """llama-server's ``timings`` after ``count`` tokens: generation counts from the first to the last."""
    read_ms = (tally.read_at - tally.started) * 1e3
    made_ms = (tally.times[count - 1] - tally.times[0]) * 1e3 if count else 0.0
    result: dict[str, object] = {
        "cache_n": tally.cached,
        "prompt_n": tally.evaluated,
        "prompt_ms": read_ms,
        "prompt_per_token_ms": read_ms / tally.evaluated,
        "prompt_per_second": tally.evaluated / read_ms * 1e3,
        "predicted_n": count,
        "predicted_ms": made_ms,
    }
    if made_ms > 0:
        result["predicted_per_token_ms"] = made_ms / (count - 1)
        result["predicted_per_second"] = (count - 1) / made_ms * 1e3
    if tally.proposed:
        result["draft_n"], result["draft_n_accepted"] = sum(tally.proposed), sum(tally.accepted)
    return result


class Completion:
    """How ``/completion`` answers."""

    def __init__(self, app: App, fields: Fields, ask: Ask, tally: Tally) -> None:
        self.app, self.ask, self.tally = app, ask, tally
        self.with_timings = fields.flag("timings_per_token", False)
        self.with_tokens = fields.flag("return_tokens", False)

    def start(self) -> list[object]:
        return []

    def so_far(self, count: int) -> dict[str, object]:
        return {"timings": timings(self.tally, count)} if self.with_timings else {}

    def part(self, made: Made, count: int) -> dict[str, object]:
        """The chunk of one token, the answer's ``count``-th."""
        return {
            "index": 0,
            "content": made[1],
            "tokens": [made[0]],
            "stop": False,
            "id_slot": 0,
            "tokens_predicted": count,
            "tokens_evaluated": len(self.ask.prompt),
            **self.so_far(count),
        }

    def figures(self) -> dict[str, object]:
        """What every last chunk holds."""
        ask, tally = self.ask, self.tally
        result: dict[str, object] = {"timings": timings(tally, len(tally.times))}
        if ask.k:
            result["speculative"] = {
                "type": ask.kind,
                "n_max": ask.k,
                "steps": tally.steps,
                "proposed_by_position": tally.proposed,
                "accepted_by_position": tally.accepted,
                "draft_evaluated": tally.draft_evaluated,
                "draft_ms": tally.draft_s * 1e3,
                "verify_ms": tally.verify_s * 1e3,
            }
        return result

    def end(self) -> list[object]:
        return [self.whole([])]

    def whole(self, made: Sequence[Made]) -> dict[str, object]:
        return {
            "index": 0,
            "content": "".join(text for _, text in made),
            "tokens": [token for token, _ in made] if self.with_tokens else [],
            "id_slot": 0,
            "stop": True,
            "model": self.app.model.path,
            "tokens_predicted": len(self.tally.times),
            "tokens_evaluated": len(self.ask.prompt),
            "tokens_cached": len(self.app.model.tokens),
            "truncated": False,
            "stop_type": self.tally.finish,
            "stopping_word": "",
            **self.figures(),
        }


class Chat(Completion):
    """How ``/v1/chat/completions`` answers; with ``return_tokens`` also the tokens' ids."""

    def frame(self, choice: dict[str, object], kind: str = "chat.completion.chunk") -> dict[str, object]:
        return {
            "choices": [{"index": 0, "finish_reason": None, **choice}],
            "created": int(time.time()),
            "id": f"chatcmpl-{id(self.tally):x}",
            "model": self.app.model.path,
            "system_fingerprint": self.app.build,
            "object": kind,
        }

    def start(self) -> list[object]:
        return [self.frame({"delta": {"role": "assistant", "content": None}})]

    def part(self, made: Made, count: int) -> dict[str, object]:
        ids = {"tokens": [made[0]]} if self.with_tokens else {}
        return {**self.frame({"delta": {"content": made[1]}}), **ids, **self.so_far(count)}

    def figures(self) -> dict[str, object]:
        prompt, made = len(self.ask.prompt), len(self.tally.times)
        usage = {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made}
        return {"usage": usage, **super().figures()}

    def finish(self) -> str:
        return "stop" if self.tally.finish == "eos" else "length"

    def end(self) -> list[object]:
        return [{**self.frame({"delta": {}, "finish_reason": self.finish()}), **self.figures()}, b"[DONE]"]

    def whole(self, made: Sequence[Made]) -> dict[str, object]:
        message = {"role": "assistant", "content": "".join(text for _, text in made)}
        frame = self.frame({"message": message, "finish_reason": self.finish()}, "chat.completion")
        return {**frame, **({"tokens": [token for token, _ in made]} if self.with_tokens else {}), **self.figures()}
