"""A trial under way, from its plan to its record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

from edgebench.core import (
    DeviceFacts,
    Doubt,
    EngineFacts,
    Facts,
    Failure,
    Launch,
    Record,
    Round,
    Status,
    merged,
)
from edgebench.device.crashes import signal_name
from edgebench.errors import EdgebenchError, EngineFailed, UnexpectedError
from edgebench.judging import judge
from edgebench.judging.over_rounds import over_rounds
from edgebench.modelfiles import fits
from edgebench.plan import Planned


@dataclass
class RunFacts:
    """Facts of a device and its engine."""

    device: DeviceFacts = DeviceFacts()
    engine: EngineFacts = EngineFacts()


@dataclass
class TrialState:
    """A trial under way."""

    id: str
    """Of its record."""
    run: Mapping[str, object]
    planned: Planned
    launch: Launch
    rounds: list[Round] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    doubts: list[Doubt] = field(default_factory=list)
    status: Status = "ok"
    failure: Failure | None = None
    engine: EngineFacts = EngineFacts()
    """Facts from its log."""
    rpc: list[dict[str, object]] = field(default_factory=list)
    """Facts of the other devices that hold parts of the model."""
    started: str = ""

    def facts(self, run: RunFacts) -> Facts:
        """Of device, engine and model."""
        file = self.planned.model
        estimate = fits.estimate(self.planned.trial.engine, file.facts, self.planned.trial.options)
        model = replace(
            file.facts,
            name=file.name,
            sha256=file.sha256,
            size_b=file.size,
            format=file.format,
            quantization=file.quantization,
            architecture=file.architecture,
            estimate=fits.facts(estimate) if estimate else {},
        )
        return Facts(run.device, merged(run.engine, self.engine), model, tuple(self.rpc))

    def record(self, run: RunFacts) -> Record:
        record = Record(
            id=self.id,
            run=self.run,
            status=self.status,
            trial=self.planned.trial,
            facts=self.facts(run),
            metrics=over_rounds(self.rounds),
            doubts=tuple(dict.fromkeys(self.doubts)),
            rounds=tuple(self.rounds),
            failure=self.failure,
            notes=tuple(dict.fromkeys(self.notes)),
            started=self.started,
            finished=now(),
        )
        return replace(record, doubts=judge.judge(record))

    def fail(self, error: EdgebenchError) -> str:
        """End it as failed; the reason, with what was measured before."""
        status, log = (error.status, error.log) if isinstance(error, EngineFailed) else (None, ())
        count = len(self.rounds)
        message = f"{error} (after {count} whole round{'s' if count > 1 else ''}, kept)" if count else str(error)
        unexpected = isinstance(error, UnexpectedError)
        hint = f"Traceback: edgebench results show {self.id} --log" if unexpected else error.hint
        self.status, self.failure = "failed", Failure(message, hint, status, signal_name(status), log)
        return message

    def needs_b(self) -> float:
        """Bytes of memory that must be free before its engine starts."""
        if self.launch.rpc:
            return 0.0  # how much of the model the other devices take shows only then
        model = self.planned.model
        estimate = fits.estimate(self.planned.trial.engine, model.facts, self.planned.trial.options)
        return estimate.total_b if estimate is not None else float(model.size)


def now() -> str:
    """The time, ISO 8601, UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
