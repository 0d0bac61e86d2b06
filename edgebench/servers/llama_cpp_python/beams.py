"""Beam search with any ``BeamDecoder``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from .sampling import Vector, log_softmax
from .speculation import GenerationRequest, Tally


class BeamDecoder(Protocol):
    """A model that can continue several texts with a common prefix."""

    n_ctx: int

    def start_beams(self, text: Sequence[int], width: int) -> Vector:
        """Evaluate the common prefix; returns the logits after it."""

    def extend_beams(self, branches: Sequence[tuple[int, int]]) -> Vector:
        """New texts, each an old one's number and its next token; the logits after each."""


def top_continuations(scores: Vector, log_probabilities: Vector, count: int) -> list[tuple[int, int, float]]:
    """The ``count`` best continuations as (beam, token, score), best first.

    ``scores``: log-likelihood of each beam, shape (beams,); ``log_probabilities``: of each next
    token, shape (beams, vocabulary). Equal ones come in the order of beam and token.
    """
    totals = (np.asarray(scores)[:, None] + log_probabilities).ravel()
    count = min(count, len(totals))
    threshold = np.partition(totals, -count)[-count]
    candidates = np.flatnonzero(totals >= threshold)
    order = candidates[np.argsort(-totals[candidates], kind="stable")][:count]
    size = log_probabilities.shape[1]
    return [(int(index) // size, int(index) % size, float(totals[index])) for index in order]


def search(target: BeamDecoder, request: GenerationRequest, eog: Sequence[int], tally: Tally) -> list[int]:
    """The best text that beam search of width ``ask.beams`` finds, ended or at the limit.

    Texts are compared by their log-likelihood; where one of them has ended, by log-likelihood ÷
    length, as a longer text is always less likely. The search ends as soon as the best ended text
    is better than all that still grow.
    """
    rows = target.start_beams(request.prompt, request.beams)[None, :]
    tally.evaluated = len(request.prompt)
    tally.read_at = time.perf_counter()
    growing: list[tuple[float, list[int]]] = [(0.0, [])]
    ended: list[tuple[float, list[int]]] = []
    capacity = (target.n_ctx - len(request.prompt)) // request.beams + 1
    limit = min(capacity, request.n_predict) if request.n_predict >= 0 else capacity
    for length in range(1, max(limit, 1) + 1):
        if request.ignore_eos:
            rows[:, eog] = -np.inf
        likelihoods = np.array([log_softmax(row) for row in rows])
        branches: list[tuple[int, int, float]] = []
        for beam, token, score in top_continuations(
            np.array([score for score, _ in growing]), likelihoods, 2 * request.beams
        ):
            if token in eog:
                ended.append((score / length, [*growing[beam][1], token]))
            elif len(branches) < request.beams:
                branches.append((beam, token, score))
        growing = [(score, [*growing[beam][1], token]) for beam, token, score in branches]
        tally.times.append(time.perf_counter())
        if not growing or length == limit or (ended and max(ended)[0] >= growing[0][0] / length):
            break
        rows = target.extend_beams([(beam, token) for beam, token, _ in branches])
    best_text = max([*ended, *((score / len(text), text) for score, text in growing)])[1]
    tally.finish = "eos" if best_text[-1] in eog else "limit"
    # The text found may be shorter than the search was long: its tokens were known only at its end.
    tally.times = [*tally.times[: len(best_text) - 1], tally.times[-1]]
    return best_text
