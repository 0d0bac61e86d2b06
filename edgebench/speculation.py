"""Sweeps over the number of draft tokens, afterwards: the speed-up, and what it should have been.

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
from dataclasses import dataclass, replace
from typing import Any

from edgebench import doubts, plugins, stats
from edgebench.core import Doubt, Json, Metric, Record, Round


def drafts_without_model(engine: str) -> tuple[str, ...]:
    """What an engine can draft with where there is no draft model."""
    return tuple(getattr(plugins.load("engines", engine), "drafts_without_model", ()))


@dataclass(frozen=True)
class Costs:
    """Medians of what was measured beside the baseline, seconds."""

    verify_s: Mapping[int, float]
    draft_s: float | None = None
    """One step of the draft."""
    first_draft_s: float | None = None
    """Its first step, after the target has used the caches; None: as the others."""
    method: str = ""
    """How they were measured, where that is not by evaluating exactly what they are named for."""

    def verification(self, tokens: float) -> float | None:
        """Seconds for verifying so many tokens at once, between the measured sizes by a line."""
        sizes = sorted(self.verify_s)
        for low, high in itertools.pairwise(sizes):
            if low <= tokens <= high:
                share = (tokens - low) / (high - low)
                return self.verify_s[low] * (1 - share) + self.verify_s[high] * share
        return self.verify_s.get(int(tokens)) if tokens in self.verify_s else None

    def drafting(self, tokens: float) -> float | None:
        """Seconds for proposing so many tokens."""
        if self.draft_s is None:
            return None
        first = self.draft_s if self.first_draft_s is None else self.first_draft_s
        return min(tokens, 1.0) * first + max(tokens - 1.0, 0.0) * self.draft_s

    def predicted(self, tokens_per_verification: float, proposed: float, draft: bool) -> float | None:
        """The speed-up that follows from acceptance and costs; ``proposed``: draft tokens a step."""
        one, several = self.verification(1), self.verification(proposed + 1)
        drafting = self.drafting(proposed) if draft else 0.0
        if one is None or several is None or drafting is None:
            return None
        return tokens_per_verification * one / (drafting + several)


def costs(records: Sequence[Record], number: int | None = None) -> Costs | None:
    """What a sweep measured, in all rounds or in one; None where verification wasn't measured."""
    baseline, alone = _baseline(records), _draft_alone(records)
    if baseline is None:
        return None
    verify: dict[int, list[float]] = {}
    first: list[float] = []
    later: list[float] = []
    method = ""
    for turn in _turns(baseline, number):
        found = turn.get("costs") or {}
        method = found.get("method", method)
        for size, values in found.get("verify_s", {}).items():
            verify.setdefault(int(size), []).extend(values)
        for steps in found.get("draft_s", ()):
            first.append(steps[0])
            later.extend(steps[1:])
    if not verify:
        return None
    if alone is not None:
        later = [1 / one.metrics["decode_tps"] for one in alone.rounds if _counts(one, number)]
    medians = {size: stats.median(values) for size, values in verify.items()}
    later = later or first
    return Costs(medians, _median(later), _median(first), method)


def _turns(record: Record, number: int | None = None) -> Iterator[Mapping[str, Json]]:
    """Of all rounds, or of one."""
    return (turn for one in record.rounds if number in (None, one.index) for turn in one.turns)


def _counts(one: Round, number: int | None) -> bool:
    return number in (None, one.index) and bool(one.metrics.get("decode_tps"))


def _median(values: Sequence[float]) -> float | None:
    return stats.median(values) if values else None


def _baseline(records: Sequence[Record]) -> Record | None:
    """The target alone: a sweep's first trial."""
    return next((record for record in records if record.trial.options.get("k") == 0), None)


def _draft_alone(records: Sequence[Record]) -> Record | None:
    """The draft measured as a model of its own, where the engine tells nothing of its steps."""
    baseline = _baseline(records)
    others = (record for record in records if record.trial.options.get("k") == 0 and record is not baseline)
    return next((record for record in others if baseline and record.trial.model != baseline.trial.model), None)


