"""Speculative generation, without an engine: tiny random models stand for target and draft."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgebench.servers.llama_cpp_python import beams
from edgebench.servers.llama_cpp_python.sampling import SamplingParams, draw, log_softmax
from edgebench.servers.llama_cpp_python.speculation import (
    Drafter,
    Generation,
    GenerationRequest,
    LookupDraft,
    ModelDraft,
    Tally,
)

pytestmark = pytest.mark.lab


class Tiny:
    """A random model of its last two tokens: a ``Decoder`` and a ``BeamDecoder`` that check their use."""

    def __init__(self, seed: int, vocabulary: int = 5, n_ctx: int = 64, like: Tiny | None = None) -> None:
        table = np.random.default_rng(seed).normal(0, 1.5, (vocabulary, vocabulary, vocabulary))
        self.table = table if like is None else like.table + 0.5 * table
        self.n_ctx, self.tokens, self.evaluated, self.n_vocab = n_ctx, list[int](), 0, vocabulary

    def after(self, text: Sequence[int]) -> np.ndarray:
        return np.array(self.table[text[-2] if len(text) > 1 else 0, text[-1]])

    def feed(self, tokens: Sequence[int], rows: int) -> np.ndarray:
        assert len(tokens) >= rows >= 1
        assert len(self.tokens) + len(tokens) <= self.n_ctx, "the memory is too small"
        assert all(0 <= token < self.n_vocab for token in tokens), "not a token of this model"
        self.evaluated += len(tokens)
        self.tokens.extend(tokens)
        end = len(self.tokens)
        return np.array([self.after(self.tokens[: end - rows + 1 + i]) for i in range(rows)])

    def keep(self, count: int) -> None:
        assert count >= 0
        del self.tokens[count:]

    def start_beams(self, text: Sequence[int], width: int) -> np.ndarray:
        self.texts, self.width = [list(text)], width
        return self.after(text)

    def extend_beams(self, branches: Sequence[tuple[int, int]]) -> np.ndarray:
        assert len(branches) <= self.width
        self.texts = [[*self.texts[beam], token] for beam, token in branches]
        return np.array([self.after(text) for text in self.texts])


def lookup() -> Callable[..., list[int]]:
    from llama_cpp.llama_speculative import LlamaPromptLookupDecoding  # not installed for the light tests

    found: Callable[..., list[int]] = LlamaPromptLookupDecoding.find_candidate_pred_tokens
    return found


def answer(
    target: Tiny, ask: GenerationRequest, draft: Tiny | None = None, eog: Sequence[int] = ()
) -> tuple[list[int], Tally]:
    tally = Tally()

    def drafter(rng: np.random.Generator) -> Drafter:
        if draft is None:
            return LookupDraft(lookup(), ask, list(eog), target.n_vocab)
        return ModelDraft(draft, ask, list(eog), target.n_vocab, rng)

    tokens = list(Generation(target, ask, list(eog), tally, drafter))
    assert len(tally.times) == len(tokens)
    assert tally.times == sorted(tally.times)
    assert sum(tally.accepted) <= sum(tally.proposed)
    return tokens, tally


def resized(model: Tiny, vocabulary: int) -> Tiny:
    """The same model with fewer tokens, or with further ones at the end that it likes best."""
    other = Tiny(0, vocabulary, model.n_ctx)
    both = slice(0, min(vocabulary, model.n_vocab))
    other.table[:] = 3
    other.table[both, both, both] = model.table[both, both, both]
    return other


GREEDY = SamplingParams(0.0)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 999),
    k=st.integers(1, 17),
    n_predict=st.integers(-1, 40),
    n_ctx=st.integers(4, 40),
    prompt=st.lists(st.integers(0, 4), min_size=1, max_size=4),
    eog=st.lists(st.integers(0, 4), max_size=2, unique=True),
    ignore_eos=st.booleans(),
    p_min=st.sampled_from([0.0, 0.5, 0.9]),
    lookup=st.booleans(),
    vocabulary=st.integers(3, 7),
)
def test_greedy_tokens_are_the_targets_own_for_every_k(
    seed: int,
    k: int,
    n_predict: int,
    n_ctx: int,
    prompt: list[int],
    eog: list[int],
    ignore_eos: bool,
    p_min: float,
    lookup: bool,
    vocabulary: int,
) -> None:
    target = Tiny(seed, n_ctx=n_ctx)
    draft = None if lookup else resized(Tiny(seed + 1, n_ctx=n_ctx, like=target), vocabulary)
    common = {"prompt": prompt, "n_predict": n_predict, "sampling": GREEDY, "ignore_eos": ignore_eos}
    alone, plain = answer(target, GenerationRequest(**common), eog=eog)  # type: ignore[arg-type]
    tokens, tally = answer(target, GenerationRequest(k=k, p_min=p_min, **common), draft, eog)  # type: ignore[arg-type]
    assert tokens == alone
    assert tally.finish == plain.finish
    assert not plain.proposed
    assert tally.steps + sum(tally.accepted) >= len(tokens) - 1
    assert len(tally.proposed) <= k


def test_the_context_is_filled_to_the_brim_and_not_beyond() -> None:
    for k in range(17):
        target = Tiny(3, n_ctx=20)
        tokens, tally = answer(
            target, GenerationRequest([1, 2, 3], sampling=GREEDY, k=k), Tiny(4, n_ctx=20, like=target)
        )
        assert len(tokens) == 18, "17 places after the prompt, and one token that needs none"
        assert tally.finish == "limit"
    smaller, tally = answer(
        Tiny(3, n_ctx=20), GenerationRequest([1, 2, 3], sampling=GREEDY, k=8), Tiny(4, n_ctx=9, like=Tiny(3))
    )
    assert smaller == tokens, "a draft with a smaller memory only stops helping"


def test_a_draft_is_never_longer_than_what_is_left() -> None:
    target = Tiny(5)
    for n_predict in (0, 1, 2, 3):
        tokens, tally = answer(target, GenerationRequest([1], n_predict, GREEDY, k=16), Tiny(5))
        assert len(tokens) == n_predict
        assert len(tally.proposed) <= max(0, n_predict - 2)


def test_an_end_of_text_inside_a_draft_ends_the_text_and_the_draft() -> None:
    target = Tiny(0)
    target.table[:] = 0
    for token in range(5):
        target.table[:, token, (token + 1) % 5] = 9  # 1, 2, 3, 4 …
    tokens, tally = answer(target, GenerationRequest([0], sampling=GREEDY, k=16), target_copy(target), eog=[4])
    assert tokens == [1, 2, 3, 4]
    assert tally.finish == "eos"
    assert (sum(tally.proposed), sum(tally.accepted)) == (3, 3), "nothing is proposed after the end"
    on, _ = answer(target, GenerationRequest([0], 9, GREEDY, k=16, ignore_eos=True), target_copy(target), eog=[4])
    assert 4 not in on
    assert len(on) == 9


def test_a_text_looked_up_is_proposed_up_to_its_end() -> None:
    text, find = [1, 2, 3, 4, 1, 2], lookup()
    ask = GenerationRequest(text, sampling=GREEDY, k=4)
    assert LookupDraft(find, ask, [], 5).propose(text, 4)[0] == [3, 4, 1, 2]
    assert LookupDraft(find, ask, [4], 5).propose(text, 4)[0] == [3, 4]
    assert LookupDraft(find, replace(ask, ignore_eos=True), [4], 5).propose(text, 4)[0] == [3]


def target_copy(target: Tiny) -> Tiny:
    copy = Tiny(0, len(target.table), target.n_ctx)
    copy.table = target.table
    return copy


def test_the_draft_of_a_twin_is_accepted_whole() -> None:
    target = Tiny(6)
    twin = target_copy(target)
    _, tally = answer(target, GenerationRequest([1, 2], 21, GREEDY, k=4), twin)
    assert tally.proposed == tally.accepted == [4, 4, 4, 4]
    assert tally.steps == 4
    # A draft of 4 takes 4 evaluations, and 5 where the last one of the draft before was not read yet.
    assert tally.draft_evaluated == twin.evaluated - len([1, 2]) == 4 + 3 * 5


def test_the_cache_is_used_as_asked() -> None:
    target = Tiny(7)
    first, _ = answer(target, GenerationRequest([1, 2, 3], 5, GREEDY))
    again, tally = answer(target, GenerationRequest([1, 2, 3], 5, GREEDY))
    assert (first, tally.cached, tally.evaluated) == (again, 2, 1)
    _, tally = answer(target, GenerationRequest([1, 2, 3], 5, GREEDY, cache_prompt=False))
    assert (tally.cached, tally.evaluated) == (0, 3)


def test_without_a_kv_cache_the_tokens_are_the_same_and_everything_is_evaluated_again() -> None:
    target = Tiny(8)
    with_cache, _ = answer(target, GenerationRequest([1, 2, 3], 10, GREEDY, cache_prompt=False))
    target.evaluated = 0
    without, _ = answer(target, GenerationRequest([1, 2, 3], 10, GREEDY, cache_prompt=False, kv_cache=False))
    assert without == with_cache
    assert target.evaluated == sum(range(3, 13))


# --- the sampled distribution ----------------------------------------------------------------


def chi_square(counts: np.ndarray, expected: np.ndarray) -> float:
    """Pearson's statistic as a standard normal deviate (Wilson and Hilferty 1931).

    Cells that are expected fewer than 5 times are taken together.
    """
    small = expected < 5
    if small.any():
        counts = np.append(counts[~small], counts[small].sum())
        expected = np.append(expected[~small], expected[small].sum())
    kept = expected > 0
    assert counts[~kept].sum() == 0, "something impossible was sampled"
    degrees = int(kept.sum()) - 1
    statistic = float(((counts[kept] - expected[kept]) ** 2 / expected[kept]).sum())
    return ((statistic / degrees) ** (1 / 3) - (1 - 2 / (9 * degrees))) / (2 / (9 * degrees)) ** 0.5


LIMIT = 3.09
"""One-sided, alpha = 0.001; the seeds are fixed, so the verdict is too."""

LENGTH, TEXTS = 3, 6000


def deviate(make: Callable[[int], list[int]], target: Tiny, shape: SamplingParams, prompt: list[int]) -> float:
    """How far the texts that ``make`` gives for seeds 0, 1, 2 … are from the target's distribution."""
    size = len(target.table)
    expected = np.zeros((size,) * LENGTH)
    for text in itertools.product(range(size), repeat=LENGTH):
        chance, seen = 1.0, list(prompt)
        for token in text:
            chance *= shape.probabilities(target.after(seen))[token]
            seen.append(token)
        expected[text] = chance
    counts = np.zeros_like(expected)
    for seed in range(TEXTS):
        counts[tuple(make(seed))] += 1
    return chi_square(counts.ravel(), expected.ravel() * TEXTS)


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize(
    ("shape", "p_min", "vocabulary"),
    [
        (SamplingParams(1.0, 0, 1.0), 0.0, 4),
        (SamplingParams(0.6, 3, 0.9), 0.0, 4),
        (SamplingParams(1.0, 0, 1.0), 0.55, 4),
        (SamplingParams(1.0, 0, 1.0), 0.0, 0),
        (SamplingParams(0.8, 0, 0.95), 0.0, 6),
        (SamplingParams(0.8, 0, 0.95), 0.0, 3),
    ],
    ids=["plain", "shaped", "adaptive", "lookup", "draft with more tokens", "draft with fewer tokens"],
)
def test_sampled_texts_are_distributed_as_the_targets(
    k: int, shape: SamplingParams, p_min: float, vocabulary: int
) -> None:
    lookup = vocabulary == 0
    target = Tiny(11, vocabulary=4)
    draft = None if lookup else resized(Tiny(12, vocabulary=4, like=target), vocabulary)
    prompt = [1, 2, 1, 2, 1] if lookup else [1, 2]

    def make(seed: int) -> list[int]:
        return answer(target, GenerationRequest(prompt, LENGTH, shape, seed, k=k, p_min=p_min), draft)[0]

    assert deviate(make, target, shape, prompt) < LIMIT


