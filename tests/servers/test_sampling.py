"""The maths of sampling in the llama-cpp-python server: pure functions of logits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgebench.servers.llama_cpp_python.beams import top_continuations
from edgebench.servers.llama_cpp_python.sampling import (
    SamplingParams,
    draw,
    log_softmax,
    one_hot,
    softmax,
    verify,
    verify_greedy,
)

logits = hnp.arrays(np.float32, st.integers(1, 60), elements=st.floats(-30, 30, width=32))
shapes = st.builds(
    SamplingParams,
    st.sampled_from([0.0, 0.01, 0.5, 1.0, 2.0, 50.0]),
    st.integers(0, 70),
    st.floats(0, 1, allow_nan=False),
)


@given(logits, shapes)
def test_probabilities_are_a_distribution_over_the_whole_vocabulary(row: np.ndarray, shape: SamplingParams) -> None:
    p = shape.probabilities(row)
    assert p.shape == row.shape
    assert (p >= 0).all()
    assert p.sum() == pytest.approx(1)


@given(logits, st.integers(1, 70))
def test_top_k_keeps_the_k_likeliest(row: np.ndarray, k: int) -> None:
    p = SamplingParams(1.0, k, 1.0).probabilities(row)
    kept = p > 0
    assert kept.sum() <= min(k, len(row))
    if kept.sum() == min(k, len(row)) and not kept.all():
        assert row[kept].min() >= row[~kept].max()


@given(logits, st.floats(0.01, 0.999))
def test_top_p_keeps_the_fewest_likeliest_that_hold_p(row: np.ndarray, top_p: float) -> None:
    full, p = softmax(row), SamplingParams(1.0, 0, top_p).probabilities(row)
    kept = np.sort(full[p > 0])
    assert kept.sum() >= top_p - 1e-9
    assert kept[1:].sum() < top_p + 1e-9, "without its least likely token it would be too little"


def test_top_p_is_taken_before_the_temperature() -> None:
    row = np.log(np.array([0.6, 0.3, 0.1]))
    assert SamplingParams(100.0, 0, 0.5).probabilities(row).tolist() == [1, 0, 0]


@given(logits, st.sampled_from([(0.2, 0.7), (0.7, 1.0), (1.0, 3.0)]))
def test_a_higher_temperature_is_never_more_certain(row: np.ndarray, pair: tuple[float, float]) -> None:
    cold, warm = (SamplingParams(t, 0, 1.0).probabilities(row).max() for t in pair)
    assert warm <= cold + 1e-9


@given(logits)
def test_temperature_0_is_the_likeliest_token_and_the_first_of_equals(row: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    assert SamplingParams(0.0).choose(row, rng) == int(np.flatnonzero(row == row.max())[0])
    assert SamplingParams(0.0).probabilities(row).tolist() == one_hot(int(np.argmax(row)), len(row)).tolist()


@given(logits)
def test_log_softmax_is_the_logarithm_of_softmax(row: np.ndarray) -> None:
    np.testing.assert_allclose(np.exp(log_softmax(row)), softmax(row), atol=1e-12)


@given(hnp.arrays(np.float64, st.integers(2, 20), elements=st.sampled_from([0.0, 0.0, 1.0, 3.0])), st.integers(0, 9))
def test_what_has_no_probability_is_never_drawn(weights: np.ndarray, seed: int) -> None:
    weights[-1 if seed % 2 else 0] = 1
    rng = np.random.default_rng(seed)
    assert all(weights[draw(weights, rng)] > 0 for _ in range(50))


@given(st.lists(st.integers(0, 3), max_size=6), st.lists(st.integers(0, 3), min_size=7, max_size=7))
def test_greedy_verification_is_the_common_beginning_and_the_targets_next(
    proposed: list[int], choices: list[int]
) -> None:
    accepted, token = verify_greedy(proposed, choices)
    assert proposed[:accepted] == choices[:accepted]
    assert token == choices[accepted]
    assert accepted == len(proposed) or proposed[accepted] != token


def exactly(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """What one step of rejection sampling yields, summed up over all cases by ``verify`` itself.

    The random numbers are put in by hand: each token of q, each decision, explain_divergence by its chance.
    """

    class Fixed:
        def __init__(self, *values: float) -> None:
            self.values = list(values)

        def random(self) -> float:
            return self.values.pop(0)

    result = np.zeros(len(p))
    grid = (np.arange(400) + 0.5) / 400
    for x in np.flatnonzero(q > 0):
        accepted = min(1.0, p[x] / q[x])
        result[x] += q[x] * accepted
        refused = 1 - accepted
        if refused > 1e-12:
            for u in grid:
                decision = (accepted + 1) / 2
                _, token = verify([int(x)], [q], lambda _: p, Fixed(decision, float(u)))  # type: ignore[arg-type]
                result[token] += q[x] * refused / len(grid)
    return result


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6))
def test_one_step_of_rejection_sampling_is_distributed_as_the_target(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    p, q = rng.dirichlet(np.full(size, 0.5)), rng.dirichlet(np.full(size, 0.5))
    np.testing.assert_allclose(exactly(p, q), p, atol=size / 400)


def test_a_draft_equal_to_the_target_is_always_accepted() -> None:
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.ones(5))
    for _ in range(200):
        x = draw(p, rng)
        assert verify([x], [p], lambda _: p, rng)[0] == 1


@given(st.integers(1, 4), st.integers(2, 9), st.integers(1, 12), st.integers(0, 99))
def test_best_beams_are_those_that_a_full_sort_finds(beams: int, size: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, rows = rng.integers(-3, 0, beams).astype(float), rng.integers(-4, 0, (beams, size)).astype(float)
    every = [(b, t, scores[b] + rows[b, t]) for b in range(beams) for t in range(size)]
    assert top_continuations(scores, rows, count) == sorted(every, key=lambda found: -found[2])[:count]
