"""What a metric is: one entry with its names, unit, direction, definition and the function that computes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from edgebench.core.facts import EngineFacts, ModelFacts
from edgebench.core.record import Record, Round
from edgebench.core.spans import Phase, Span, phase_spans
from edgebench.core.turn import Turn
from edgebench.core.values import Better


class SampleReader(Protocol):
    """The samples of a round, on the controller's clock."""

    def between(self, start: float, end: float) -> Mapping[str, float]:
        """The probes' own metrics of a stretch of time, by name."""

    def integral(self, name: str, label: str, start: float, end: float) -> Mapping[str, tuple[float, float]]:
        """For each value of a label: the sum of value × seconds, and the seconds that were covered."""


@dataclass(frozen=True)
class EngineStart:
    """What the start of an engine took."""

    seconds: float
    """Process start to ready."""
    started_at: float | None = None
    """``time.monotonic()``; None where the controller can't place it."""
    compile_s: float | None = None
    """What an earlier start spent on compiling the model; None where nothing was compiled."""


@dataclass(frozen=True)
class RoundData:
    """What the metrics of one round are computed from. What could not be had is None or empty."""

    turns: Sequence[Turn]
    begin: float = 0.0
    """``time.monotonic()``, as ``end``."""
    end: float = 0.0
    samples: SampleReader | None = None
    start: EngineStart | None = None
    """Of a round that started its engine."""
    idle_w: Mapping[str, float] | None = None
    """Watts of the idle device, by source."""
    model: ModelFacts = ModelFacts()
    """From the model's header."""
    engine: EngineFacts = EngineFacts()
    """What the engine said of itself."""
    bytes_per_s: float | None = None
    """Read bandwidth of the memory that the computing processor reads from."""
    returned: Mapping[str, float] = field(default_factory=dict)
    """What the scenario returned, by name."""

    def measuring(self, phase: str) -> list[Turn]:
        """The turns that count for a phase: ``prefill``, ``decode`` or ``ttft``."""
        return [turn for turn in self.turns if phase in turn.measures]

    def spans(self, phase: Phase) -> list[Span]:
        """When the turns that count for a phase were in it: disjoint spans, in order."""
        return phase_spans(self.turns, phase, lambda turn: phase in turn.measures)

    @cached_property
    def sampled_in_round(self) -> Mapping[str, float]:
        """The probes' metrics over the whole round."""
        return self.samples.between(self.begin, self.end) if self.samples else {}

    @cached_property
    def sampled_in_decode(self) -> Mapping[str, float]:
        """The probes' metrics from the first decoding to the last."""
        decodes = self.spans("decode")
        return self.samples.between(decodes[0][0], decodes[-1][1]) if self.samples and decodes else {}


@dataclass(frozen=True)
class SweepRound:
    """A round of a trial within its sweep, for metrics that need the sweep's other trials."""

    round: Round
    record: Record
    records: Sequence[Record]
    """All trials of the sweep, this one included."""


@dataclass(frozen=True)
class MetricDefinition:
    """One metric. Every table, chart, comparison, page and export draws on this entry alone.

    A scenario and an engine declare their own in a class attribute ``metrics`` (a sequence of
    these), a probe in its quantities; a package may also give one, or a sequence of them, by an
    entry point of the group ``edgebench.metrics``. Base units, and None for what could not be had.
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
    compute: Callable[[RoundData], float | None] | None = None
    """Its value in a round; None where it doesn't apply there."""
    compute_in_sweep: Callable[[SweepRound], float | None] | None = None
    """Its value in a round, once the other trials of the sweep are known."""

    @property
    def short(self) -> str:
        return self.short_title or self.title

    @property
    def column(self) -> str:
        return self.heading or self.short
