"""Speculative decoding: acceptance, speed-up, and what these follow from."""

from __future__ import annotations

from edgebench.core import MetricDefinition

METRICS = (
    MetricDefinition(
        "acceptance",
        "ratio",
        "acceptance rate",
        "accepted draft tokens ÷ proposed draft tokens; the target's bonus token is not counted",
        "higher",
        short_title="acceptance",
        source="Leviathan et al. 2023, arXiv 2211.17192: the observed rate, not their α",
    ),
    MetricDefinition(
        "speedup",
        "×",
        "speed-up",
        "decode_tps with the draft ÷ decode_tps of the target alone, paired by round",
        "higher",
        short_title="speed-up",
        source="Leviathan et al. 2023, arXiv 2211.17192: their walltime improvement, measured",
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
    ),
    MetricDefinition(
        "tokens_per_verification",
        "tokens",
        "tokens per verification",
        "generated tokens (excluding the first) ÷ target evaluations; 1 without a draft",
        "higher",
        short_title="tokens a check",
        source="Leviathan et al. 2023, arXiv 2211.17192, eq. 1, measured",
    ),
)
