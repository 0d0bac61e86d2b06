"""Probes: what is sampled on a device while an engine runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from edgebench.core.values import Better


@dataclass(frozen=True)
class Sample:
    """One value of a probe at one time."""

    name: str
    """As in the glossary: ``rss_b``, ``cpu_util`` …"""
    value: float
    at: float
    """Seconds on the device's clock."""
    labels: Mapping[str, str] = field(default_factory=dict)


Statistic = Literal["mean", "median", "p95", "max", "min", "sum", "last"]


@dataclass(frozen=True)
class SampleMetric:
    """A metric of a span of time, computed from the samples of a quantity in it."""

    statistic: Statistic
    title: str
    better: Better = "none"
    headline: bool = False
    """Whether tables, comparisons and reports show it by default."""


@dataclass(frozen=True)
class Quantity:
    """A quantity that a probe measures: its definition and unit, as in the glossary."""

    unit: str
    text: str
    """The definition, one or two sentences."""
    metrics: Mapping[str, SampleMetric]
    """By name; empty for a quantity that is only part of other metrics."""
    across: Literal["mean", "sum", "max"] = "mean"
    """How samples with different labels (cores, sensors, GPUs) are combined."""


@dataclass(frozen=True)
class ProbeSource:
    """One source of a probe: either files or a command.

    ``{pid}`` in a file's path stands for each process of the engine's process tree, in a command for
    the engine's process.
    """

    files: tuple[str, ...] = ()
    """Paths; shell patterns are expanded."""
    lines: tuple[str, ...] = ()
    """Prefixes of the lines to read from the files, plain text; empty: every line."""
    command: str = ""
    """One line for the system's shell. With interval 0 it is expected to keep running and printing."""
    interval: float = 0.5
    """Seconds between two samples; 0: read once, at the start."""


class Probe(Protocol):
    """A probe for every system that supports it. A plugin is a class whose constructor takes no arguments.

    ``parse`` receives the output of one read at a time (``path:line`` for files; one line at a time
    of a command with interval 0), in order, and may keep state. What is not in the text is absent
    from its result. It raises ``Unreadable`` or ``ValueError`` for text that it cannot parse; any other
    exception is a fault of the probe. In both cases only its own samples are absent, with the reason.
    """

    quantities: Mapping[str, Quantity]
    """By the name of its samples."""
    sources: Mapping[str, Sequence[ProbeSource]]
    """By system."""

    def parse(self, at: float, text: str) -> Iterable[Sample]: ...
