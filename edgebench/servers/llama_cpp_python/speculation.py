"""Generation, with or without somebody who guesses ahead. No engine: any ``Decoder`` will do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from .sampling import Shape, Vector, draw, point, softmax, verify, verify_greedy


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
        """Forget all but the first ``count`` tokens; all of them where the memory is a state that
        knows no earlier one."""


class Drafter(Protocol):
    """Who guesses ahead."""

    evaluated: int
    """Tokens evaluated for that, without the prompt's."""

    def start(self, text: Sequence[int]) -> None:
        """Read the prompt."""

    def propose(self, text: Sequence[int], most: int) -> tuple[list[int], list[Vector]]:
        """Up to ``most`` next tokens, and the distribution that each was drawn from (not needed
        where the target is greedy)."""


@dataclass(frozen=True)
class Ask:
    """A checked request."""

    prompt: Sequence[int]
    n_predict: int = -1
    """-1: as many as the context holds."""
    shape: Shape = field(default_factory=Shape)
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
            for place in range(count):
                counts[place] += 1


def shared(one: Sequence[int], other: Sequence[int], start: int = 0) -> int:
    """Length of the common beginning, of which ``start`` tokens are known to be equal."""
    end = min(len(one), len(other))
    while start < end and one[start] == other[start]:
        start += 1
    return start


def read(decoder: Decoder, text: Sequence[int], reuse: bool) -> tuple[Vector, int]:
    """Make a decoder hold ``text``: the logits after it, and how many tokens it held already."""
    # The last token is always evaluated: its logits are what is wanted.
    held = min(shared(decoder.tokens, text), len(text) - 1) if reuse else 0
    decoder.keep(held)
    held = len(decoder.tokens)
    return decoder.feed(text[held:], 1)[0], held


class ModelDraft:
    """Tokens drawn from a smaller model whose vocabulary is the target's, but for some tokens at the end.

    ``p_min`` ends a draft early where that model is unsure: its likeliest token has less
    probability. This looks at the distribution only, never at the token drawn: to drop a token
    because of what it is would bend the target's distribution.
    """

    def __init__(self, model: Decoder, ask: Ask, eog: Sequence[int], vocabulary: int, rng: np.random.Generator) -> None:
        """``vocabulary``: tokens of the target, such as the 32,000 of Code Llama 34B beside the 32,016 of its 7B."""
        self.model, self.ask, self.vocabulary, self.rng = model, ask, vocabulary, rng
        self.both = min(vocabulary, model.n_vocab)
        """Only these can be proposed and read by both."""
        self.eog = [token for token in eog if token < self.both]
        self.agreed = self.evaluated = 0
        """``agreed``: tokens known to be equal in the model's memory and in the text."""

    def start(self, text: Sequence[int]) -> None:
        if max(text) < self.both:
            read(self.model, text, self.ask.cache_prompt)
            self.agreed = len(text)

    def propose(self, text: Sequence[int], most: int) -> tuple[list[int], list[Vector]]:
        model, shape = self.model, self.ask.shape
        model.keep(min(shared(model.tokens, text, self.agreed), len(text) - 1))
        self.agreed = len(model.tokens)
        most = min(most, model.n_ctx - len(text) + 1)
        fresh = list(text[self.agreed :])
        tokens: list[int] = []
        drawn_from: list[Vector] = []
        if max(fresh) >= self.both:  # a token that only the target knows: from here on it is alone
            return tokens, drawn_from
        while len(tokens) < most and not (tokens and tokens[-1] in self.eog):
            logits = model.feed(fresh, 1)[0][: self.both]
            self.evaluated += len(fresh)
            if self.ask.ignore_eos:
                logits[self.eog] = -np.inf
            if self.ask.p_min > 0 and softmax(logits).max() < self.ask.p_min:
                break
            if shape.greedy:
                token = int(np.argmax(logits))
            else:
                drawn_from.append(padded(shape.probabilities(logits), self.vocabulary))
                token = draw(drawn_from[-1], self.rng)
            tokens.append(token)
            fresh = [token]
        return tokens, drawn_from


def padded(probabilities: Vector, size: int) -> Vector:
    """With 0 for the tokens at the end that a distribution doesn't know."""
    return np.pad(probabilities, (0, size - len(probabilities)))


