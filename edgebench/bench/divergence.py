"""Where greedy texts diverge from the target's own, explained after the last round while an engine can be queried."""

from __future__ import annotations

from collections.abc import Sequence

from edgebench import plugins
from edgebench.core import Divergence, DivergenceQuery, Doubt, FollowUp, Round, Trial
from edgebench.errors import EdgebenchError, Unreadable
from edgebench.judging import divergence
from edgebench.scenarios.speculative import MESSAGES

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
        pair = divergence.find_difference(rounds, trials[baseline][1])
        if pair is None:
            continue
        text, target_text = pair
        key = repr(divergence.divergence_key(text, target_text))
        if "text-divergence" not in plugins.load("engines", trial.engine).capabilities:
            results[key] = Unreadable(f"{trial.engine} does not report logits")
        if key not in results:
            try:
                reply = yield baseline, DivergenceQuery(MESSAGES, target_text, text, LABEL)
                results[key] = reply.divergence or Unreadable(f"{trial.engine} did not report logits for the two texts")
            except EdgebenchError as error:
                results[key] = error
        remarks[index] = divergence.remarks(f"{trial.options.get('draft')} with k {trial.options['k']}", results[key])
    return remarks
