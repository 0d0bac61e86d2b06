"""Computes the energy of a time span from power samples, gross and net of an idle baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MIN_COVERAGE = 0.8
"""Share of a span that a source must cover with samples; the rest is extrapolated by the mean."""


@dataclass(frozen=True)
class Energy:
    """Energy of a time span, joules."""

    gross_j: float
    net_j: float | None
    """Minus the idle device's energy over the same time; None without a baseline."""
    seconds: float
    sources: tuple[str, ...]
    """Power meters: the whole device (``battery``, ``psys``) or the parts that are added up."""

    @property
    def covers_device(self) -> bool:
        """Whether the sources cover the whole device, not only some of its parts."""
        return all(source.startswith(("battery", "psys")) for source in self.sources)


def choose_sources(sources: Mapping[str, object]) -> tuple[str, ...]:
    """The sources to add up, without counting anything twice.

    Battery and psys cover the whole device; otherwise processor packages, memory and GPUs are added
    up, which excludes screen, board and losses.
    """
    for prefixes in (("battery",), ("psys",), ("package", "dram", "gpu", "card")):
        names = tuple(sorted(name for name in sources if name.startswith(prefixes)))
        if names:
            return names
    return ()


def energy_between(
    energy_by_source: Mapping[str, tuple[float, float]], seconds: float, idle_w: Mapping[str, float] | None = None
) -> Energy | None:
    """Energy of a time span from joules and seconds by source (``integral("power_w", "of", …)``).

    ``idle_w``: watts of the idle device by source. None without a power meter, or if samples cover less
    than ``MIN_COVERAGE`` of the span.
    """
    names = choose_sources(energy_by_source)
    if not names or seconds <= 0 or any(energy_by_source[name][1] < MIN_COVERAGE * seconds for name in names):
        return None
    gross = sum(energy_by_source[name][0] * seconds / energy_by_source[name][1] for name in names)
    has_baseline = idle_w is not None and all(name in idle_w for name in names)
    net = gross - sum(idle_w[name] for name in names) * seconds if idle_w is not None and has_baseline else None
    return Energy(gross, net, seconds, names)


def total_energy(parts: list[Energy]) -> Energy | None:
    """The sum of several spans; None if their sources differ, or without spans."""
    if not parts or len({part.sources for part in parts}) > 1:
        return None
    net_values = [part.net_j for part in parts if part.net_j is not None]
    return Energy(
        sum(part.gross_j for part in parts),
        sum(net_values) if len(net_values) == len(parts) else None,
        sum(part.seconds for part in parts),
        parts[0].sources,
    )
