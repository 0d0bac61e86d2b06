"""Why two greedy texts of one model diverge: a numerical tie, or a fault.

Evaluating tokens one by one and several at once sums the same products in another order, so
logits differ in their last digits. Where the two likeliest tokens are closer than that, either
may win, and from there on the texts differ. Nothing else may make them diverge.
"""

from __future__ import annotations

from edgebench.core import Divergence

MOST_NOISE = 1.0
"""Logits that differ by more than this between the ways of evaluating are no rounding error.

0.74 was seen: on a CPU llama.cpp computes attention for 64 tokens or more at once in tiles, with sums
in 32 bits in place of 16, and the 4-bit weights' activations are rounded to 8 bits after each layer."""


def is_tie(divergence: Divergence) -> bool:
    """Whether rounding explains where two texts diverge: each of the two logits may be off
    by the noise. A text that is only shorter is no tie."""
    gap, noise = divergence.gap, divergence.noise
    return gap is not None and noise is not None and gap <= 2 * noise and noise <= MOST_NOISE


def described(divergence: Divergence) -> str:
    """The same in words."""
    if divergence.gap is None or divergence.noise is None:
        return f"one text ends after {divergence.position} tokens"
    return (
        f"after {divergence.position} equal tokens; there the logits of the two next tokens are {divergence.gap:.4f} "
        f"apart, and evaluating one by one or at once changes a logit by up to {divergence.noise:.4f}"
    )
