"""The definition of a metric: names, unit, direction, definition and the function that computes it."""

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
        """The probes' metrics of a span of time, by name."""

    def integral(self, name: str, label: str, start: float, end: float) -> Mapping[str, tuple[float, float]]:
        """For each value of a label: the integral of the samples over time, and the seconds that they cover."""


@dataclass(frozen=True)
class EngineStart:
    """Duration of an engine's start."""

    seconds: float
    """From process start to ready."""
    started_at: float | None = None
    """``time.monotonic()``; None if unknown on the controller's clock."""
    compile_s: float | None = None
    """Seconds an earlier start spent compiling the model; None if nothing was compiled."""


@dataclass(frozen=True)
class RoundData:
    """The data that the metrics of one round are computed from. Absent data is None or empty."""

    turns: Sequence[Turn]
    begin: float = 0.0
    """``time.monotonic()``, like ``end``."""
    end: float = 0.0
    samples: SampleReader | None = None
    start: EngineStart | None = None
    """If the round started its engine."""
    idle_w: Mapping[str, float] | None = None
    """Power of the idle device in watts, by source."""
    model: ModelFacts = ModelFacts()
    """From the model's header."""
    engine: EngineFacts = EngineFacts()
    """Facts that the engine reported."""
    bytes_per_s: float | None = None
    """Read bandwidth of the memory that the CPU or GPU in use reads from."""
    scenario_values: Mapping[str, float] = field(default_factory=dict)
    """Metrics that the scenario returned, by name."""

    def measuring(self, phase: str) -> list[Turn]:
        """The turns that count for a phase: ``prefill``, ``decode`` or ``ttft``."""
        return [turn for turn in self.turns if phase in turn.measures]

    def spans(self, phase: Phase) -> list[Span]:
        """Spans in which the turns that count for a phase were in it: disjoint, in order."""
        return phase_spans(self.turns, phase, lambda turn: phase in turn.measures)

    @cached_property
    def round_sample_metrics(self) -> Mapping[str, float]:
        """The probes' metrics over the whole round."""
        return self.samples.between(self.begin, self.end) if self.samples else {}

    @cached_property
    def decode_sample_metrics(self) -> Mapping[str, float]:
        """The probes' metrics from the start of the first decode span to the end of the last."""
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
    """One metric. Every table, chart, comparison, page and export uses this entry only.

    Scenarios and engines declare their metrics in a class attribute ``metrics`` (a sequence of
    these), probes in their quantities; a package may also provide one, or a sequence of them, as an
    entry point of the group ``edgebench.metrics``. Base units; None for a value that is absent.
    """

    name: str
    """As in records and on the command line: ``decode_tps``."""
    unit: str
    """A base unit, as in records; views convert seconds to ms and bytes to MiB. ``ratio`` is a fraction
    of a whole, shown in per cent; ``×`` is a multiple, shown as 1.31×."""
    title: str
    definition: str
    """How it is computed, and from what: one or two sentences."""
    better: Better = "none"
    short_title: str = ""
    """One or two words for a progress line; empty: the title."""
    heading: str = ""
    """Heading of its column, which may contain the unit; empty: the short title."""
    headline: bool = False
    """Whether tables, comparisons and reports show it by default."""
    source: str = ""
    """The paper, specification or tool that the definition follows."""
    compute: Callable[[RoundData], float | None] | None = None
    """Computes its value in a round; returns None if it does not apply."""
    compute_in_sweep: Callable[[SweepRound], float | None] | None = None
    """Computes its value in a round from the trials of the whole sweep."""

    @property
    def short(self) -> str:
        return self.short_title or self.title

    @property
    def column(self) -> str:
        return self.heading or self.short
