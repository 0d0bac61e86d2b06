"""Metrics of speculative decoding: acceptance, speed-up and what they depend on."""

from __future__ import annotations

from edgebench import plugins
from edgebench.core import MetricDefinition, Round, RoundData, SweepRound, Turn
from edgebench.judging import costs
from edgebench.judging.metrics.rates import decode_turns


def _draft_turns(data: RoundData) -> list[Turn]:
    return [turn for turn in decode_turns(data) if turn.draft_tokens is not None]


def acceptance(data: RoundData) -> float | None:
    turns = _draft_turns(data)
    proposed = sum(turn.draft_tokens or 0 for turn in turns)
    return sum(turn.draft_accepted or 0 for turn in turns) / proposed if proposed else None


def tokens_per_verification(data: RoundData) -> float | None:
    turns = _draft_turns(data)
    accepted = sum(turn.draft_accepted or 0 for turn in turns)
    generated = sum(turn.completion_tokens - 1 for turn in turns)
    # Each verification yields one token of the target's own in addition to those it accepts.
    return generated / (generated - accepted) if generated > accepted else None


def drafts_without_model(engine: str) -> tuple[str, ...]:
    """An engine's methods to draft without a draft model."""
    return tuple(getattr(plugins.load("engines", engine), "drafts_without_model", ()))


def extra_evaluated(round_: Round) -> float:
    """Tokens per verification that the draft evaluated beyond those it proposed; 0 if the engine does not report it."""
    counts = [turn.speculation for turn in round_.turns if turn.speculation]
    steps = sum(count.steps for count in counts)
    extra = sum(count.draft_evaluated - sum(count.proposed_by_position) for count in counts)
    return max(0.0, extra / steps) if steps else 0.0


def proposed_per_verification(round_: Round) -> float | None:
    """Draft tokens proposed per verification; None without verifications."""
    turns = [turn for turn in round_.turns if turn.draft_tokens and "decode" in turn.measures]
    steps = sum(turn.completion_tokens - 1 - (turn.draft_accepted or 0) for turn in turns)
    return sum(turn.draft_tokens or 0 for turn in turns) / steps if steps > 0 else None


def _baseline(data: SweepRound) -> Round | None:
    """The same round of the target alone."""
    targets, _ = costs.find_baselines(data.records)
    rounds = targets[0].rounds if targets and data.record.trial.options.get("k") else ()
    return next((round_ for round_ in rounds if round_.index == data.round.index), None)


def speedup(data: SweepRound) -> float | None:
    baseline, rate = _baseline(data), data.round.metrics.get("decode_tps")
    baseline_rate = baseline.metrics.get("decode_tps") if baseline else None
    return rate / baseline_rate if baseline_rate and rate is not None else None


def predicted_speedup(data: SweepRound) -> float | None:
    round_costs = costs.collect_costs(data.records, data.round.index) if _baseline(data) else None
    proposed = proposed_per_verification(data.round)
    per_step = data.round.metrics.get("tokens_per_verification")
    if round_costs is None or proposed is None or per_step is None:
        return None
    trial = data.record.trial
    has_model = trial.options.get("draft") not in drafts_without_model(trial.engine)
    return round_costs.predicted(per_step, proposed, draft=has_model, extra=extra_evaluated(data.round))


METRICS = (
    MetricDefinition(
        "acceptance",
        "ratio",
        "acceptance rate",
        "accepted draft tokens ÷ proposed draft tokens; the target's bonus token is not counted",
        "higher",
        short_title="acceptance",
        heading="accepted",
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
