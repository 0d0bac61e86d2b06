"""Samples all probes in one loop on the device while an engine runs.

The loop is one process on the device (its source is in ``systems.loops``) that streams lines; a thread on
the controller passes them to the probes.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Thread
from types import TracebackType
from typing import Protocol

from edgebench import plugins
from edgebench.bench.series import TICK_S, Clock, SampleSeries, device_time
from edgebench.core import DeviceSession, Probe, ProbeSource, Process, Quantity, Sample
from edgebench.errors import DeviceLost, EdgebenchError, Unreadable

_FAILED = re.compile(r"(?:\S*grep): (.+?): ([^:]+)$")


class SpawningSession(DeviceSession, Protocol):
    """The part of a session that the sampler needs."""

    def spawn(self, command: str) -> Process: ...


@dataclass(frozen=True)
class Cost:
    """CPU time of sampling itself on the device, seconds."""

    cpu_s: float
    wall_s: float

    @property
    def share(self) -> float:
        """Of one core."""
        return self.cpu_s / self.wall_s if self.wall_s > 0 else 0.0


@dataclass
class _Source:
    """One source of one probe, and its lines that are not yet parsed."""

    probe: str
    reading: ProbeSource
    pattern: re.Pattern[str] | None
    lines: list[str] = field(default_factory=list)
    last: str = ""
    at: float | None = None
    """Time of the last read, on the device's clock."""


