"""Where greedy texts diverge from the target's own, explained after the last round while an engine can be queried."""

from __future__ import annotations

from collections.abc import Sequence

from edgebench import plugins
from edgebench.core import Divergence, DivergenceQuery, Doubt, FollowUp, Round, Trial, Turn
from edgebench.errors import EdgebenchError, Unreadable
from edgebench.judging import divergence, doubts
from edgebench.scenarios.speculative import MESSAGES

Text = tuple[int, ...] | str
"""Ids of tokens, or what they say where an engine tells no ids."""

WEIGHING = "where the texts diverge"
"""The label of the question how near two tokens were."""


def explain_divergence(trials: Sequence[tuple[Trial, Sequence[Round]]]) -> FollowUp:
    """Ask, for every greedy text that isn't the target's own, how near the two tokens are at which
    they part: by the rounding of logits (``ties``), or by a fault, which is a doubt."""
    alone = next((i for i, (trial, _) in enumerate(trials) if trial.options.get("k") == 0), None)
    found: dict[int, list[str | Doubt]] = {}
    answers: dict[str, Divergence | EdgebenchError] = {}
    for index, (trial, rounds) in enumerate(trials):
        if alone is None or not trial.options.get("k"):
            continue
        pair = _different(rounds, trials[alone][1])
        if pair is None:
            continue
        own, its = pair
        key = repr(_parting(own, its))
        if "text-divergence" not in plugins.load("engines", trial.engine).capabilities:
            answers[key] = Unreadable(f"{trial.engine} does not report logits")
        if key not in answers:
            try:
                reply = yield alone, DivergenceQuery(MESSAGES, its, own, WEIGHING)
                answers[key] = reply.divergence or Unreadable(f"{trial.engine} did not report logits for the two texts")
            except EdgebenchError as error:
                answers[key] = error
        found[index] = _judged(f"{trial.options.get('draft')} with k {trial.options['k']}", answers[key])
    return found


def _different(rounds: Sequence[Round], alone: Sequence[Round]) -> tuple[Text, Text] | None:
    """The first round's generated tokens (its text, where an engine tells no tokens) that are not
    the target's own of that round, and the target's.

    A text may go on after the target's: MLC-LLM checks a limit of tokens only after a verification.
    """
    its = {one.index: _generated(one) for one in alone}
    pairs = ((_generated(one), its.get(one.index)) for one in rounds)
    return next(((mine, other) for mine, other in pairs if other and mine[: len(other)] != other), None)


def _generated(one: Round) -> Text:
    turn = next((turn for turn in one.turns if "decode" in turn.measures), Turn())
    return turn.tokens or turn.text or ""


def _parting(own: Text, its: Text) -> tuple[int, Text, Text]:
    """What several texts may have in common: after how many tokens (characters) which two stand."""
    equal = next((i for i, (a, b) in enumerate(zip(own, its, strict=False)) if a != b), min(len(own), len(its)))
    return equal, own[equal : equal + 1], its[equal : equal + 1]


def _judged(name: str, answer: Divergence | EdgebenchError) -> list[str | Doubt]:
    said = f"{name}: its text parts from the target's own"
    if isinstance(answer, EdgebenchError):
        return [doubts.named("output-differs", f"{said}; whether at a tie could not be measured: {answer}")]
    if divergence.is_tie(answer):
        return [f"{said} at a tie, {divergence.describe(answer)}"]
    return [doubts.named("output-differs", f"{said}, {divergence.describe(answer)}")]
