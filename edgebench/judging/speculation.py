"""Sweeps over the number of draft tokens, afterwards: the speed-up, the verdict and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edgebench.core import Doubt, Metric, MetricDefinition, Record, Round, SpeculationCounts, SweepRound
from edgebench.judging import costs, doubts, metrics, stats
from edgebench.judging.metrics.speculation import (
    drafts_without_model,
    extra_evaluated,
    proposed_per_verification,
)
from edgebench.judging.over_rounds import over_rounds


def completed(records: Sequence[Record]) -> list[Record]:
    """The records of one sweep with ``speedup`` (paired by round with the baseline's) and
    ``predicted_speedup`` added, and a doubt where the two don't go together."""
    targets, _ = costs.alone(records)
    if not targets:
        return list(records)
    entries = [entry for entry in metrics.known().values() if entry.compute_in_sweep]
    known = [costs.measured(records, one.index) for one in targets[0].rounds]
    done = []
    for record in records:
        if not record.trial.options.get("k"):
            said = (turn.costs.absent for turn in costs.turns(record) if turn.costs and turn.costs.absent)
            notes = [f"no predicted speed-up: {reason}" for reason in said]
            done.append(replace(record, notes=(*record.notes, *notes[:1])))
            continue
        rounds = [_in_sweep(entries, SweepRound(one, record, records)) for one in record.rounds]
        figures = {**record.metrics, **_only(over_rounds(rounds), *(entry.name for entry in entries))}
        if "predicted_speedup" in figures and any(found and found.method for found in known):
            method = next(found.method for found in known if found and found.method)
            predicted = figures["predicted_speedup"]
            figures["predicted_speedup"] = replace(predicted, note="; ".join(filter(None, (predicted.note, method))))
        found = _surprise(figures)
        done.append(
            replace(record, rounds=tuple(rounds), metrics=figures, doubts=(*record.doubts, *([found] if found else [])))
        )
    return done


def _in_sweep(entries: Sequence[MetricDefinition], data: SweepRound) -> Round:
    computed = ((entry.name, entry.compute_in_sweep(data)) for entry in entries if entry.compute_in_sweep)
    found = {name: value for name, value in computed if value is not None}
    return replace(data.round, metrics={**data.round.metrics, **found})


SURPRISE = 0.10
"""A measured speed-up that differs from the predicted one by more than this share, and by more than
both intervals, was not made by acceptance and costs alone."""


def _surprise(figures: Mapping[str, Metric]) -> Doubt | None:
    measured, predicted = figures.get("speedup"), figures.get("predicted_speedup")
    if measured is None or predicted is None:
        return None
    if None in (measured.low, measured.high, predicted.low, predicted.high):
        return None
    apart = measured.low > predicted.high or predicted.low > measured.high  # type: ignore[operator]
    if not apart or abs(measured.value / predicted.value - 1) <= SURPRISE:
        return None
    return doubts.named("prediction", f"measured {measured.value:.2f}×, predicted {predicted.value:.2f}×")


def _only(figures: Mapping[str, Metric], *names: str) -> dict[str, Metric]:
    return {name: figures[name] for name in names if name in figures}


@dataclass(frozen=True)
class Verdict:
    """What a sweep says in one sentence."""

    best: Record | None
    text: str


def verdict(records: Sequence[Record]) -> Verdict:
    """The K with the highest speed-up, or that no K helps, or that it couldn't be shown."""
    best = fastest(records)
    if best is None:
        return Verdict(None, "no speed-up was measured")
    metric = best.metrics["speedup"]
    name = f"{best.trial.options['draft']} with k = {best.trial.options['k']}"
    faster = f"{metric.value:.2f}× the target alone{_between(metric)}"
    if metric.value <= 1:
        return Verdict(None, f"no K helps: the best, {name}, is {faster}")
    if metric.low is None or metric.low <= 1 or _rounds(best) < stats.FEW:
        return Verdict(None, f"no K is shown to help: the best, {name}, is {faster}; more rounds may tell")
    return Verdict(best, f"{name} is best: {faster}")


def _between(metric: Metric) -> str:
    return f" ({metric.low:.2f}–{metric.high:.2f})" if metric.low is not None and metric.high is not None else ""


def fastest(records: Sequence[Record]) -> Record | None:
    """That with the highest speed-up of those with most rounds: of fewer was what only served to predict."""
    measured = [record for record in records if "speedup" in record.metrics]
    most = max(map(_rounds, measured), default=0)
    found = [record for record in measured if _rounds(record) == most]
    return max(found, key=lambda record: record.metrics["speedup"].value, default=None)


def why(records: Sequence[Record]) -> list[str]:
    """Where the time of the fastest K goes, by the costs that were measured, and what these allow at most."""
    known, best = costs.measured(records), fastest(records)
    one = known.verification(1) if known else None
    if known is None or best is None or one is None:
        return []
    found = []
    model = best.trial.options.get("draft") not in drafts_without_model(best.trial.engine)
    each = [proposed for proposed in map(proposed_per_verification, best.rounds) if proposed is not None]
    proposed, per_step = costs.median(each), best.metrics.get("tokens_per_verification")
    checking = known.verification(proposed + 1) if proposed is not None else None
    extra = costs.median([extra_evaluated(one) for one in best.rounds])
    drafting = known.drafting(proposed or 0.0, extra or 0.0) if model else 0.0
    if proposed is not None and per_step is not None and checking is not None and drafting is not None:
        found.append(
            f"why: with k = {best.trial.options['k']} a step takes {1e3 * drafting:.0f} ms to draft "
            f"{proposed:.1f} tokens and {1e3 * checking:.0f} ms to check them, and yields {per_step.value:.2f}; "
            f"the target alone takes {1e3 * one * per_step.value:.0f} ms for these"
        )
    if model and (most := costs.allowed(costs.sweep_of(records, best))):
        k, gain = most
        allowed = f"{gain.value:.2f}× at most{_between(gain)}"
        found.append(f"with every draft token accepted these costs allow a long text {allowed}, at k = {k}")
    return found


def _rounds(record: Record) -> int:
    return sum(value is not None for value in record.metrics["speedup"].rounds)


def likely(records: Sequence[Record], ks: Sequence[int], count: int) -> list[int]:
    """The ``count`` values of ``ks`` with the highest predicted speed-up for each draft, from one long one.

    ``records``: a baseline with costs, and each draft at one K at least as long as any of ``ks``.
    """
    known = costs.measured(records)
    if known is None:
        return []
    best: set[int] = set()
    for long in records:
        if not long.trial.options.get("k"):
            continue
        model = long.trial.options.get("draft") not in drafts_without_model(long.trial.engine)
        scores: dict[int, float] = {}
        for k in ks:
            step = _shorter(long, k, whole=model and "p_min" not in long.trial.options)
            value = known.predicted(*step[:2], draft=model, extra=step[2]) if step else None
            if value is not None:
                scores[k] = value
        best.update(sorted(scores, key=lambda k: -scores[k])[:count])
    return sorted(best)


def _shorter(long: Record, k: int, whole: bool) -> tuple[float, float, float] | None:
    """Tokens a verification, tokens proposed for it, and tokens that the draft evaluated beside these,
    had a long draft been at most ``k`` tokens.

    With its acceptance by position: a shorter draft is accepted as far as the longer one, cut off.
    Without: as if every token had the same chance (Leviathan et al. 2023, eq. 1). ``whole``: only the
    end of the text ever cut a draft short; else drafts are as long as they found something, or were sure.
    """
    steps, proposed, accepted = _by_position(long)
    if not proposed:
        chance = _chance(long)
        return None if chance is None else (sum(chance**i for i in range(k + 1)), k, chance**k)
    if not whole:
        extra = costs.median([extra_evaluated(one) for one in long.rounds]) or 0.0
        return 1 + sum(accepted[:k]) / steps, sum(proposed[:k]) / steps, extra
    reach = [a / p for a, p in zip(accepted[:k], proposed[:k], strict=True) if p]
    return (1 + sum(reach), k, reach[-1]) if len(reach) == k else None


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


def _by_position(record: Record) -> tuple[int, list[int], list[int]]:
    """Verifications; and by position in the draft how many tokens were proposed, and accepted."""
    steps = 0
    proposed: list[int] = []
    accepted: list[int] = []
    for turn in costs.turns(record):
        told = turn.speculation or SpeculationCounts()
        steps += told.steps
        for sums, values in ((proposed, told.proposed_by_position), (accepted, told.accepted_by_position)):
            sums.extend([0] * (len(values) - len(sums)))
            for place, value in enumerate(values):
                sums[place] += value
    accepted.extend([0] * (len(proposed) - len(accepted)))
    return steps, proposed, accepted
