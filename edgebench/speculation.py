"""Sweeps over the number of draft tokens, afterwards: the speed-up, and what it should have been.

With p the target's and q the draft's distribution, a step proposes K tokens and verifies them with
one evaluation of K + 1. Leviathan et al. 2023 (arXiv 2211.17192, theorem 3.8) give the speed-up as
(1 − α^(K+1)) ÷ ((1 − α)(Kc + 1)) for independent acceptances of chance α and a verification that
costs as much as one token. On a CPU it costs more, so here both are measured:

    predicted = tokens per verification × T(1) ÷ (K̄ × T_draft + T(K̄ + 1))

T(n): evaluating n tokens at once, T_draft: one step of the draft, K̄: tokens proposed a step.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgebench import plugins, stats
from edgebench.core import Record, Round


def drafts_without_model(engine: str) -> tuple[str, ...]:
    """What an engine can draft with where there is no draft model."""
    return tuple(plugins.load("engines", engine).drafts_without_model)


@dataclass(frozen=True)
class Costs:
    """Medians of what was measured beside the baseline, seconds."""

    verify_s: Mapping[int, float]
    draft_s: float | None

    def verification(self, tokens: float) -> float | None:
        """Seconds for verifying so many tokens at once, between the measured sizes by a line."""
        sizes = sorted(self.verify_s)
        for low, high in itertools.pairwise(sizes):
            if low <= tokens <= high:
                share = (tokens - low) / (high - low)
                return self.verify_s[low] * (1 - share) + self.verify_s[high] * share
        return self.verify_s.get(int(tokens)) if tokens in self.verify_s else None

    def predicted(self, tokens_per_verification: float, proposed: float, draft: bool) -> float | None:
        """The speed-up that follows from acceptance and costs; ``proposed``: draft tokens a step."""
        one, several = self.verification(1), self.verification(proposed + 1)
        if one is None or several is None or (draft and self.draft_s is None):
            return None
        drafting = proposed * (self.draft_s or 0.0) if draft else 0.0
        return tokens_per_verification * one / (drafting + several)


def costs(baseline: Record) -> Costs | None:
    """Of all rounds of a baseline that measured them."""
    verify: dict[int, list[float]] = {}
    draft: list[float] = []
    for turn in (turn for one in baseline.rounds for turn in one.turns):
        found = turn.get("costs") or {}
        for size, values in found.get("verify_s", {}).items():
            verify.setdefault(int(size), []).extend(values)
        draft.extend(found.get("draft_s", ()))
    if not verify:
        return None
    medians = {size: stats.median(values) for size, values in verify.items()}
    return Costs(medians, stats.median(draft) if draft else None)


def completed(records: Sequence[Record]) -> list[Record]:
    """The records of a sweep with ``speedup`` (paired by round with the baseline's) and
    ``predicted_speedup`` added, and a note where a text is not the baseline's."""
    baseline = next((record for record in records if record.trial.options.get("k") == 0), None)
    if baseline is None:
        return list(records)
    known = costs(baseline)
    alone = {one.index: one for one in baseline.rounds}
    done = []
    for record in records:
        if record is baseline:
            done.append(record)
            continue
        model = record.trial.options.get("draft") not in drafts_without_model(record.trial.engine)
        rounds = [_with_speedup(one, alone.get(one.index), known, model) for one in record.rounds]
        metrics = {**record.metrics, **_only(stats.over_rounds(rounds), "speedup", "predicted_speedup")}
        notes = (*record.notes, *_parting(rounds, alone, record))
        done.append(replace(record, rounds=tuple(rounds), metrics=metrics, notes=notes))
    return done


def _only(metrics: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: metrics[name] for name in names if name in metrics}


def _with_speedup(one: Round, alone: Round | None, known: Costs | None, model: bool) -> Round:
    metrics = dict(one.metrics)
    if alone and alone.metrics.get("decode_tps") and "decode_tps" in metrics:
        metrics["speedup"] = metrics["decode_tps"] / alone.metrics["decode_tps"]
    proposed = _proposed_per_step(one)
    per_step = metrics.get("tokens_per_verification")
    if known and proposed is not None and per_step is not None:
        predicted = known.predicted(per_step, proposed, model)
        if predicted is not None:
            metrics["predicted_speedup"] = predicted
    return replace(one, metrics=metrics)


def _proposed_per_step(one: Round) -> float | None:
    """Draft tokens proposed a verification."""
    counted = [turn for turn in one.turns if "draft_tokens" in turn and "decode" in turn["measures"]]
    steps = sum(turn["completion_tokens"] - 1 - turn["draft_accepted"] for turn in counted)
    return sum(turn["draft_tokens"] for turn in counted) / steps if steps > 0 else None


def _parting(rounds: Sequence[Round], alone: Mapping[int, Round], record: Record) -> list[str]:
    """Where a greedy text isn't the baseline's: said, as it should only happen at a tie."""

    def text(one: Round) -> str:
        return "".join(str(turn.get("text", "")) for turn in one.turns if "decode" in turn["measures"])

    for one in rounds:
        if one.index in alone and text(one) != text(alone[one.index]):
            mine, its = text(one), text(alone[one.index])
            equal = next((i for i, (a, b) in enumerate(zip(mine, its, strict=False)) if a != b), 0)
            draft, k = record.trial.options.get("draft"), record.trial.options.get("k")
            return [f"{draft} with k {k}: its text parts from the target's own after {equal} characters"]
    return []


@dataclass(frozen=True)
class Verdict:
    """What a sweep says in one sentence."""

    best: Record | None
    text: str


def verdict(records: Sequence[Record]) -> Verdict:
    """The K with the highest speed-up, or that no K helps, or that it couldn't be shown."""
    found = [record for record in records if "speedup" in record.metrics]
    if not found:
        return Verdict(None, "no speed-up was measured")
    best = max(found, key=lambda record: record.metrics["speedup"].value)
    metric = best.metrics["speedup"]
    name = f"{best.trial.options['draft']} with k = {best.trial.options['k']}"
    between = f" ({metric.low:.2f}–{metric.high:.2f})" if metric.low is not None and metric.high is not None else ""
    if metric.value <= 1:
        return Verdict(None, f"no K helps: the best, {name}, is {metric.value:.2f}× the target alone{between}")
    rounds = sum(value is not None for value in metric.rounds)
    if metric.low is None or metric.low <= 1 or rounds < stats.FEW:
        text = f"no K is shown to help: the best, {name}, is {metric.value:.2f}× the target alone{between}"
        return Verdict(None, text + "; more rounds may tell")
    return Verdict(best, f"{name} is best: {metric.value:.2f}× the target alone{between}")


def likely(records: Sequence[Record], ks: Sequence[int], count: int) -> list[int]:
    """The ``count`` values of ``ks`` with the highest predicted speed-up, from one long draft.

    ``records``: a baseline with costs, and one K at least as long as any of ``ks`` with its
    acceptance by position: a shorter draft is accepted as far as a longer one, cut off.
    """
    known = costs(records[0])
    proposed, accepted = _by_position(records[1])
    if known is None or not proposed:
        return []
    scores: dict[int, float] = {}
    for k in ks:
        reach = [a / p for a, p in zip(accepted[:k], proposed[:k], strict=True) if p]
        value = known.predicted(1 + sum(reach), k, draft=True) if len(reach) == k else None
        if value is not None:
            scores[k] = value
    return sorted(sorted(scores, key=lambda k: -scores[k])[:count])


def _by_position(record: Record) -> tuple[list[int], list[int]]:
    proposed: list[int] = []
    accepted: list[int] = []
    for turn in (turn for one in record.rounds for turn in one.turns):
        told = turn.get("speculative") or {}
        for sums, name in ((proposed, "proposed_by_position"), (accepted, "accepted_by_position")):
            values = told.get(name, [])
            sums.extend([0] * (len(values) - len(sums)))
            for place, value in enumerate(values):
                sums[place] += value
    accepted.extend([0] * (len(proposed) - len(accepted)))
    return proposed, accepted
