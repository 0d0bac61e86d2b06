"""Beam search. No engine: any ``Forest`` will do."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from .sampling import Vector, log_softmax
from .speculation import Ask, Tally


class Forest(Protocol):
    """A model that can follow several texts with a common beginning."""

    n_ctx: int

    def plant(self, text: Sequence[int], width: int) -> Vector:
        """Evaluate the common beginning; the logits after it."""

    def grow(self, branches: Sequence[tuple[int, int]]) -> Vector:
        """New texts, each an old one's number and its next token; the logits after each."""


def best(scores: Vector, log_probabilities: Vector, count: int) -> list[tuple[int, int, float]]:
    """The ``count`` best continuations as (beam, token, score), best first.

    ``scores``: log-likelihood of each beam, shape (beams,); ``log_probabilities``: of each next
    token, shape (beams, vocabulary). Equal ones come in the order of beam and token.
    """
    totals = (np.asarray(scores)[:, None] + log_probabilities).ravel()
    count = min(count, len(totals))
    least = np.partition(totals, -count)[-count]
    candidates = np.flatnonzero(totals >= least)
    order = candidates[np.argsort(-totals[candidates], kind="stable")][:count]
    size = log_probabilities.shape[1]
    return [(int(i) // size, int(i) % size, float(totals[i])) for i in order]


def search(target: Forest, ask: Ask, eog: Sequence[int], tally: Tally) -> list[int]:
    """The best text that beam search of width ``ask.beams`` finds, ended or at the limit.

    Texts are compared by their log-likelihood; where one of them has ended, by log-likelihood ÷
    length, as a longer text is always less likely. The search ends as soon as the best ended text
    is better than all that still grow.
    """
    rows = target.plant(ask.prompt, ask.beams)[None, :]
    tally.evaluated = len(ask.prompt)
    tally.read_at = time.perf_counter()
    growing: list[tuple[float, list[int]]] = [(0.0, [])]
    ended: list[tuple[float, list[int]]] = []
    room = (target.n_ctx - len(ask.prompt)) // ask.beams + 1
    limit = min(room, ask.n_predict) if ask.n_predict >= 0 else room
    for length in range(1, max(limit, 1) + 1):
        if ask.ignore_eos:
            rows[:, eog] = -np.inf
        likelihoods = np.array([log_softmax(row) for row in rows])
        branches: list[tuple[int, int, float]] = []
        for beam, token, score in best(np.array([score for score, _ in growing]), likelihoods, 2 * ask.beams):
            if token in eog:
                ended.append((score / length, [*growing[beam][1], token]))
            elif len(branches) < ask.beams:
                branches.append((beam, token, score))
        growing = [(score, [*growing[beam][1], token]) for beam, token, score in branches]
        tally.times.append(time.perf_counter())
        if not growing or length == limit or (ended and max(ended)[0] >= growing[0][0] / length):
            break
        rows = target.grow([(beam, token) for beam, token, _ in branches])
    found = max([*ended, *((score / len(text), text) for score, text in growing)])[1]
    tally.finish = "eos" if found[-1] in eog else "limit"
    # The text found may be shorter than the search was long: its tokens were known only at its end.
    tally.times = [*tally.times[: len(found) - 1], tally.times[-1]]
    return found
