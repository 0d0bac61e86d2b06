"""Where greedy texts diverge from the target's own, explained after the last round while an engine can be queried."""

from __future__ import annotations

from collections.abc import Sequence

from edgebench import plugins
from edgebench.core import Divergence, DivergenceQuery, Doubt, FollowUp, Round, Trial, Turn
from edgebench.errors import EdgebenchError, Unreadable
from edgebench.judging import divergence, doubts
from edgebench.scenarios.speculative import MESSAGES

Text = tuple[int, ...] | str
"""Token IDs, or their text if an engine does not report IDs."""

LABEL = "where the texts diverge"
"""Label of the query for the gap of two tokens."""


def explain_divergence(trials: Sequence[tuple[Trial, Sequence[Round]]]) -> FollowUp:
    """Query, for every greedy text that differs from the target's own, the gap of the two tokens at which
    they diverge: the cause is rounding (a tie), or a fault, which is a doubt."""
    baseline = next((i for i, (trial, _) in enumerate(trials) if trial.options.get("k") == 0), None)
    remarks: dict[int, list[str | Doubt]] = {}
    results: dict[str, Divergence | EdgebenchError] = {}
    for index, (trial, rounds) in enumerate(trials):
        if baseline is None or not trial.options.get("k"):
            continue
        pair = _find_difference(rounds, trials[baseline][1])
        if pair is None:
            continue
        text, target_text = pair
        key = repr(_divergence_key(text, target_text))
        if "text-divergence" not in plugins.load("engines", trial.engine).capabilities:
            results[key] = Unreadable(f"{trial.engine} does not report logits")
        if key not in results:
            try:
                reply = yield baseline, DivergenceQuery(MESSAGES, target_text, text, LABEL)
                results[key] = reply.divergence or Unreadable(f"{trial.engine} did not report logits for the two texts")
            except EdgebenchError as error:
                results[key] = error
        remarks[index] = _remarks(f"{trial.options.get('draft')} with k {trial.options['k']}", results[key])
    return remarks


def _find_difference(rounds: Sequence[Round], baseline: Sequence[Round]) -> tuple[Text, Text] | None:
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


def _divergence_key(text: Text, target_text: Text) -> tuple[int, Text, Text]:
    """(number of equal tokens or characters, next one of each text): equal for texts with the same divergence."""
    equal = next(
        (i for i, (a, b) in enumerate(zip(text, target_text, strict=False)) if a != b), min(len(text), len(target_text))
    )
    return equal, text[equal : equal + 1], target_text[equal : equal + 1]


def _remarks(name: str, result: Divergence | EdgebenchError) -> list[str | Doubt]:
    prefix = f"{name}: its text diverges from the target's own"
    if isinstance(result, EdgebenchError):
        return [doubts.new_doubt("output-differs", f"{prefix}; whether at a tie could not be measured: {result}")]
    if divergence.is_tie(result):
        return [f"{prefix} at a tie, {divergence.describe(result)}"]
    return [doubts.new_doubt("output-differs", f"{prefix}, {divergence.describe(result)}")]
