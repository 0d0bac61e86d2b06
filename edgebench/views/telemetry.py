"""Notes on the telemetry of a record: utilization, throttling, energy, sampling cost, absent quantities."""

from __future__ import annotations

from collections.abc import Iterator

from edgebench.core import Record
from edgebench.judging import stats
from edgebench.views import units
from edgebench.views.text import clean

CORES = 32
"""Maximum number of CPUs that are listed individually."""


def telemetry_lines(record: Record) -> list[tuple[str, str]]:
    """(title, text) pairs over all rounds; empty if nothing was sampled."""
    parts = (_use, _bandwidth, _throttling, _energy, _gate, _sampling, _missing)
    return [(title, clean(text)) for part in parts for title, text in part(record)]


def _use(record: Record) -> Iterator[tuple[str, str]]:
    notes = [one.notes for one in record.rounds]
    by_cluster, by_core = [one.cpu_by_cluster for one in notes], [one.cpu_by_core for one in notes]
    for rounds, title in ((by_cluster, "clusters in use"), (by_core, "CPUs in use")):
        by_label: dict[str, list[float]] = {}
        for shares_of in rounds:
            for label, share in shares_of.items():
                by_label.setdefault(label, []).append(share)
        if 0 < len(by_label) <= CORES:
            shares = (f"{label}: {units.quantity(stats.median(v), 'ratio')}" for label, v in by_label.items())
            yield title, ", ".join(shares)


def _bandwidth(record: Record) -> Iterator[tuple[str, str]]:
    depths: dict[float, list[float]] = {}
    for one in record.rounds:
        for depth, use in one.notes.mbu_by_depth:
            depths.setdefault(depth, []).append(use)
    if depths:
        shares = (f"{units.quantity(stats.median(v), 'ratio')} at {d:.0f} tokens" for d, v in sorted(depths.items()))
        yield "memory bandwidth in use", ", ".join(shares)
    for reason in dict.fromkeys(one.notes.mbu_absent for one in record.rounds if one.notes.mbu_absent):
        yield "memory bandwidth in use", f"unknown: {reason}"


def _throttling(record: Record) -> Iterator[tuple[str, str]]:
    for one in record.rounds:
        for event in one.notes.throttling:
            yield "throttling began", f"round {one.index + 1} at {event.at_s} s: {event.by}"


def _energy(record: Record) -> Iterator[tuple[str, str]]:
    energy = next((one.notes.energy for one in record.rounds if one.notes.energy), None)
    if energy:
        parts = "the whole device" if energy.whole_device else "these parts only"
        yield "energy metered by", f"{', '.join(energy.metered)} ({parts})"


def _gate(record: Record) -> Iterator[tuple[str, str]]:
    wait_s = [gate.waited_s for one in record.rounds if (gate := one.notes.gate) and gate.waited_s]
    if wait_s:
        yield "waited for a cool and idle device", f"{sum(wait_s):.1f} s in {units.count_noun(len(wait_s), 'round')}"


def _sampling(record: Record) -> Iterator[tuple[str, str]]:
    notes = [one.notes for one in record.rounds]
    if costs := [one.sampling_cost for one in notes if one.sampling_cost is not None]:
        yield "sampling took", f"{units.quantity(stats.median(costs), 'ratio')} of a core"
    if clocks := [one.clock_uncertainty_s for one in notes if one.clock_uncertainty_s is not None]:
        yield "uncertainty of the device's clock", f"± {units.quantity(max(clocks), 's')}"


def _missing(record: Record) -> Iterator[tuple[str, str]]:
    """Quantities that no round could sample, grouped by reason."""
    absent = [one.notes.sampling_absent for one in record.rounds if one.notes.sampling_absent]
    reasons: dict[str, list[str]] = {}
    if absent:
        last = absent[-1]
        for name in last:
            if all(name in reasons_of_round for reasons_of_round in absent):
                reasons.setdefault(last[name], []).append(name)
    for reason, names in reasons.items():
        yield f"not sampled: {', '.join(names)}", reason
