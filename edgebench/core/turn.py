"""One request to an engine, its reply, and the rates of that one exchange."""

from __future__ import annotations

from dataclasses import dataclass

from edgebench.core.engine import Reply, Request, TokenClock
from edgebench.core.queries import Query
from edgebench.core.speculation import Divergence, SpeculationCosts, SpeculationCounts


@dataclass(frozen=True)
class Turn:
    """One request and its reply: counts, times, and the rates of this turn alone.

    Times in seconds, rates in tokens per second. An absent value is None, never 0.
    """

    label: str = ""
    measures: tuple[str, ...] = ()
    """The rates this turn counts for in its round (``prefill``, ``decode``, ``ttft``)."""
    sent_at: float = 0.0
    """``time.monotonic()`` on the controller when the request was sent."""
    total_s: float = 0.0
    prompt_tokens: int = 0
    """All tokens of the prompt, cached ones included."""
    requested_prompt_tokens: int | None = None
    """Number of token IDs sent as the prompt; None if text was sent."""
    min_prompt_tokens: int | None = None
    """Minimum number of tokens of the prompt, counted by the scenario; None if it does not count."""
    cached_tokens: int = 0
    prefill_tokens: int = 0
    """Prompt tokens evaluated for this request."""
    prefill_s: float | None = None
    prefill_tps: float | None = None
    """``prefill_tokens`` ÷ ``prefill_s``."""
    completion_tokens: int = 0
    requested_tokens: int | None = None
    """Number of tokens to generate, ignoring the end-of-text token; None if the text may end earlier."""
    decode_s: float | None = None
    """First generated token to the last, on the clock of ``token_clock``."""
    decode_tps: float | None = None
    """(``completion_tokens`` − 1) ÷ ``decode_s``."""
    ttft_s: float | None = None
    engine_ttft_s: float | None = None
    token_clock: TokenClock = "arrival"
    token_times: tuple[float, ...] = ()
    """Seconds of each generated token after the first one, first included (0.0)."""
    finish: str = ""
    draft_tokens: int | None = None
    """Number of proposed tokens; None without speculation."""
    draft_accepted: int | None = None
    speculation: SpeculationCounts | None = None
    costs: SpeculationCosts | None = None
    divergence: Divergence | None = None
    log_likelihoods: tuple[float, ...] | None = None
    """Of the tokens that a query asked about, nats."""
    text: str | None = None
    tokens: tuple[int, ...] | None = None

    @property
    def depth(self) -> int:
        """Tokens in the context when it ended."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def is_prompt_complete(self) -> bool:
        """Whether the engine's prompt count matches the request: exactly the token IDs, or at least what
        every chat template keeps of the messages."""
        if self.requested_prompt_tokens is not None:
            return self.prompt_tokens == self.requested_prompt_tokens
        return keeps_messages(self.prompt_tokens, self.min_prompt_tokens or 0)

    @property
    def first_token_at(self) -> float | None:
        """``time.monotonic()`` at which the first token arrived."""
        return None if self.ttft_s is None else self.sent_at + self.ttft_s

    @property
    def ended_at(self) -> float:
        """``time.monotonic()`` at which the last token arrived."""
        return self.sent_at + self.total_s

    @classmethod
    def from_query(cls, query: Query, reply: Reply) -> Turn:
        """A query with its reply; without rates."""
        return cls(
            label=query.label,
            sent_at=reply.sent_at,
            total_s=reply.total_s,
            token_clock=reply.token_clock,
            costs=reply.costs,
            divergence=reply.divergence,
            log_likelihoods=reply.log_likelihoods,
        )

    @classmethod
    def from_reply(cls, request: Request, reply: Reply) -> Turn:
        """A request with its reply; rates are computed from counts and times."""
        has_prefill = bool(reply.prefill_s and reply.prefill_tokens)
        has_decode = bool(reply.decode_s and reply.completion_tokens > 1)
        return cls(
            label=request.label,
            measures=request.measures,
            sent_at=reply.sent_at,
            total_s=reply.total_s,
            prompt_tokens=reply.prompt_tokens,
            requested_prompt_tokens=None if request.tokens is None else len(request.tokens),
            min_prompt_tokens=request.min_prompt_tokens,
            cached_tokens=reply.cached_tokens,
            prefill_tokens=reply.prefill_tokens,
            prefill_s=reply.prefill_s,
            prefill_tps=reply.prefill_tokens / reply.prefill_s if has_prefill and reply.prefill_s else None,
            completion_tokens=reply.completion_tokens,
            requested_tokens=request.max_tokens if request.ignore_eos else None,
            decode_s=reply.decode_s,
            decode_tps=(reply.completion_tokens - 1) / reply.decode_s if has_decode and reply.decode_s else None,
            ttft_s=reply.ttft_s,
            engine_ttft_s=reply.engine_ttft_s,
            token_clock=reply.token_clock,
            token_times=tuple(round(at, 6) for at in reply.token_times),
            finish=reply.finish,
            draft_tokens=reply.draft_tokens or None,
            draft_accepted=reply.draft_accepted if reply.draft_tokens else None,
            speculation=reply.speculation,
            text=reply.text if request.messages is not None else None,
            tokens=reply.tokens if request.keep_tokens else None,
        )


MIN_PROMPT_SHARE = 0.9
"""Text in a template may have slightly fewer tokens than the text alone, because tokens merge at its ends."""


def keeps_messages(prompt_tokens: int, min_prompt_tokens: int) -> bool:
    """Whether a prompt of ``prompt_tokens`` can contain messages of ``min_prompt_tokens``."""
    return prompt_tokens >= MIN_PROMPT_SHARE * min_prompt_tokens
