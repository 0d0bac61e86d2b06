"""Duration of an engine's start."""

from __future__ import annotations

from edgebench.core import MetricDefinition, RoundData


def load_time(data: RoundData) -> float | None:
    return data.start.seconds if data.start else None


def compile_time(data: RoundData) -> float | None:
    return data.start.compile_s if data.start else None


METRICS = (
    MetricDefinition(
        "load_s",
        "s",
        "load time",
        "time from the start of the engine process to its first successful readiness check, fresh starts "
        "only; on the device's clock if available. Rounds of different regimes (first, cold, warm) are "
        "never mixed; the note names the regime",
        "lower",
        short_title="load",
        heading="load time",
        headline=True,
        compute=load_time,
    ),
    MetricDefinition(
        "compile_s",
        "s",
        "compile time",
        "time the engine spent compiling the model for this device when no compiled model was cached; "
        "not included in load_s, which is measured on the start that follows",
        "lower",
        compute=compile_time,
    ),
)