class Sampler(SampleSeries):
    """Samples probes on an open device from ``__enter__`` to ``__exit__``.

    ``pid``: the engine's process on the device; 0 samples only the machine. ``probes``: names of installed
    probes (default: all), or probes by name.
    """

    def __init__(
        self, session: SpawningSession, pid: int, probes: Iterable[str] | Mapping[str, Probe] | None = None
    ) -> None:
        self.faults: dict[str, EdgebenchError] = {}
        """Unexpected errors of probes, by the name of the probe; they do not end the run."""
        self._probes: dict[str, Probe] = {}
        self._sources: dict[str, _Source] = {}
        quantities: dict[str, Quantity] = {}
        self._reasons: dict[str, str] = {}
        probe_map: Mapping[str, Probe | None]
        probe_map = probes if isinstance(probes, Mapping) else dict.fromkeys(_names(probes))
        for name, probe in probe_map.items():
            try:
                instance = probe or plugins.create("probes", name)
                with plugins.boundary("probes", name):
                    quantities |= _check_quantities(instance.quantities)
                    self._probes[name] = instance
                    self._sources |= _sources(name, instance, session.device.system)
            except EdgebenchError as fault:
                self._note_fault(name, fault)
        super().__init__(quantities)
        self.pid = pid
        self._session = session
        self._costs: dict[str, tuple[float, float]] = {}
        self._process: Process | None = None
        self._thread: Thread | None = None
        self._is_closing = False
        self._device_time: float | None = None

    # --- life ---

    def __enter__(self) -> Sampler:
        if any(source.reading.files for source in self._sources.values()):
            self.clock = Clock.measure(self._session)
        sources = {key: source.reading for key, source in self._sources.items()}
        self._process = self._session.spawn(self._session.system.loop(sources, self.pid))
        self._thread = Thread(target=self._read, args=(self._process,), name="sampler", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_closing = True
        if self._process:
            self._process.kill()
        if self._thread:
            self._thread.join(timeout=10)
        if kind is None or (issubclass(kind, EdgebenchError) and not issubclass(kind, DeviceLost)):
            with contextlib.suppress(EdgebenchError):
                self.clock_at_end = Clock.measure(self._session, 3) if self.clock else None

    def wait(self, condition: Callable[[Sampler], bool], timeout: float) -> bool:
        """Wait until a condition on the samples holds; False after ``timeout`` seconds, or if sampling ended."""
        end = time.monotonic() + timeout
        while not condition(self):
            if time.monotonic() > end or not (self._thread and self._thread.is_alive()):
                return condition(self)
            time.sleep(0.02)
        return True

    def reaches(self, at: float) -> bool:
        """Whether every source with an interval of at most one second has been read since ``at``."""
        times = [s.at for s in self._sources.values() if s.at is not None and 0 < s.reading.interval <= 1]
        return bool(times) and all(self.local(time_s) >= at for time_s in times)

    def reset_peak(self) -> bool:
        """Reset the kernel's peak memory of the engine; False if that is not permitted."""
        return self._session.run(f"echo 5 >/proc/{self.pid}/clear_refs", timeout=20).status == 0

    # --- results ---

    @property
    def absent(self) -> dict[str, str]:
        """Quantity without samples → reason."""
        sampled = {sample.name for sample in list(self.samples)}
        reasons: dict[str, dict[str, str]] = {}
        for name, probe in self._probes.items():
            sources = [source for source in self._sources.values() if source.probe == name]
            for quantity in probe.quantities.keys() - sampled:
                causes = reasons.setdefault(quantity, {})
                if sources or name in self._reasons:
                    causes[name] = self._reason(name, sources)
        failed_probes = self.faults.keys() - self._probes.keys()
        reasons |= {f"probe {name}": {name: str(self.faults[name])} for name in failed_probes}
        default = f"not read on {self._session.device.system}"
        return {
            quantity: "; ".join(f"{name}: {reason}" if len(causes) > 1 else reason for name, reason in causes.items())
            or default
            for quantity, causes in sorted(reasons.items())
        }

    @property
    def cost(self) -> Cost | None:
        """CPU time of the loop and its commands; None before it is known."""
        if not self._costs or len(self._clock_times) < 2:
            return None
        return Cost(
            sum(last - first for first, last in self._costs.values()), self._clock_times[-1] - self._clock_times[0]
        )

    def _reason(self, probe: str, sources: Sequence[_Source]) -> str:
        files = [path for source in sources for path in source.reading.files]
        for key, reason in self._reasons.items():
            if key == probe:
                return reason
            if files and _pattern(files).match(f"{key}:"):
                return f"{key}: {reason}"
        last_line = next((source.last for source in sources if source.reading.command and source.last), "")
        return last_line or "nothing was reported"

    # --- the loop's lines ---

    def _read(self, process: Process) -> None:
        while not (self._is_closing and process.status is not None):
            try:
                line = process.read(timeout=0.5)
            except DeviceLost:
                break
            if line is None:
                if process.status is not None or self._is_closing:
                    break
                continue
            if line.stream == "out":
                self._handle_line(line.text, line.at)
        for source in self._sources.values():
            self._parse(source)

    def _handle_line(self, text: str, arrived: float) -> None:
        prefix, _, rest = text.partition(" ")
        if prefix == ">":
            key, _, rest = rest.partition(" ")
            time_text, _, rest = rest.partition(" ")
            if source := self._sources.get(key):
                if not source.lines:
                    source.lines.append(time_text)
                source.lines.append(rest)
                if not source.reading.interval:
                    self._parse(source, arrived)
        elif prefix == "%":
            key, _, process_stat = rest.partition(" ")
            if self.clock is None:
                self._clock_times.append(arrived)
            self._note_cost(key, process_stat)
            for name, source in self._sources.items():
                if (name == key) if key != "-" else bool(source.reading.files):
                    self._parse(source, arrived)
        elif prefix == "!":
            if failure := _FAILED.search(rest):
                self._reasons.setdefault(failure[1], failure[2])
        elif text.startswith("/"):
            self._handle_file_line(text)

    def _handle_file_line(self, text: str) -> None:
        if text.startswith(("/proc/self/stat:", "/proc/uptime:")):
            self._device_time = device_time(text)
            if self._device_time is not None:
                self._clock_times.append(self._device_time)
            return
        for source in self._sources.values():
            if source.pattern and source.pattern.match(text):
                source.lines.append(text)

    def _parse(self, source: _Source, arrived: float | None = None) -> None:
        """Pass one source's text to its probe; invalid text only loses these samples."""
        if not source.lines:
            return
        lines, source.lines = source.lines, []
        at = self._device_time
        if source.reading.command:
            time_text, *lines = lines
            if self.clock is None:
                at = arrived
            elif _is_number(time_text):
                at = float(time_text)
            elif arrived is not None:
                at = arrived - self.clock.offset
        if at is None:
            return
        source.last = next((line.strip() for line in lines if line.strip()), "")
        last_read, source.at = source.at, at
        try:
            for sample in self._probes[source.probe].parse(at, "\n".join(lines)):
                if not isinstance(sample, Sample):
                    raise TypeError(f"parse returned {type(sample).__name__}, not Sample")
                self._last_reads.append(at - TICK_S if last_read is None else last_read)
                self.samples.append(sample)
        except Unreadable as error:
            self._reasons.setdefault(source.probe, str(error))
        except ValueError as error:
            self._reasons.setdefault(source.probe, f"cannot parse: {error}")
        except Exception as error:  # noqa: BLE001 - a fault of a probe costs its own readings only
            self._note_fault(source.probe, plugins.fault("probes", source.probe, error))

    def _note_fault(self, probe: str, fault: EdgebenchError) -> None:
        self.faults.setdefault(probe, fault)
        self._reasons.setdefault(probe, str(fault))

    def _note_cost(self, key: str, stat: str) -> None:
        """Note the processor time of a process of the loop, and of its children."""
        if stat.startswith("cpu ") and _is_number(stat[4:]):
            self._costs[key] = self._costs.get(key, (float(stat[4:]),))[0], float(stat[4:])
            return
        pid, _, fields = stat.partition(" ")
        ticks = fields.rpartition(") ")[2].split(" ")[11:15]
        if len(ticks) == 4 and all(tick.isdigit() for tick in ticks):
            self._costs[f"{key} {pid}"] = 0.0, sum(map(int, ticks)) * TICK_S


def _names(probes: Iterable[str] | None) -> Iterable[str]:
    return plugins.names("probes") if probes is None else probes


def _check_quantities(quantities: Mapping[str, Quantity]) -> Mapping[str, Quantity]:
    """The quantities. Raises ``TypeError`` for other values."""
    for name, quantity in dict(quantities).items():
        if not isinstance(quantity, Quantity):
            raise TypeError(f"quantities[{name!r}] is {type(quantity).__name__}, not Quantity")
    return quantities


def _sources(name: str, probe: Probe, system: str) -> dict[str, _Source]:
    sources = {}
    for index, reading in enumerate(probe.sources.get(system, ())):
        pattern = _pattern(reading.files) if reading.files else None
        sources[f"{name}.{index}"] = _Source(name, reading, pattern)
    return sources


def _pattern(files: Sequence[str]) -> re.Pattern[str]:
    """Pattern of the prefixes of these files' lines, after the shell has expanded their names."""
    parts = (re.escape(path).replace(r"\{pid\}", r"\d+").replace(r"\*", "[^/]*") for path in files)
    return re.compile(f"(?:{'|'.join(parts)}):")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
