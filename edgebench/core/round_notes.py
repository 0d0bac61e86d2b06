"""Notes of a round in addition to its metrics: sampling, and the conditions it ran under."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgebench.core.fields import Fields


@dataclass(frozen=True)
class Throttling:
    """The start of a span of throttling."""

    at_s: float | None = None
    """Seconds after the round began."""
    by: str | None = None


@dataclass(frozen=True)
class EnergyNotes:
    """The power sources that were metered."""

    metered: tuple[str, ...] = ()
    whole_device: bool | None = None


@dataclass(frozen=True)
class GateNotes:
    """How long the round waited for the device to settle, and the conditions that were not met."""

    waited_s: float | None = None
    missed: tuple[str, ...] = ()


@dataclass(frozen=True)
class RoundNotes:
    """Notes of a round; unknown ones are absent. In JSON a flat object, with unknown fields in ``extra``."""

    load_regime: str | None = None
    """If the round started its engine: ``first``, ``cold`` or ``warm``."""
    load_clock: str | None = None
    """How the end of loading was detected: in the engine's ``log``, or by a ``poll``."""
    resident: float | None = None
    """Fraction of the model in the page cache before the start, 0…1."""
    gate: GateNotes | None = None
    cpu_by_core: Mapping[str, float] = field(default_factory=dict)
    """Mean utilization of each CPU while decoding, 0…1."""
    cpu_by_cluster: Mapping[str, float] = field(default_factory=dict)
    mbu_by_depth: tuple[tuple[float, float], ...] = ()
    """(tokens in the context, memory bandwidth utilization)."""
    mbu_absent: str | None = None
    throttling: tuple[Throttling, ...] = ()
    energy: EnergyNotes | None = None
    sampling_absent: Mapping[str, str] = field(default_factory=dict)
    """Quantity → the reason why it could not be sampled."""
    sampling_cost: float | None = None
    """Fraction of one CPU that the sampling loop used on the device."""
    clock_uncertainty_s: float | None = None
    extra: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def from_document(cls, document: object) -> RoundNotes:
        return Fields(document).into(cls)
