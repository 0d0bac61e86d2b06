"""What a round's record says beside its metrics: how it was sampled, and under which conditions it ran."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgebench.core.fields import Fields


@dataclass(frozen=True)
class Throttling:
    """The begin of a stretch in which something was throttled."""

    at_s: float | None = None
    """Seconds after the round began."""
    by: str | None = None


@dataclass(frozen=True)
class EnergyNotes:
    """What was metered."""

    metered: tuple[str, ...] = ()
    whole_device: bool | None = None


@dataclass(frozen=True)
class GateNotes:
    """How long the device was waited for, and what was still not as it should be."""

    waited_s: float | None = None
    missed: tuple[str, ...] = ()


@dataclass(frozen=True)
class RoundNotes:
    """What isn't known is absent; in JSON one flat object, with whatever else is in ``extra``."""

    load_regime: str | None = None
    """Of a round that started its engine: ``first``, ``cold`` or ``warm``."""
    load_clock: str | None = None
    """What told that the model was loaded: the engine's ``log``, or a ``poll``."""
    resident: float | None = None
    """Share of the model in the page cache before the start, 0…1."""
    gate: GateNotes | None = None
    cpu_by_core: Mapping[str, float] = field(default_factory=dict)
    """Mean use of each processor while decoding, 0…1."""
    cpu_by_cluster: Mapping[str, float] = field(default_factory=dict)
    mbu_by_depth: tuple[tuple[float, float], ...] = ()
    """(tokens in the context, memory bandwidth utilization)."""
    mbu_absent: str | None = None
    throttling: tuple[Throttling, ...] = ()
    energy: EnergyNotes | None = None
    sampling_absent: Mapping[str, str] = field(default_factory=dict)
    """Why a quantity could not be read."""
    sampling_cost: float | None = None
    """Share of one processor that the sampler's loop took on the device."""
    clock_uncertainty_s: float | None = None
    extra: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def of(cls, document: object) -> RoundNotes:
        return Fields(document).into(cls)
