"""Where two greedy texts of one model part: at a numerical tie, or by a fault.

Evaluating tokens one by one and several at once sums the same products in another order, so
logits differ in their last digits. Where the two likeliest tokens are closer than that, either
may win, and from there on the texts differ. Nothing else may part them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgebench.core import Client, Json
from edgebench.errors import EngineFailed

MOST_NOISE = 0.5
"""Logits that differ by more than this between the two ways are no rounding error."""

PLACES = 17
"""How many places before the parting are compared: the most that are verified at once."""


@dataclass(frozen=True)
class Divergence:
    """The first place where two texts differ."""

    position: int
    """Generated tokens that are equal."""
    gap: float
    """Between the logits of the two tokens under the target, evaluated one by one."""
    noise: float
    """The largest difference between a logit of the two ways there, among the likeliest tokens."""

    @property
    def tie(self) -> bool:
        """Whether rounding can explain it: each of the two logits may be off by the noise."""
        return self.gap <= 2 * self.noise and self.noise <= MOST_NOISE


def divergence(client: Client, prompt: Sequence[int], one: Sequence[int], other: Sequence[int]) -> Divergence | None:
    """None where the texts are equal. Raises ``EngineFailed``."""
    equal = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    if equal == len(one) == len(other):
        return None
    if equal in (len(one), len(other)):
        return Divergence(equal, float("inf"), 0.0)
    text = [*prompt, *one[:equal]]
    asked = {"prompt": text, "last": min(PLACES, len(text)), "top": 5, "of": [one[equal], other[equal]]}
    single, at_once = (_logits(client, {**asked, "single": way}) for way in (True, False))
    noise = max(_difference(a, b) for a, b in zip(single, at_once, strict=True))
    first, second = single[-1]["of"]
    return Divergence(equal, abs(first - second), noise)


def _logits(client: Client, asked: dict[str, Json]) -> list[dict[str, Json]]:
    status, found = client.post("/edgebench/logits", asked)
    if status != 200 or not isinstance(found, dict):
        raise EngineFailed(f"/edgebench/logits answered {status}: {str(found)[:300]}")
    logits: list[dict[str, Json]] = found["logits"]
    return logits


def _difference(one: dict[str, Json], other: dict[str, Json]) -> float:
    """Largest difference of a logit that both hold."""
    there = dict(map(tuple, other["top"]))
    pairs = [(logit, there[token]) for token, logit in one["top"] if token in there]
    return float(max(abs(a - b) for a, b in [*pairs, *zip(one["of"], other["of"], strict=True)]))
