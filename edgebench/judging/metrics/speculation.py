"""Speculative decoding: acceptance, speed-up, and what these follow from."""

from __future__ import annotations

from edgebench import plugins
from edgebench.core import MetricDefinition, Round, RoundData, SweepRound, Turn
from edgebench.judging import costs
from edgebench.judging.metrics.rates import decoded


def _drafted(data: RoundData) -> list[Turn]:
    return [turn for turn in decoded(data) if turn.draft_tokens is not None]


def acceptance(data: RoundData) -> float | None:
    turns = _drafted(data)
    proposed = sum(turn.draft_tokens or 0 for turn in turns)
    return sum(turn.draft_accepted or 0 for turn in turns) / proposed if proposed else None


def tokens_per_verification(data: RoundData) -> float | None:
    turns = _drafted(data)
    accepted = sum(turn.draft_accepted or 0 for turn in turns)
    generated = sum(turn.completion_tokens - 1 for turn in turns)
    # Each verification yields one token of the target's own beside those it accepts.
    return generated / (generated - accepted) if generated > accepted else None


def drafts_without_model(engine: str) -> tuple[str, ...]:
    """What an engine can draft with where there is no draft model."""
    return tuple(getattr(plugins.load("engines", engine), "drafts_without_model", ()))


def extra_evaluated(one: Round) -> float:
    """Tokens a verification that the draft evaluated beside those it proposed, where the engine tells."""
    told = [turn.speculation for turn in one.turns if turn.speculation]
    steps = sum(each.steps for each in told)
    beside = sum(each.draft_evaluated - sum(each.proposed_by_position) for each in told)
    return max(0.0, beside / steps) if steps else 0.0


def proposed_per_verification(one: Round) -> float | None:
    """Draft tokens proposed a verification."""
    counted = [turn for turn in one.turns if turn.draft_tokens and "decode" in turn.measures]
    steps = sum(turn.completion_tokens - 1 - (turn.draft_accepted or 0) for turn in counted)
    return sum(turn.draft_tokens or 0 for turn in counted) / steps if steps > 0 else None


def _baseline(data: SweepRound) -> Round | None:
    """The same round of the target alone."""
    targets, _ = costs.alone(data.records)
    rounds = targets[0].rounds if targets and data.record.trial.options.get("k") else ()
    return next((one for one in rounds if one.index == data.round.index), None)


def speedup(data: SweepRound) -> float | None:
    alone, rate = _baseline(data), data.round.metrics.get("decode_tps")
    base = alone.metrics.get("decode_tps") if alone else None
    return rate / base if base and rate is not None else None


def predicted_speedup(data: SweepRound) -> float | None:
    known = costs.measured(data.records, data.round.index) if _baseline(data) else None
    proposed = proposed_per_verification(data.round)
    per_step = data.round.metrics.get("tokens_per_verification")
    if known is None or proposed is None or per_step is None:
        return None
    trial = data.record.trial
    model = trial.options.get("draft") not in drafts_without_model(trial.engine)
    return known.predicted(per_step, proposed, draft=model, extra=extra_evaluated(data.round))


METRICS = (
    MetricDefinition(
        "acceptance",
        "ratio",
        "acceptance rate",
        "accepted draft tokens ÷ proposed draft tokens; the target's bonus token is not counted",
        "higher",
        short_title="acceptance",
        source="Leviathan et al. 2023, arXiv 2211.17192: the observed rate, not their α",
        compute=acceptance,
    ),
    MetricDefinition(
        "speedup",
        "×",
        "speed-up",
        "decode_tps with the draft ÷ decode_tps of the target alone, paired by round",
        "higher",
        short_title="speed-up",
        source="Leviathan et al. 2023, arXiv 2211.17192: their walltime improvement, measured",
        compute_in_sweep=speedup,
    ),
    MetricDefinition(
        "predicted_speedup",
        "×",
        "predicted speed-up",
        "tokens_per_verification × T(1) ÷ (K̄ × T_draft + T(K̄ + 1)): the speed-up expected from "
        "acceptance and the measured costs, where T(n) is the time to verify n tokens at once, T_draft "
        "the time of one draft step and K̄ the mean number of proposed tokens",
        "higher",
        short_title="predicted",
        source="Leviathan et al. 2023, arXiv 2211.17192, theorem 3.8, with measured costs",
        compute_in_sweep=predicted_speedup,
    ),
    MetricDefinition(
        "tokens_per_verification",
        "tokens",
        "tokens per verification",
        "generated tokens (excluding the first) ÷ target evaluations; 1 without a draft",
        "higher",
        short_title="tokens a check",
        source="Leviathan et al. 2023, arXiv 2211.17192, eq. 1, measured",
        compute=tokens_per_verification,
    ),
)
