"""Measured costs of verifying and drafting in a sweep, and the speed-up predicted from them.

With p the target's and q the draft's distribution, a step proposes K tokens and verifies them with
one evaluation of K + 1. Leviathan et al. 2023 (arXiv 2211.17192, theorem 3.8) give the speed-up as
(1 − α^(K+1)) ÷ ((1 − α)(Kc + 1)) for independent acceptances of probability α and a verification that
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
    """Medians of the costs that were measured with the baseline, seconds."""

    verify_s: Mapping[int, float]
    draft_s: float | None = None
    """One step of the draft."""
    first_draft_s: float | None = None
    """First step, right after the target has used the caches; None: same as the others."""
    two_draft_s: float | None = None
    """First step with two input tokens; None: same as with one."""
    reread_s: Mapping[int, float] = field(default_factory=dict)
    """Number of tokens → seconds, for a draft that evaluates all verified tokens again."""
    method: str = ""
    """How the costs were measured, if indirectly."""

    def verification(self, tokens: float) -> float | None:
        """Seconds to verify this number of tokens at once; None beyond the measured sizes."""
        return _interpolate(self.verify_s, tokens)

    def drafting(self, tokens: float, extra: float = 0.0) -> float | None:
        """Seconds to propose this number of tokens with ``extra`` additional evaluated ones; None if unknown."""
        reread_s = _interpolate(self.reread_s, tokens + 1) if self.reread_s else 0.0
        if self.draft_s is None or reread_s is None:
            return None
        first_s = self.draft_s if self.first_draft_s is None else self.first_draft_s
        two_s = first_s if self.two_draft_s is None else self.two_draft_s
        return min(tokens, 1.0) * first_s + max(tokens - 1.0, 0.0) * self.draft_s + extra * (two_s - first_s) + reread_s

    def predicted(
        self, tokens_per_verification: float, proposed: float, *, draft: bool, extra: float = 0.0
    ) -> float | None:
        """The speed-up predicted from acceptance and costs; ``proposed``: draft tokens per step,
        ``extra``: additional tokens that the draft evaluates per step. None if a cost is unknown."""
        single_s, verify_s = self.verification(1), self.verification(proposed + 1)
        draft_s = self.drafting(proposed, extra) if draft else 0.0
        if single_s is None or verify_s is None or draft_s is None:
            return None
        return tokens_per_verification * single_s / (draft_s + verify_s)


def _interpolate(seconds: Mapping[int, float], tokens: float) -> float | None:
    """Linear interpolation between the measured sizes; None beyond them."""
    sizes = sorted(seconds)
    for low, high in itertools.pairwise(sizes):
        if low <= tokens <= high:
            share = (tokens - low) / (high - low)
            return seconds[low] * (1 - share) + seconds[high] * share
    return seconds.get(int(tokens)) if tokens in seconds else None


def collect_costs(records: Sequence[Record], number: int | None = None) -> Costs | None:
    """The costs of all rounds or of round ``number``; None if verification was not measured."""
    targets, drafts = find_baselines(records)
    turn_costs = _turn_costs(targets, number)
    verify = _median_verify_s(turn_costs)
    if not verify:
        return None
    draft_steps = [each for costs in turn_costs for each in costs.draft_s]
    first_s, later_s = [each[0] for each in draft_steps], [step for each in draft_steps for step in each[1:]]
    two_s = [seconds for costs in turn_costs for seconds in costs.draft_two_s]
    reread_s: Mapping[int, float] = {}
    if drafts:
        later_s = [
            1 / round_.metrics["decode_tps"]
            for draft in drafts
            for round_ in draft.rounds
            if _has_decode_rate(round_, number)
        ]
        if turn_costs[0].draft_rereads:
            reread_s = _median_verify_s(_turn_costs(drafts, number))
    return Costs(verify, median(later_s or first_s), median(first_s), median(two_s), reread_s, turn_costs[0].method)


def predict_best_case(sweep: Sequence[Record]) -> tuple[int, Metric] | None:
    """The best K of a draft model whose tokens are all accepted, and its speed-up; None without costs.

    Predicted for each round from the round's own costs, like the K of the sweep (the pooled costs could
    give less than what was predicted), but for a text so long that its first step is negligible: only
    that step does not follow a fully accepted draft.
    """
    targets, _ = find_baselines(sweep)
    gains: dict[int, list[float]] = {}
    for round_ in targets[0].rounds if targets else ():
        costs = collect_costs(sweep, round_.index)
        if costs is None:
            continue
        for k in range(1, max(costs.verify_s)):
            gain = costs.predicted(k + 1, k, draft=True, extra=1.0)
            if gain is not None:
                gains.setdefault(k, []).append(gain)
    best = max(gains, key=lambda k: stats.median(gains[k]), default=None)
    return None if best is None else (best, stats.summarise(gains[best], "×"))


def _median_verify_s(turn_costs: Sequence[SpeculationCosts]) -> dict[int, float]:
    """Number of tokens → median seconds to evaluate them at once."""
    pooled: dict[int, list[float]] = {}
    for costs in turn_costs:
        for size, values in costs.verify_s.items():
            pooled.setdefault(size, []).extend(values)
    return {size: stats.median(values) for size, values in pooled.items()}


def iterate_turns(record: Record, number: int | None = None) -> Iterator[Turn]:
    """The turns of all rounds, or of round ``number``."""
    return (turn for round_ in record.rounds if number in (None, round_.index) for turn in round_.turns)


def _has_decode_rate(round_: Round, number: int | None) -> bool:
    return number in (None, round_.index) and bool(round_.metrics.get("decode_tps"))


def median(values: Sequence[float]) -> float | None:
    return stats.median(values) if values else None


def _turn_costs(records: Sequence[Record], number: int | None) -> list[SpeculationCosts]:
    return [turn.costs for record in records for turn in iterate_turns(record, number) if turn.costs is not None]


def find_baselines(records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """Records of the target alone, the first trial of each sweep; and of the draft alone, which is measured
    if the engine does not report the time of draft steps."""
    baselines = [record for record in records if record.trial.options.get("k") == 0]
    targets = [record for record in baselines if record.trial.model == baselines[0].trial.model]
    return targets, [record for record in baselines if record.trial.model != baselines[0].trial.model]


def find_sweep(records: Sequence[Record], one: Record) -> Sequence[Record]:
    """The records of the sweep that ``one`` belongs to; a run of ``--k auto`` has two sweeps."""
    targets, _ = find_baselines(records)
    starts = [index for index, record in enumerate(records) if record in targets]
    parts = (records[begin:end] for begin, end in itertools.pairwise([*starts, len(records)]))
    return next((sweep for sweep in parts if one in sweep), records)
