"""What the rounds' notes say of their readings: what could not be read, what reading cost, what was in use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edgebench.core import Json, Record
from edgebench.judging import stats
from edgebench.views import units
from edgebench.views.text import clean

CORES = 32
"""Processors that are named one by one."""


def sampled(record: Record) -> list[tuple[str, str]]:
    """(what, text) pairs, over all rounds; empty where nothing was sampled."""
    parts = (_use, _bandwidth, _throttling, _energy, _gate, _sampling, _missing)
    return [(what, clean(text)) for part in parts for what, text in part(record)]


def _notes(record: Record, name: str) -> list[Json]:
    return [one.notes[name] for one in record.rounds if name in one.notes]


def _use(record: Record) -> Iterator[tuple[str, str]]:
    for name, what in (("cpu_by_cluster", "clusters in use"), ("cpu_by_core", "processors in use")):
        found: dict[str, list[float]] = {}
        for note in _notes(record, name):
            for label, share in note.items():
                found.setdefault(label, []).append(float(share))
        if 0 < len(found) <= CORES:
            shares = (f"{label}: {units.quantity(stats.median(v), 'ratio')}" for label, v in found.items())
            yield what, ", ".join(shares)


def _bandwidth(record: Record) -> Iterator[tuple[str, str]]:
    depths: dict[float, list[float]] = {}
    for note in _notes(record, "mbu_by_depth"):
        for depth, use in note:
            depths.setdefault(float(depth), []).append(float(use))
    if depths:
        shares = (f"{units.quantity(stats.median(v), 'ratio')} at {d:.0f} tokens" for d, v in sorted(depths.items()))
        yield "memory bandwidth in use", ", ".join(shares)
    for why in dict.fromkeys(map(str, _notes(record, "mbu_absent"))):
        yield "memory bandwidth in use", f"not known: {why}"


def _throttling(record: Record) -> Iterator[tuple[str, str]]:
    for one in record.rounds:
        for event in one.notes.get("throttling", ()):
            yield "throttling began", f"round {one.index + 1} at {event['at_s']} s: {event['by']}"


def _energy(record: Record) -> Iterator[tuple[str, str]]:
    for note in _notes(record, "energy")[:1]:
        parts = "the whole device" if note["whole_device"] else "these parts alone"
        yield "energy metered by", f"{', '.join(map(str, note['metered']))} ({parts})"


def _gate(record: Record) -> Iterator[tuple[str, str]]:
    waited = [float(note["waited_s"]) for note in _notes(record, "gate") if note["waited_s"]]
    if waited:
        yield "waited for a cool and quiet device", f"{sum(waited):.1f} s in {units.many(len(waited), 'round')}"


def _sampling(record: Record) -> Iterator[tuple[str, str]]:
    if costs := _notes(record, "sampling_cost"):
        yield "sampling took", f"{units.quantity(stats.median(costs), 'ratio')} of a core"
    if clocks := _notes(record, "clock_uncertainty_s"):
        yield "the device's clock is known to", f"± {units.quantity(max(clocks), 's')}"


def _missing(record: Record) -> Iterator[tuple[str, str]]:
    """What no round could read, and why; quantities with one reason together."""
    absent = _notes(record, "sampling_absent")
    reasons: dict[str, list[str]] = {}
    if absent:
        last: Mapping[str, str] = absent[-1]
        for name in last:
            if all(name in other for other in absent):
                reasons.setdefault(last[name], []).append(name)
    for why, names in reasons.items():
        yield f"not read: {', '.join(names)}", why
