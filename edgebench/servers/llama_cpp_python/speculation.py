"""Generation with or without a draft, for any ``Decoder``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from .sampling import SamplingParams, Vector, draw, one_hot, softmax, verify, verify_greedy


class Decoder(Protocol):
    """A model with the text that its memory holds."""

    @property
    def tokens(self) -> list[int]: ...

    @property
    def n_ctx(self) -> int: ...

    @property
    def n_vocab(self) -> int: ...

    def feed(self, tokens: Sequence[int], rows: int) -> Vector:
        """Append tokens; the logits after each of the last ``rows``, shape (rows, vocabulary).

        The array may be changed, and is valid until the next call.
        """

    def keep(self, count: int) -> None:
        """Remove all but the first ``count`` tokens; all of them if the model is recurrent."""


class Drafter(Protocol):
    """Proposes draft tokens."""

    evaluated: int
    """Tokens evaluated for that, without the prompt's."""

    def start(self, text: Sequence[int]) -> None:
        """Read the prompt."""

    def propose(self, text: Sequence[int], limit: int) -> tuple[list[int], list[Vector]]:
        """Up to ``maximum`` next tokens, and the distribution that each was drawn from (not needed
        where the target is greedy)."""


@dataclass(frozen=True)
class GenerationRequest:
    """A validated request."""

    prompt: Sequence[int]
    n_predict: int = -1
    """-1: as many as the context holds."""
    sampling: SamplingParams = field(default_factory=SamplingParams)
    seed: int = 0
    ignore_eos: bool = False
    cache_prompt: bool = True
    kv_cache: bool = True
    beams: int = 1
    k: int = 0
    p_min: float = 0.0
    kind: str = "draft-simple"


@dataclass
class Tally:
    """What a generation has done so far, with its times by ``time.perf_counter()``."""

    started: float = field(default_factory=time.perf_counter)
    cached: int = 0
    evaluated: int = 0
    read_at: float = 0.0
    """When the prompt was read and the first token known."""
    times: list[float] = field(default_factory=list)
    """When each generated token was known."""
    finish: str = ""
    """``eos`` or ``limit``."""
    steps: int = 0
    """Verifications."""
    proposed: list[int] = field(default_factory=list)
    """By position in the draft: how many tokens were proposed, and accepted."""
    accepted: list[int] = field(default_factory=list)
    draft_evaluated: int = 0
    """Tokens that the draft evaluated: those that it proposed, but not the last of a draft; that one
    together with the target's next where it was accepted; and the unsure one that ended a draft."""
    draft_s: float = 0.0
    verify_s: float = 0.0

    def step(self, proposed: int, accepted: int) -> None:
        self.steps += 1
        for counts, count in ((self.proposed, proposed), (self.accepted, accepted)):
            counts.extend([0] * (proposed - len(counts)))
            for position in range(count):
                counts[position] += 1


def common_prefix_length(first: Sequence[int], second: Sequence[int], start: int = 0) -> int:
    """Length of the common prefix, of which ``start`` tokens are known to be equal."""
    limit = min(len(first), len(second))
    while start < limit and first[start] == second[start]:
        start += 1
    return start


def evaluate_text(decoder: Decoder, text: Sequence[int], reuse: bool) -> tuple[Vector, int]:
    """Make a decoder hold ``text``: the logits after it, and how many tokens it held already."""
    # The last token is always evaluated: its logits are what is wanted.
    n_reused = min(common_prefix_length(decoder.tokens, text), len(text) - 1) if reuse else 0
    decoder.keep(n_reused)
    n_reused = len(decoder.tokens)
    return decoder.feed(text[n_reused:], 1)[0], n_reused


class ModelDraft:
    """Tokens drawn from a smaller model whose vocabulary is the target's, but for some tokens at the end.

    ``p_min`` ends a draft early where that model is unsure: its likeliest token has less
    probability. This looks at the distribution only, never at the token drawn: to drop a token
    because of what it is would bend the target's distribution.
    """

    def __init__(
        self, model: Decoder, request: GenerationRequest, eog: Sequence[int], vocabulary: int, rng: np.random.Generator
    ) -> None:
        """``vocabulary``: tokens of the target, such as the 32,000 of Code Llama 34B beside the 32,016 of its 7B."""
        self.model, self.request, self.vocabulary, self.rng = model, request, vocabulary, rng
        self.n_shared_vocabulary = min(vocabulary, model.n_vocab)
        """Only these can be proposed and read by both."""
        self.eog = [token for token in eog if token < self.n_shared_vocabulary]
        self.n_common = self.evaluated = 0
        """``n_common``: tokens known to be equal in the model's memory and in the text."""

    def start(self, text: Sequence[int]) -> None:
        if max(text) < self.n_shared_vocabulary:
            evaluate_text(self.model, text, self.request.cache_prompt)
            self.n_common = len(text)

    def propose(self, text: Sequence[int], limit: int) -> tuple[list[int], list[Vector]]:
        model, sampling = self.model, self.request.sampling
        model.keep(min(common_prefix_length(model.tokens, text, self.n_common), len(text) - 1))
        self.n_common = len(model.tokens)
        limit = min(limit, model.n_ctx - len(text) + 1)
        new_tokens = list(text[self.n_common :])
        tokens: list[int] = []
        distributions: list[Vector] = []
        if max(new_tokens) >= self.n_shared_vocabulary:  # a token that only the target knows: from here on it is alone
            return tokens, distributions
        while len(tokens) < limit and not (tokens and tokens[-1] in self.eog):
            logits = model.feed(new_tokens, 1)[0][: self.n_shared_vocabulary]
            self.evaluated += len(new_tokens)
            if self.request.ignore_eos:
                logits[self.eog] = -np.inf
            if self.request.p_min > 0 and softmax(logits).max() < self.request.p_min:
                break
            if sampling.greedy:
                token = int(np.argmax(logits))
            else:
                distributions.append(pad(sampling.probabilities(logits), self.vocabulary))
                token = draw(distributions[-1], self.rng)
            tokens.append(token)
            new_tokens = [token]
        return tokens, distributions


