"""Queries to an engine other than generation. They do not count for a round's rates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Capability = Literal[
    "token-ids", "speculation-costs", "text-divergence", "token-likelihoods", "no-kv-cache", "decoding-strategies"
]
"""Optional features of engines. Scenarios require capabilities, never a certain engine:

``token-ids``: replies contain the IDs of generated tokens. ``speculation-costs``, ``text-divergence``,
``token-likelihoods``: the engine answers ``CostQuery``, ``DivergenceQuery``, ``LikelihoodQuery``.
``no-kv-cache``: it can generate without a KV cache. ``decoding-strategies``: it supports ``Sampling``.
"""

Message = Mapping[str, str]


@dataclass(frozen=True)
class CostQuery:
    """The time to verify n tokens at once, and of each step of a draft, in the middle of a text."""

    messages: tuple[Message, ...]
    generated: tuple[int, ...] | str
    """The text generated after the messages, as token IDs if the engine reports them."""
    sizes: tuple[int, ...]
    """Numbers of tokens to evaluate at once."""
    repeats: int = 3
    output_share: float = 0.0
    """Fraction of the arithmetic of one token that the output layer takes, 0…1."""
    label: str = "costs"


@dataclass(frozen=True)
class DivergenceQuery:
    """The position at which two greedy texts first differ, and the gap between the logits of the two tokens."""

    messages: tuple[Message, ...]
    reference: tuple[int, ...] | str
    other: tuple[int, ...] | str
    label: str = "divergence"


@dataclass(frozen=True)
class LikelihoodQuery:
    """The log-likelihood of each token of a text under the model."""

    messages: tuple[Message, ...]
    tokens: tuple[int, ...]
    label: str = "likelihood"


Query = CostQuery | DivergenceQuery | LikelihoodQuery
