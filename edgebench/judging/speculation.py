"""Evaluates finished sweeps over the number of draft tokens: speed-up, verdict and explanation."""

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


def complete_sweep(records: Sequence[Record]) -> list[Record]:
    """Adds ``speedup`` (paired by round with the baseline's) and ``predicted_speedup`` to the records of a
    sweep, and a doubt if the two disagree."""
    targets, _ = costs.find_baselines(records)
    if not targets:
        return list(records)
    entries = [entry for entry in metrics.definitions().values() if entry.compute_in_sweep]
    round_costs = [costs.collect_costs(records, round_.index) for round_ in targets[0].rounds]
    results = []
    for record in records:
        if not record.trial.options.get("k"):
            reasons = (turn.costs.absent for turn in costs.iterate_turns(record) if turn.costs and turn.costs.absent)
            notes = [f"no predicted speed-up: {reason}" for reason in reasons]
            results.append(replace(record, notes=(*record.notes, *notes[:1])))
            continue
        rounds = [_compute_round(entries, SweepRound(round_, record, records)) for round_ in record.rounds]
        sweep_metrics = {**record.metrics, **_select(over_rounds(rounds), *(entry.name for entry in entries))}
        if "predicted_speedup" in sweep_metrics and any(
            costs_found and costs_found.method for costs_found in round_costs
        ):
            method = next(costs_found.method for costs_found in round_costs if costs_found and costs_found.method)
            prediction = sweep_metrics["predicted_speedup"]
            sweep_metrics["predicted_speedup"] = replace(
                prediction, note="; ".join(filter(None, (prediction.note, method)))
            )
        costs_found = _prediction_doubt(sweep_metrics)
        results.append(
            replace(
                record,
                rounds=tuple(rounds),
                metrics=sweep_metrics,
                doubts=(*record.doubts, *([costs_found] if costs_found else [])),
            )
        )
    return results


def _compute_round(entries: Sequence[MetricDefinition], data: SweepRound) -> Round:
    results = ((entry.name, entry.compute_in_sweep(data)) for entry in entries if entry.compute_in_sweep)
    values = {name: value for name, value in results if value is not None}
    return replace(data.round, metrics={**data.round.metrics, **values})


MAX_PREDICTION_ERROR = 0.10
"""Largest relative difference between measured and predicted speed-up; a larger one, with disjoint intervals,
is not explained by acceptance and costs."""


def _prediction_doubt(figures: Mapping[str, Metric]) -> Doubt | None:
    measured, predicted = figures.get("speedup"), figures.get("predicted_speedup")
    if measured is None or predicted is None:
        return None
    if None in (measured.low, measured.high, predicted.low, predicted.high):
        return None
    are_disjoint = measured.low > predicted.high or predicted.low > measured.high  # type: ignore[operator]
    if not are_disjoint or abs(measured.value / predicted.value - 1) <= MAX_PREDICTION_ERROR:
        return None
    return doubts.new_doubt("prediction", f"measured {measured.value:.2f}×, predicted {predicted.value:.2f}×")


def _select(figures: Mapping[str, Metric], *names: str) -> dict[str, Metric]:
    return {name: figures[name] for name in names if name in figures}


@dataclass(frozen=True)
class SweepVerdict:
    """The result of a sweep in one sentence; ``best`` is None unless a speed-up was shown."""

    best: Record | None
    text: str


def verdict(records: Sequence[Record]) -> SweepVerdict:
    """The K with the highest speed-up, or that no K helps, or that the rounds do not show it."""
    best = fastest(records)
    if best is None:
        return SweepVerdict(None, "no speed-up was measured")
    metric = best.metrics["speedup"]
    name = f"{best.trial.options['draft']} with k = {best.trial.options['k']}"
    faster = f"{metric.value:.2f}× the target alone{_format_interval(metric)}"
    if metric.value <= 1:
        return SweepVerdict(None, f"no K helps: the best, {name}, is {faster}")
    if metric.low is None or metric.low <= 1 or _rounds(best) < stats.FEW:
        return SweepVerdict(None, f"no K is shown to help: the best, {name}, is {faster}; run more rounds")
    return SweepVerdict(best, f"{name} is best: {faster}")


def _format_interval(metric: Metric) -> str:
    return f" ({metric.low:.2f}–{metric.high:.2f})" if metric.low is not None and metric.high is not None else ""


def fastest(records: Sequence[Record]) -> Record | None:
    """The record with the highest speed-up among those with the most rounds (``--k auto`` predicts from fewer)."""
    candidates = [record for record in records if "speedup" in record.metrics]
    max_rounds = max(map(_rounds, candidates), default=0)
    complete = [record for record in candidates if _rounds(record) == max_rounds]
    return max(complete, key=lambda record: record.metrics["speedup"].value, default=None)