def pad(probabilities: Vector, size: int) -> Vector:
    """Append zeros for tokens outside of the draft's vocabulary."""
    return np.pad(probabilities, (0, size - len(probabilities)))


class LookupDraft:
    """What followed the last few tokens where they stood before in the text, up to its end.

    ``find`` is llama-cpp-python's ``LlamaPromptLookupDecoding.find_candidate_pred_tokens``, which
    takes the first place where the last 3, else 2, else 1 tokens stood.
    """

    def __init__(
        self, find: Callable[..., Sequence[int]], request: GenerationRequest, eog: Sequence[int], vocabulary: int
    ) -> None:
        self.find, self.request, self.eog, self.vocabulary = find, request, eog, vocabulary
        self.evaluated = 0

    def start(self, text: Sequence[int]) -> None:
        pass

    def propose(self, text: Sequence[int], limit: int) -> tuple[list[int], list[Vector]]:
        continuation = self.find(np.asarray(text, dtype=np.intc), max_ngram_size=3, num_pred_tokens=limit)
        tokens: list[int] = []
        for token in map(int, continuation):
            if token in self.eog and self.request.ignore_eos:  # never accepted
                break
            tokens.append(token)
            if token in self.eog:
                break
        return tokens, [one_hot(token, self.vocabulary) for token in tokens]


class UncachedDecoder:
    """A decoder that re-evaluates its whole text at every step, to measure what a KV cache saves."""

    def __init__(self, model: Decoder) -> None:
        self.model = model

    @property
    def tokens(self) -> list[int]:
        return self.model.tokens

    @property
    def n_ctx(self) -> int:
        return self.model.n_ctx

    @property
    def n_vocab(self) -> int:
        return self.model.n_vocab

    def feed(self, tokens: Sequence[int], rows: int) -> Vector:
        text = [*self.model.tokens, *tokens]
        self.model.keep(0)
        return self.model.feed(text, rows)

    def keep(self, count: int) -> None:
        self.model.keep(count)


class Generation:
    """One answer: its tokens by iteration, as soon as each is known, its figures in ``tally``.

    ``eog`` are the tokens that end a text. With a drafter and ``ask.k`` above 0 it is
    speculative; its tokens are distributed as without, and greedy ones are the same.
    """

    def __init__(
        self,
        target: Decoder,
        request: GenerationRequest,
        eog: Sequence[int],
        tally: Tally,
        drafter: Callable[[np.random.Generator], Drafter] | None = None,
    ) -> None:
        self.decoder: Decoder = target if request.kv_cache else UncachedDecoder(target)
        self.request, self.eog, self.tally = request, eog, tally
        self.rng = np.random.default_rng(request.seed)
        self.drafter = drafter(self.rng) if drafter and request.k > 0 else None
        self.text = list(request.prompt)

    def __iter__(self) -> Iterator[int]:
        tally = self.tally
        new_tokens = [self.first()]
        emitted_at = tally.read_at = time.perf_counter()
        if self.request.n_predict == 0:
            tally.finish = "limit"
            return
        while True:
            for token in new_tokens:
                self.text.append(token)
                tally.times.append(emitted_at)
                if token in self.eog:
                    tally.finish = "eos"
                elif self.remaining() < 1:
                    tally.finish = "limit"
                yield token
                if tally.finish:
                    return
            new_tokens = self.step()
            emitted_at = time.perf_counter()

    def remaining(self) -> int:
        """How many tokens may follow: as asked, and as the memory has room for."""
        # The last token of the text is never in the memory yet, and the last one made never gets there.
        room = self.decoder.n_ctx - len(self.text) + 1
        return room if self.request.n_predict < 0 else min(room, self.request.n_predict - len(self.tally.times))

    def first(self) -> int:
        """Read the prompt, the drafter too, and choose the first token."""
        logits, self.tally.cached = evaluate_text(self.decoder, self.text, self.request.cache_prompt)
        self.tally.evaluated = len(self.text) - self.tally.cached
        if self.request.ignore_eos:
            logits[self.eog] = -np.inf
        token = self.request.sampling.choose(logits, self.rng)
        if self.drafter:
            self.drafter.start(self.text)
        return token

    def step(self) -> list[int]:
        """One step: draft, verify all draft tokens at once; returns the new tokens."""
        started = time.perf_counter()
        # A step gives at most one token more than are proposed.
        limit = min(self.request.k, self.remaining() - 1)
        proposed, distributions = self.drafter.propose(self.text, limit) if self.drafter and limit > 0 else ([], [])
        draft_done = time.perf_counter()
        rows = self.decoder.feed([self.text[-1], *proposed], 1 + len(proposed))
        if self.request.ignore_eos:
            rows[:, self.eog] = -np.inf
        sampling = self.request.sampling
        if sampling.greedy:
            accepted, token = verify_greedy(proposed, [int(choice) for choice in rows.argmax(axis=1)])
        else:
            accepted, token = verify(proposed, distributions, lambda i: sampling.probabilities(rows[i]), self.rng)
        self.decoder.keep(len(self.text) + accepted)
        self.tally.step(len(proposed), accepted)
        self.tally.draft_evaluated = self.drafter.evaluated if self.drafter else 0
        self.tally.draft_s += draft_done - started
        self.tally.verify_s += time.perf_counter() - draft_done
        return [*proposed[:accepted], token]
