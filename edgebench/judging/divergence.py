"""Why two greedy texts of one model diverge: a numerical tie, or a fault.

Evaluating tokens one by one and several at once sums the same products in another order, so
logits differ in their last digits. Where the two likeliest tokens are closer than that, either
may win, and from there on the texts differ. Nothing else may make them diverge.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgebench.core import Json

MOST_NOISE = 1.0
"""Logits that differ by more than this between the ways of evaluating are no rounding error.

0.74 was seen: on a CPU llama.cpp computes attention for 64 tokens or more at once in tiles, with sums
in 32 bits in place of 16, and the 4-bit weights' activations are rounded to 8 bits after each layer."""


def is_tie(parting: Mapping[str, Json]) -> bool:
    """Whether rounding explains what ``/edgebench/parting`` found: each of the two logits may be off
    by the noise. A text that is only shorter is no tie."""
    if "gap" not in parting:
        return False
    return bool(parting["gap"] <= 2 * parting["noise"] and parting["noise"] <= MOST_NOISE)


def described(parting: Mapping[str, Json]) -> str:
    """The same in words."""
    if "gap" not in parting:
        return f"one text ends after {parting['position']} tokens"
    return (
        f"after {parting['position']} equal tokens; there the logits of the two next tokens are {parting['gap']:.4f} "
        f"apart, and evaluating one by one or at once changes a logit by up to {parting['noise']:.4f}"
    )
