"""Speculative decoding: counts by position, costs, and the divergence of texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class SpeculationCounts:
    """Counts of an engine that reports them by position in the draft."""

    steps: int = 0
    """Verifications."""
    proposed_by_position: tuple[int, ...] = ()
    accepted_by_position: tuple[int, ...] = ()
    draft_evaluated: int = 0
    """Tokens the draft model evaluated; 0 if the engine does not count them."""
    draft_s: float | None = None
    """Seconds spent drafting; None if the engine does not report it."""
    verify_s: float | None = None


@dataclass(frozen=True)
class SpeculationCosts:
    """Seconds for verifying and drafting, as measured in the middle of a generation."""

    depth: int = 0
    """Tokens in the context."""
    verify_s: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    """Number of tokens evaluated at once → seconds of each repeat."""
    draft_s: tuple[tuple[float, ...], ...] = ()
    """For each draft, the seconds of its steps in order."""
    draft_two_s: tuple[float, ...] = ()
    """Seconds of first steps that evaluated two tokens."""
    draft_rereads: bool = False
    """Whether the draft model also evaluates all verified tokens."""
    method: str = ""
    """How they were measured, if not directly."""
    absent: str = ""
    """Why they could not be measured; empty if they were."""


@dataclass(frozen=True)
class Divergence:
    """The first difference between two greedy texts of one model."""

    position: int | None = None
    """Number of equal tokens before it; None if the texts are equal."""
    gap: float | None = None
    """Difference of the logits of the two next tokens; None if one text ends there."""
    noise: float | None = None
    """Change of a logit with the way it is evaluated (token by token, or several at once)."""
