"""What verifying and drafting cost, as a sweep measured it, and the speed-up that follows.

With p the target's and q the draft's distribution, a step proposes K tokens and verifies them with
one evaluation of K + 1. Leviathan et al. 2023 (arXiv 2211.17192, theorem 3.8) give the speed-up as
(1 − α^(K+1)) ÷ ((1 − α)(Kc + 1)) for independent acceptances of chance α and a verification that
costs as much as one token. On a CPU it costs more, so here both are measured:

    predicted = tokens per verification × T(1) ÷ (D(K̄) + T(K̄ + 1))

T(n): evaluating n tokens at once, D(n): drafting n tokens, K̄: tokens proposed a step. Acceptance
and costs are those of the same round.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from edgebench.core import Metric, Record, Round, SpeculationCosts, Turn
from edgebench.judging import stats


@dataclass(frozen=True)
class Costs:
    """Medians of what was measured beside the baseline, seconds."""

    verify_s: Mapping[int, float]
    draft_s: float | None = None
    """One step of the draft."""
    first_draft_s: float | None = None
    """Its first step, after the target has used the caches; None: as the others."""
    two_draft_s: float | None = None
    """Its first step where it reads two tokens; None: as one."""
    reread_s: Mapping[int, float] = field(default_factory=dict)
    """Where the draft evaluates all that is verified once more: seconds by number of tokens."""
    method: str = ""
    """How they were measured, where that is not by evaluating exactly what they are named for."""

    def verification(self, tokens: float) -> float | None:
        """Seconds for verifying so many tokens at once."""
        return _between(self.verify_s, tokens)

    def drafting(self, tokens: float, extra: float = 0.0) -> float | None:
        """Seconds for proposing so many tokens, ``extra`` further ones being evaluated for that."""
        reread = _between(self.reread_s, tokens + 1) if self.reread_s else 0.0
        if self.draft_s is None or reread is None:
            return None
        first = self.draft_s if self.first_draft_s is None else self.first_draft_s
        two = first if self.two_draft_s is None else self.two_draft_s
        return min(tokens, 1.0) * first + max(tokens - 1.0, 0.0) * self.draft_s + extra * (two - first) + reread

    def predicted(
        self, tokens_per_verification: float, proposed: float, *, draft: bool, extra: float = 0.0
    ) -> float | None:
        """The speed-up that follows from acceptance and costs; ``proposed``: draft tokens a step,
        ``extra``: tokens that the draft evaluates beside these."""
        one, several = self.verification(1), self.verification(proposed + 1)
        drafting = self.drafting(proposed, extra) if draft else 0.0
        if one is None or several is None or drafting is None:
            return None
        return tokens_per_verification * one / (drafting + several)


def _between(seconds: Mapping[int, float], tokens: float) -> float | None:
    """Between the measured sizes by a line; none beyond them."""
    sizes = sorted(seconds)
    for low, high in itertools.pairwise(sizes):
        if low <= tokens <= high:
            share = (tokens - low) / (high - low)
            return seconds[low] * (1 - share) + seconds[high] * share
    return seconds.get(int(tokens)) if tokens in seconds else None


def measured(records: Sequence[Record], number: int | None = None) -> Costs | None:
    """What was measured, in all rounds or in one; None where verification wasn't."""
    targets, drafts = alone(records)
    told = _told(targets, number)
    verify = _evaluating(told)
    if not verify:
        return None
    steps = [each for found in told for each in found.draft_s]
    first, later = [each[0] for each in steps], [step for each in steps for step in each[1:]]
    two = [seconds for found in told for seconds in found.draft_two_s]
    reread: Mapping[int, float] = {}
    if drafts:
        later = [1 / one.metrics["decode_tps"] for draft in drafts for one in draft.rounds if _counts(one, number)]
        if told[0].draft_rereads:
            reread = _evaluating(_told(drafts, number))
    return Costs(verify, median(later or first), median(first), median(two), reread, told[0].method)


def allowed(sweep: Sequence[Record]) -> tuple[int, Metric] | None:
    """The K with which a draft model that is always right would be fastest, and how much faster.

    Predicted as each K of the sweep is, for every round by its own costs (by those of all rounds
    together it could be less than what was predicted), but for a text so long that its first step no
    longer counts: only that one never finds a draft accepted whole before it.
    """
    targets, _ = alone(sweep)
    gains: dict[int, list[float]] = {}
    for one in targets[0].rounds if targets else ():
        known = measured(sweep, one.index)
        if known is None:
            continue
        for k in range(1, max(known.verify_s)):
            gain = known.predicted(k + 1, k, draft=True, extra=1.0)
            if gain is not None:
                gains.setdefault(k, []).append(gain)
    best = max(gains, key=lambda k: stats.median(gains[k]), default=None)
    return None if best is None else (best, stats.summarise(gains[best], "×"))


def _evaluating(told: Sequence[SpeculationCosts]) -> dict[int, float]:
    """Seconds for evaluating so many tokens at once, medians."""
    found: dict[int, list[float]] = {}
    for costs in told:
        for size, values in costs.verify_s.items():
            found.setdefault(size, []).extend(values)
    return {size: stats.median(values) for size, values in found.items()}


def turns(record: Record, number: int | None = None) -> Iterator[Turn]:
    """Of all rounds, or of one."""
    return (turn for one in record.rounds if number in (None, one.index) for turn in one.turns)


def _counts(one: Round, number: int | None) -> bool:
    return number in (None, one.index) and bool(one.metrics.get("decode_tps"))


def median(values: Sequence[float]) -> float | None:
    return stats.median(values) if values else None


def _told(records: Sequence[Record], number: int | None) -> list[SpeculationCosts]:
    return [turn.costs for record in records for turn in turns(record, number) if turn.costs is not None]


def alone(records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """The target alone, the first trial of each sweep of a run; and the draft as a model of its own,
    measured beside it where an engine tells nothing of the draft's steps."""
    found = [record for record in records if record.trial.options.get("k") == 0]
    targets = [record for record in found if record.trial.model == found[0].trial.model]
    return targets, [record for record in found if record.trial.model != found[0].trial.model]


def sweep_of(records: Sequence[Record], one: Record) -> Sequence[Record]:
    """Of a search and what it led to, the part that a record is of."""
    targets, _ = alone(records)
    begins = [place for place, record in enumerate(records) if record in targets]
    parts = (records[begin:end] for begin, end in itertools.pairwise([*begins, len(records)]))
    return next((part for part in parts if one in part), records)