def explain_best(records: Sequence[Record]) -> list[str]:
    """Explains the time of the fastest K by the measured costs, and the largest speed-up that they allow."""
    all_costs, best = costs.collect_costs(records), fastest(records)
    single_s = all_costs.verification(1) if all_costs else None
    if all_costs is None or best is None or single_s is None:
        return []
    lines = []
    has_model = best.trial.options.get("draft") not in drafts_without_model(best.trial.engine)
    values = [proposed for proposed in map(proposed_per_verification, best.rounds) if proposed is not None]
    proposed, per_step = costs.median(values), best.metrics.get("tokens_per_verification")
    verify_s = all_costs.verification(proposed + 1) if proposed is not None else None
    extra = costs.median([extra_evaluated(single_s) for single_s in best.rounds])
    draft_s = all_costs.drafting(proposed or 0.0, extra or 0.0) if has_model else 0.0
    if proposed is not None and per_step is not None and verify_s is not None and draft_s is not None:
        lines.append(
            f"why: with k = {best.trial.options['k']} a step takes {1e3 * draft_s:.0f} ms to draft "
            f"{proposed:.1f} tokens and {1e3 * verify_s:.0f} ms to check them, and yields {per_step.value:.2f}; "
            f"the target alone takes {1e3 * single_s * per_step.value:.0f} ms for these"
        )
    if has_model and (best_case := costs.predict_best_case(costs.find_sweep(records, best))):
        k, gain = best_case
        limit = f"{gain.value:.2f}× at most{_format_interval(gain)}"
        lines.append(f"with every draft token accepted these costs allow a long text {limit}, at k = {k}")
    return lines


def _rounds(record: Record) -> int:
    return sum(value is not None for value in record.metrics["speedup"].rounds)


def predict_best_lengths(records: Sequence[Record], ks: Sequence[int], count: int) -> list[int]:
    """The ``count`` values of ``ks`` with the highest predicted speed-up for each draft.

    ``records``: a baseline with costs, and each draft at one K at least as large as any of ``ks``.
    """
    all_costs = costs.collect_costs(records)
    if all_costs is None:
        return []
    best: set[int] = set()
    for record in records:
        if not record.trial.options.get("k"):
            continue
        has_model = record.trial.options.get("draft") not in drafts_without_model(record.trial.engine)
        speedups: dict[int, float] = {}
        for k in ks:
            step = _truncate(record, k, full_drafts=has_model and "p_min" not in record.trial.options)
            value = all_costs.predicted(*step[:2], draft=has_model, extra=step[2]) if step else None
            if value is not None:
                speedups[k] = value
        best.update(sorted(speedups, key=lambda k: -speedups[k])[:count])
    return sorted(best)


def _truncate(record: Record, k: int, full_drafts: bool) -> tuple[float, float, float] | None:
    """Tokens per verification, proposed tokens and additional tokens that the draft evaluated, each per
    step, if the drafts had been cut to ``k`` tokens. None if the record has no acceptance.

    With acceptance by position, a shorter draft is accepted as far as the longer one. Without it, every
    token has the same probability (Leviathan et al. 2023, eq. 1). ``full_drafts``: only the end of the text
    shortens a draft; otherwise a draft ends when nothing more is proposed.
    """
    steps, proposed, accepted = _positions(record)
    if not proposed:
        probability = _acceptance_probability(record)
        return None if probability is None else (sum(probability**i for i in range(k + 1)), k, probability**k)
    if not full_drafts:
        extra = costs.median([extra_evaluated(one) for one in record.rounds]) or 0.0
        return 1 + sum(accepted[:k]) / steps, sum(proposed[:k]) / steps, extra
    rates = [a / p for a, p in zip(accepted[:k], proposed[:k], strict=True) if p]
    return (1 + sum(rates), k, rates[-1]) if len(rates) == k else None


def _acceptance_probability(record: Record) -> float | None:
    """α, by bisection: tokens per verification = 1 + α + … + α^K."""
    metric, k = record.metrics.get("tokens_per_verification"), int(record.trial.options["k"])
    if metric is None:
        return None
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        is_enough = sum(middle**i for i in range(k + 1)) >= metric.value
        low, high = (low, middle) if is_enough else (middle, high)
    return (low + high) / 2


def _positions(record: Record) -> tuple[int, list[int], list[int]]:
    """Number of verifications; and proposed and accepted tokens by position in the draft."""
    steps = 0
    proposed: list[int] = []
    accepted: list[int] = []
    for turn in costs.iterate_turns(record):
        counts = turn.speculation or SpeculationCounts()
        steps += counts.steps
        for sums, values in ((proposed, counts.proposed_by_position), (accepted, counts.accepted_by_position)):
            sums.extend([0] * (len(values) - len(sums)))
            for position, value in enumerate(values):
                sums[position] += value
    accepted.extend([0] * (len(proposed) - len(accepted)))
    return steps, proposed, accepted