class LookupDraft:
    """What followed the last few tokens where they stood before in the text, up to its end.

    ``find`` is llama-cpp-python's ``LlamaPromptLookupDecoding.find_candidate_pred_tokens``, which
    takes the first place where the last 3, else 2, else 1 tokens stood.
    """

    def __init__(self, find: Callable[..., Sequence[int]], ask: Ask, eog: Sequence[int], vocabulary: int) -> None:
        self.find, self.ask, self.eog, self.vocabulary = find, ask, eog, vocabulary
        self.evaluated = 0

    def start(self, text: Sequence[int]) -> None:
        pass

    def propose(self, text: Sequence[int], most: int) -> tuple[list[int], list[Vector]]:
        found = self.find(np.asarray(text, dtype=np.intc), max_ngram_size=3, num_pred_tokens=most)
        tokens: list[int] = []
        for token in map(int, found):
            if token in self.eog and self.ask.ignore_eos:  # it would never be accepted
                break
            tokens.append(token)
            if token in self.eog:
                break
        return tokens, [point(token, self.vocabulary) for token in tokens]


class Uncached:
    """A decoder that evaluates its whole text anew at every step: what a KV cache saves."""

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
        ask: Ask,
        eog: Sequence[int],
        tally: Tally,
        drafter: Callable[[np.random.Generator], Drafter] | None = None,
    ) -> None:
        self.decoder: Decoder = target if ask.kv_cache else Uncached(target)
        self.ask, self.eog, self.tally = ask, eog, tally
        self.rng = np.random.default_rng(ask.seed)
        self.drafter = drafter(self.rng) if drafter and ask.k > 0 else None
        self.text = list(ask.prompt)

    def __iter__(self) -> Iterator[int]:
        tally = self.tally
        fresh = [self.first()]
        now = tally.read_at = time.perf_counter()
        if self.ask.n_predict == 0:
            tally.finish = "limit"
            return
        while True:
            for token in fresh:
                self.text.append(token)
                tally.times.append(now)
                if token in self.eog:
                    tally.finish = "eos"
                elif self.left() < 1:
                    tally.finish = "limit"
                yield token
                if tally.finish:
                    return
            fresh = self.step()
            now = time.perf_counter()

    def left(self) -> int:
        """How many tokens may follow: as asked, and as the memory has room for."""
        # The last token of the text is never in the memory yet, and the last one made never gets there.
        room = self.decoder.n_ctx - len(self.text) + 1
        return room if self.ask.n_predict < 0 else min(room, self.ask.n_predict - len(self.tally.times))

    def first(self) -> int:
        """Read the prompt, the drafter too, and choose the first token."""
        logits, self.tally.cached = read(self.decoder, self.text, self.ask.cache_prompt)
        self.tally.evaluated = len(self.text) - self.tally.cached
        if self.ask.ignore_eos:
            logits[self.eog] = -np.inf
        token = self.ask.shape.choose(logits, self.rng)
        if self.drafter:
            self.drafter.start(self.text)
        return token

    def step(self) -> list[int]:
        """Let the drafter propose, verify all it proposed at once; the tokens that follow."""
        begun = time.perf_counter()
        # A step gives at most one token more than are proposed.
        most = min(self.ask.k, self.left() - 1)
        proposed, drawn_from = self.drafter.propose(self.text, most) if self.drafter and most > 0 else ([], [])
        drafted = time.perf_counter()
        rows = self.decoder.feed([self.text[-1], *proposed], 1 + len(proposed))
        if self.ask.ignore_eos:
            rows[:, self.eog] = -np.inf
        shape = self.ask.shape
        if shape.greedy:
            accepted, token = verify_greedy(proposed, [int(choice) for choice in rows.argmax(axis=1)])
        else:
            accepted, token = verify(proposed, drawn_from, lambda i: shape.probabilities(rows[i]), self.rng)
        self.decoder.keep(len(self.text) + accepted)
        self.tally.step(len(proposed), accepted)
        self.tally.draft_evaluated = self.drafter.evaluated if self.drafter else 0
        self.tally.draft_s += drafted - begun
        self.tally.verify_s += time.perf_counter() - drafted
        return [*proposed[:accepted], token]
