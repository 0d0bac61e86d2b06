"""Sampling of tokens from logits, independent of an engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Vector = Any
"""A numpy array of the vocabulary's length: float32 logits or float64 probabilities."""


@dataclass(frozen=True)
class SamplingParams:
    """How logits become the distribution that a token is drawn from.

    In llama.cpp's order: the ``top_k`` likeliest (0: all), of these the fewest that hold
    ``top_p`` of the probability (1: all), then the temperature (0: the likeliest alone).
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95

    @property
    def greedy(self) -> bool:
        return self.temperature <= 0

    def probabilities(self, logits: Vector) -> Vector:
        """float64, the length of ``logits``, sum 1."""
        logits = np.asarray(logits, dtype=np.float64)
        if self.greedy:
            return one_hot(int(np.argmax(logits)), len(logits))
        candidates = np.arange(len(logits))
        if 0 < self.top_k < len(logits):
            candidates = np.argpartition(-logits, self.top_k - 1)[: self.top_k]
        if self.top_p < 1:
            candidates = candidates[np.argsort(-logits[candidates], kind="stable")]
            cumulative = np.cumsum(softmax(logits[candidates]))
            candidates = candidates[: int(np.searchsorted(cumulative, self.top_p)) + 1]
        result = np.zeros(len(logits))
        # Shifted first: the smallest temperatures would make infinities of both.
        result[candidates] = softmax((logits[candidates] - logits[candidates].max()) / self.temperature)
        return result

    def choose(self, logits: Vector, rng: np.random.Generator) -> int:
        return int(np.argmax(logits)) if self.greedy else draw(self.probabilities(logits), rng)


def softmax(logits: Vector) -> Vector:
    powers = np.exp(np.asarray(logits, dtype=np.float64) - np.max(logits))
    return powers / powers.sum()


def log_softmax(logits: Vector) -> Vector:
    shifted = np.asarray(logits, dtype=np.float64) - np.max(logits)
    return shifted - np.log(np.exp(shifted).sum())


def one_hot(token: int, size: int) -> Vector:
    """The distribution that holds one token only."""
    result = np.zeros(size)
    result[token] = 1
    return result


def draw(probabilities: Vector, rng: np.random.Generator) -> int:
    cumulative = np.cumsum(probabilities)
    # `right` steps over tokens of probability 0; the last sum may be a rounding error below 1.
    return int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))


def verify_greedy(proposed: Sequence[int], choices: Sequence[int]) -> tuple[int, int]:
    """How many proposed tokens the target would have chosen itself, and its next token.

    ``choices`` are the target's own, one for each proposed token and one more.
    """
    accepted = 0
    while accepted < len(proposed) and proposed[accepted] == choices[accepted]:
        accepted += 1
    return accepted, choices[accepted]


def verify(
    proposed: Sequence[int],
    drafts: Sequence[Vector],
    target: Callable[[int], Vector],
    rng: np.random.Generator,
) -> tuple[int, int]:
    """How many proposed tokens to accept, and the token that follows them.

    ``drafts[i]`` is the distribution q that ``proposed[i]`` was drawn from, ``target(i)`` the
    target's p at that place, for i up to and with ``len(proposed)``. A token x is accepted with
    probability min(1, p(x)/q(x)); the first one refused is replaced by a draw from
    max(0, p - q), normalised. So every token is distributed as p, whatever q is: Leviathan,
    Kalman, Matias 2023 (arXiv 2211.17192), algorithm 1 and appendix A.1; Chen et al. 2023
    (arXiv 2302.01318), algorithm 2 and theorem 1.
    """
    for position, token in enumerate(proposed):
        p, q = target(position), drafts[position]
        if rng.random() * q[token] < p[token]:
            continue
        residual = np.maximum(p - q, 0)
        return position, draw(residual if residual.any() else p, rng)
    return len(proposed), draw(target(len(proposed)), rng)
