"""What a metric is: one entry with its unit, its direction, its names and its definition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Better = Literal["lower", "higher", "none"]


@dataclass(frozen=True)
class MetricDefinition:
    """One metric. Every table, chart, comparison, page and export draws on this entry alone.

    A scenario and an engine declare their own in a class attribute ``metrics`` (a sequence of
    these), a probe in its quantities; a package may also give one, or a sequence of them, by an
    entry point of the group ``edgebench.metrics``.
    """

    name: str
    """As in records and on the command line: ``decode_tps``."""
    unit: str
    """A base unit, as in records: views turn seconds into ms and bytes into MiB. ``ratio`` is a share
    of a whole, shown in per cent; ``×`` a multiple, shown as 1.31×."""
    title: str
    definition: str
    """One or two sentences: how it is computed, and from what."""
    better: Better = "none"
    short_title: str = ""
    """One or two words for a progress line; the title where empty."""
    heading: str = ""
    """Heading of its column, which may hold the unit; the short title where empty."""
    headline: bool = False
    """Whether tables, comparisons and reports show it without being asked to."""
    source: str = ""
    """The paper, specification or tool that the definition follows."""

    @property
    def short(self) -> str:
        return self.short_title or self.title

    @property
    def column(self) -> str:
        return self.heading or self.short
