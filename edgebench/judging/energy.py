"""From power readings to joules of a stretch of time, gross and net of an idle baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

COVERED = 0.8
"""Share of a stretch that a source must have readings for; the rest is taken as the mean."""


@dataclass(frozen=True)
class Energy:
    """Joules of a stretch of time."""

    gross_j: float
    net_j: float | None
    """Less what the idle device would have used meanwhile; None without a baseline."""
    seconds: float
    sources: tuple[str, ...]
    """What was metered: the whole device (``battery``, ``psys``) or the parts that are added up."""

    @property
    def whole(self) -> bool:
        """Whether it is the whole device, not only some of its parts."""
        return all(source.startswith(("battery", "psys")) for source in self.sources)


def chosen(sources: Mapping[str, object]) -> tuple[str, ...]:
    """The sources that make the best figure without counting anything twice.

    The battery sees the whole device, and so does psys; else processor packages, memory and GPUs
    are added up: screen, board and losses are not in it.
    """
    for kinds in (("battery",), ("psys",), ("package", "dram", "gpu", "card")):
        found = tuple(sorted(name for name in sources if name.startswith(kinds)))
        if found:
            return found
    return ()


def energy_between(
    parts: Mapping[str, tuple[float, float]], seconds: float, idle_w: Mapping[str, float] | None = None
) -> Energy | None:
    """Energy of a stretch of time from joules and seconds by source (``integral("power_w", "of", …)``).

    ``idle_w``: watts of the idle device by source. None where nothing was metered, or for less than
    ``COVERED`` of the stretch.
    """
    names = chosen(parts)
    if not names or seconds <= 0 or any(parts[name][1] < COVERED * seconds for name in names):
        return None
    gross = sum(parts[name][0] * seconds / parts[name][1] for name in names)
    known = idle_w is not None and all(name in idle_w for name in names)
    net = gross - sum(idle_w[name] for name in names) * seconds if idle_w is not None and known else None
    return Energy(gross, net, seconds, names)


def total_energy(pieces: list[Energy]) -> Energy | None:
    """Several stretches as one; None where they were metered differently, or there is none."""
    if not pieces or len({piece.sources for piece in pieces}) > 1:
        return None
    nets = [piece.net_j for piece in pieces if piece.net_j is not None]
    return Energy(
        sum(piece.gross_j for piece in pieces),
        sum(nets) if len(nets) == len(pieces) else None,
        sum(piece.seconds for piece in pieces),
        pieces[0].sources,
    )
