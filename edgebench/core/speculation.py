"""What is known of speculation beyond a request's own counts: by position, its costs, where texts diverge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class SpeculationCounts:
    """What an engine counted while it speculated, where it counts by position in the draft."""

    steps: int = 0
    """Verifications."""
    proposed_by_position: tuple[int, ...] = ()
    accepted_by_position: tuple[int, ...] = ()
    draft_evaluated: int = 0
    """Tokens the draft model evaluated; 0 where the engine doesn't count them."""
    draft_s: float | None = None
    """Seconds spent drafting; None where the engine doesn't tell."""
    verify_s: float | None = None


@dataclass(frozen=True)
class SpeculationCosts:
    """Seconds for verifying and drafting, as measured in the middle of a generation."""

    depth: int = 0
    """Tokens in the context meanwhile."""
    verify_s: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    """By the number of tokens evaluated at once: each repeat."""
    draft_s: tuple[tuple[float, ...], ...] = ()
    """One draft each: seconds of its steps in order."""
    draft_two_s: tuple[float, ...] = ()
    """First steps that evaluated two tokens."""
    draft_rereads: bool = False
    """Whether the draft also evaluates everything that is verified."""
    method: str = ""
    """How they were measured, where that is not by evaluating exactly what they are named for."""
    absent: str = ""
    """Why nothing could be measured; empty where it was."""


@dataclass(frozen=True)
class Divergence:
    """Where two greedy texts of one model first differ."""

    position: int | None = None
    """Equal tokens before it; None where the texts are the same."""
    gap: float | None = None
    """Difference of the two next tokens' logits; None where one text only ends there."""
    noise: float | None = None
    """By how much a logit changes with the way it is evaluated (one by one, or several at once)."""
