"""What an engine may be asked beside generating text. None of it counts among a round's rates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Capability = Literal[
    "token-ids", "speculation-costs", "text-divergence", "token-likelihoods", "no-kv-cache", "decoding-strategies"
]
"""What only some engines can do. Scenarios require capabilities, never an engine:

``token-ids``: replies hold the ids of generated tokens. ``speculation-costs``, ``text-divergence``,
``token-likelihoods``: the engine answers ``CostQuery``, ``DivergenceQuery``, ``LikelihoodQuery``.
``no-kv-cache``: it generates without a KV cache on request. ``decoding-strategies``: it takes ``Sampling``.
"""

Message = Mapping[str, str]


@dataclass(frozen=True)
class CostQuery:
    """How long verifying n tokens at once and each step of a draft take, in the middle of a text."""

    messages: tuple[Message, ...]
    generated: tuple[int, ...] | str
    """What was generated after the messages; text where the engine tells no ids."""
    sizes: tuple[int, ...]
    """Numbers of tokens to be evaluated at once."""
    repeats: int = 3
    output_share: float = 0.0
    """The output layer's share of the arithmetic of one token, 0…1."""
    label: str = "costs"


@dataclass(frozen=True)
class DivergenceQuery:
    """Where two greedy texts first differ, and how near the logits of the two tokens are there."""

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
