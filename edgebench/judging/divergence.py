"""Classifies the divergence of two greedy texts of one model: a numerical tie, or a fault.

Evaluating tokens one by one and several at once sums the same products in a different order, so
logits differ in their last digits. If the two most likely tokens are closer than that, either may be
chosen, and the texts diverge. There must be no other cause.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgebench.core import Divergence, Doubt, Round, Turn
from edgebench.errors import EdgebenchError
from edgebench.judging.doubts import new_doubt

Text = tuple[int, ...] | str
"""Token IDs, or their text if an engine does not report IDs."""

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


def find_difference(rounds: Sequence[Round], baseline: Sequence[Round]) -> tuple[Text, Text] | None:
    """(generated text, target's text) of the first round in which they differ; None if there is none.

    A text may be longer than the target's: MLC-LLM checks the token limit only after a verification.
    """
    target_texts = {round_.index: _generated(round_) for round_ in baseline}
    pairs = ((_generated(round_), target_texts.get(round_.index)) for round_ in rounds)
    return next(
        ((text, target_text) for text, target_text in pairs if target_text and text[: len(target_text)] != target_text),
        None,
    )


def _generated(round_: Round) -> Text:
    turn = next((turn for turn in round_.turns if "decode" in turn.measures), Turn())
    return turn.tokens or turn.text or ""


def divergence_key(text: Text, target_text: Text) -> tuple[int, Text, Text]:
    """(number of equal tokens or characters, next one of each text): equal for texts with the same divergence."""
    equal = next(
        (i for i, (a, b) in enumerate(zip(text, target_text, strict=False)) if a != b), min(len(text), len(target_text))
    )
    return equal, text[equal : equal + 1], target_text[equal : equal + 1]


def remarks(name: str, result: Divergence | EdgebenchError) -> list[str | Doubt]:
    """A note for a tie, else a doubt; ``result`` is what was measured of the divergence, or why nothing was."""
    prefix = f"{name}: its text diverges from the target's own"
    if isinstance(result, EdgebenchError):
        return [new_doubt("output-differs", f"{prefix}; whether at a tie could not be measured: {result}")]
    if is_tie(result):
        return [f"{prefix} at a tie, {describe(result)}"]
    return [new_doubt("output-differs", f"{prefix}, {describe(result)}")]