def completed(records: Sequence[Record]) -> list[Record]:
    """The records of a sweep with ``speedup`` (paired by round with the baseline's) and
    ``predicted_speedup`` added, and a doubt where the two don't go together."""
    baseline = _baseline(records)
    if baseline is None:
        return list(records)
    known = {one.index: costs(records, one.index) for one in baseline.rounds}
    alone = {one.index: one for one in baseline.rounds}
    done = []
    for record in records:
        if not record.trial.options.get("k"):
            why = next((turn["costs"]["absent"] for turn in _turns(record) if "absent" in turn.get("costs", ())), "")
            done.append(replace(record, notes=(*record.notes, *([f"no predicted speed-up: {why}"] if why else ()))))
            continue
        model = record.trial.options.get("draft") not in drafts_without_model(record.trial.engine)
        rounds = [_with_speedup(one, alone.get(one.index), known.get(one.index), model) for one in record.rounds]
        metrics = {**record.metrics, **_only(stats.over_rounds(rounds), "speedup", "predicted_speedup")}
        if "predicted_speedup" in metrics and any(found and found.method for found in known.values()):
            method = next(found.method for found in known.values() if found and found.method)
            predicted = metrics["predicted_speedup"]
            metrics["predicted_speedup"] = replace(predicted, note="; ".join(filter(None, (predicted.note, method))))
        found = _surprise(metrics)
        done.append(
            replace(record, rounds=tuple(rounds), metrics=metrics, doubts=(*record.doubts, *([found] if found else [])))
        )
    return done


SURPRISE = 0.10
"""A measured speed-up that differs from the predicted one by more than this share, and by more than
both intervals, was not made by acceptance and costs alone."""


def _surprise(metrics: Mapping[str, Metric]) -> Doubt | None:
    measured, predicted = metrics.get("speedup"), metrics.get("predicted_speedup")
    if measured is None or predicted is None:
        return None
    if None in (measured.low, measured.high, predicted.low, predicted.high):
        return None
    apart = measured.low > predicted.high or predicted.low > measured.high  # type: ignore[operator]
    if not apart or abs(measured.value / predicted.value - 1) <= SURPRISE:
        return None
    return doubts.named("prediction", f"measured {measured.value:.2f}×, predicted {predicted.value:.2f}×")


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

    ``records``: a baseline with costs, and one K at least as long as any of ``ks``. With its
    acceptance by position: a shorter draft is accepted as far as the longer one, cut off. Without:
    as if every token had the same chance (Leviathan et al. 2023, eq. 1).
    """
    known = costs(records)
    if known is None:
        return []
    proposed, accepted = _by_position(records[1])
    chance = None if proposed else _chance(records[1])
    scores: dict[int, float] = {}
    for k in ks:
        if chance is not None:
            reach = [chance**i for i in range(1, k + 1)]
        else:
            reach = [a / p for a, p in zip(accepted[:k], proposed[:k], strict=True) if p]
        value = known.predicted(1 + sum(reach), k, draft=True) if len(reach) == k else None
        if value is not None:
            scores[k] = value
    return sorted(sorted(scores, key=lambda k: -scores[k])[:count])


def _chance(record: Record) -> float | None:
    """α, by bisection: tokens per verification = 1 + α + … + α^K."""
    metric, k = record.metrics.get("tokens_per_verification"), int(record.trial.options["k"])
    if metric is None:
        return None
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        enough = sum(middle**i for i in range(k + 1)) >= metric.value
        low, high = (low, middle) if enough else (middle, high)
    return (low + high) / 2


def _by_position(record: Record) -> tuple[list[int], list[int]]:
    proposed: list[int] = []
    accepted: list[int] = []
    for turn in _turns(record):
        told = turn.get("speculative") or {}
        for sums, name in ((proposed, "proposed_by_position"), (accepted, "accepted_by_position")):
            values = told.get(name, [])
            sums.extend([0] * (len(values) - len(sums)))
            for place, value in enumerate(values):
                sums[place] += value
    accepted.extend([0] * (len(proposed) - len(accepted)))
    return proposed, accepted
