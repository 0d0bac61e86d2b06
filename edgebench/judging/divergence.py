"""Classifies the divergence of two greedy texts of one model: a numerical tie, or a fault.

Evaluating tokens one by one and several at once sums the same products in a different order, so
logits differ in their last digits. If the two most likely tokens are closer than that, either may be
chosen, and the texts diverge. There must be no other cause.
"""

from __future__ import annotations

from edgebench.core import Divergence

MAX_NOISE = 1.0
"""A larger difference of logits between the two ways of evaluating is not a rounding error.

The largest observed one is 0.74: on a CPU llama.cpp computes attention for 64 or more tokens at once in
tiles, with 32-bit instead of 16-bit sums, and rounds the 4-bit weights' activations to 8 bits after each layer."""


def is_tie(divergence: Divergence) -> bool:
    """Whether rounding explains the divergence: each of the two logits may be off by the noise.
    A text that is only shorter is not a tie."""
    gap, noise = divergence.gap, divergence.noise
    return gap is not None and noise is not None and gap <= 2 * noise and noise <= MAX_NOISE


def describe(divergence: Divergence) -> str:
    """The divergence as text."""
    if divergence.gap is None or divergence.noise is None:
        return f"one text ends after {divergence.position} tokens"
    return (
        f"after {divergence.position} equal tokens; there the logits of the two next tokens are {divergence.gap:.4f} "
        f"apart, and evaluating one by one or at once changes a logit by up to {divergence.noise:.4f}"
    )