def test_that_test_sees_a_draft_that_is_dropped_because_of_its_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tempting, wrong adaptive stop: it must not pass the test above."""
    target = Tiny(11, vocabulary=4)
    draft = Tiny(12, vocabulary=4, like=target)
    shape = SamplingParams(1.0, 0, 1.0)

    class Dropping(ModelDraft):
        def propose(self, text: Sequence[int], most: int) -> tuple[list[int], list[np.ndarray]]:
            tokens, drawn_from = super().propose(text, most)
            sure = [q[token] >= 0.55 for token, q in zip(tokens, drawn_from, strict=True)]
            kept = sure.index(False) if False in sure else len(sure)
            return tokens[:kept], drawn_from[:kept]

    def make(seed: int) -> list[int]:
        ask = GenerationRequest([1, 2], LENGTH, shape, seed, k=2)
        return list(Generation(target, ask, [], Tally(), lambda rng: Dropping(draft, ask, [], 4, rng)))

    assert deviate(make, target, shape, [1, 2]) > LIMIT


# --- beam search -----------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 999), st.integers(1, 5))
def test_a_beam_as_wide_as_the_tree_finds_the_likeliest_text(seed: int, length: int) -> None:
    target = Tiny(seed, vocabulary=3, n_ctx=10_000)
    tally = Tally()
    found = beams.search(target, GenerationRequest([1], length, beams=3**length), [], tally)

    def likelihood(text: Sequence[int]) -> float:
        seen, total = [1], 0.0
        for token in text:
            total += log_softmax(target.after(seen))[token]
            seen.append(token)
        return total

    every = itertools.product(range(3), repeat=length)
    assert likelihood(found) == pytest.approx(max(likelihood(text) for text in every))
    assert len(tally.times) == len(found) == length


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 999), st.integers(1, 4), st.lists(st.integers(0, 4), max_size=2, unique=True))
def test_beam_search_ends_at_an_end_or_at_the_limit(seed: int, width: int, eog: list[int]) -> None:
    target, tally = Tiny(seed, n_ctx=40), Tally()
    found = beams.search(target, GenerationRequest([1, 2], -1, beams=width), eog, tally)
    assert all(token not in eog for token in found[:-1])
    assert tally.finish == ("eos" if found[-1] in eog else "limit")
    assert len(found) <= 38 // width + 1


def test_a_beam_of_one_is_greedy() -> None:
    target = Tiny(2)
    greedy, _ = answer(target, GenerationRequest([1], 12, GREEDY))
    assert beams.search(target, GenerationRequest([1], 12, beams=1), [], Tally()) == greedy


def test_drawing_is_repeatable_by_its_seed() -> None:
    target = Tiny(9)
    ask = GenerationRequest([1], 20, SamplingParams(1.0, 0, 1.0), seed=5, k=3)
    draft = Tiny(10, like=target)
    assert answer(target, ask, draft)[0] == answer(target, ask, draft)[0]
    assert draw(np.array([0.0, 1.0]), np.random.default_rng(0)) == 1
