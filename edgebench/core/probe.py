"""What is read on a device while an engine runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from edgebench.core.values import Better


@dataclass(frozen=True)
class Sample:
    """One reading of a probe."""

    name: str
    """As in the glossary: ``rss_b``, ``cpu_util`` …"""
    value: float
    at: float
    """Seconds on the device's clock."""
    labels: Mapping[str, str] = field(default_factory=dict)


Statistic = Literal["mean", "median", "p95", "max", "min", "sum", "last"]


@dataclass(frozen=True)
class SampleMetric:
    """A metric of a stretch of time, made from the samples of a quantity in it."""

    statistic: Statistic
    title: str
    better: Better = "none"
    headline: bool = False
    """Whether tables, comparisons and reports show it without being asked to."""


@dataclass(frozen=True)
class Quantity:
    """What a probe measures: one definition, one unit (the glossary is made from these)."""

    unit: str
    text: str
    """The definition, one or two sentences."""
    metrics: Mapping[str, SampleMetric]
    """By name; none for a quantity that only makes part of other metrics."""
    across: Literal["mean", "sum", "max"] = "mean"
    """How readings with different labels (cores, sensors, GPUs) make one metric."""


@dataclass(frozen=True)
class ProbeSource:
    """What a probe reads at once: files or a command, never both.

    ``{pid}`` in a file's path stands for each process of the engine's tree, in a command for the
    engine's process.
    """

    files: tuple[str, ...] = ()
    """Paths; shell patterns are expanded."""
    lines: tuple[str, ...] = ()
    """How the lines wanted from the files begin, plain text; every line where empty."""
    command: str = ""
    """One line of the system's shell. With interval 0 it is expected to go on by itself."""
    interval: float = 0.5
    """Seconds between two readings; 0: once, at the start."""


class Probe(Protocol):
    """Readings of one kind, on every system that has them. A plugin is a class without arguments.

    ``parse`` is fed the text of one reading at a time (``path:line`` for files; one line at a time
    of a command with interval 0), in order, and may keep what it needs of earlier ones. What is
    not in the text is absent from its result. It raises ``Unreadable`` or ``ValueError`` for text
    it doesn't understand; anything else is a fault of the probe. Either way its own readings are absent,
    with the reason, and nothing else is.
    """

    quantities: Mapping[str, Quantity]
    """By the name of the samples it gives."""
    sources: Mapping[str, Sequence[ProbeSource]]
    """By system."""

    def parse(self, at: float, text: str) -> Iterable[Sample]: ...
