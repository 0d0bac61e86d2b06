"""The state a device is in around its trials: ready or not, drifting or not, and what it draws idle."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from edgebench.bench.sampler import Sampler
from edgebench.core import Command, Doubt, GateNotes
from edgebench.device import bandwidth
from edgebench.device.session import Session
from edgebench.errors import TimedOut
from edgebench.judging import doubts
from edgebench.judging.energy import choose_sources

PROBES = ("battery", "cpu", "cpu-elsewhere", "memory", "memory-windows", "nvidia", "rapl", "thermal")
WARMER_C = 3.0
"""A device is cool again within this of its temperature at the start of the run."""
BUSIER = 0.10
"""Its load has settled within this share of the load at the start, or below ``QUIET``."""
QUIET = 0.25
LOAD_S = 5.0
"""Seconds to wait for the load alone: a busy machine doesn't get quieter by waiting."""
IDLE_S = 10.0
"""Seconds over which the idle power is measured, where there is a meter at all."""
LOOK_S = 3.0
"""Seconds that one look may take: until the next reading of the processor's load, if it can be read."""
RECENT_S = 2.5
"""A look takes the readings of so many seconds: slow sensors are read every two."""
DRIFT = 0.05
"""Two runs of the fixed piece of work that differ by more than this share are a doubt."""
CANARY_TURNS, CANARY_TIMES = 100_000, 7
"""Of so many times the fastest counts: other programs and the wire only ever slow it down, heat slows down all."""
SAVERS = {
    "linux": ("cat /sys/firmware/acpi/platform_profile 2>/dev/null; true", "^(low-power|quiet|cool)$"),
    "android": ("settings get global low_power; true", "^1$"),
    "macos": ("pmset -g | grep lowpowermode; true", r"lowpowermode\s+1"),
}
"""By system: what tells whether a battery saver is on, and its sign."""
_CANARY = {
    "posix": f"i=0; while [ $i -lt {CANARY_TURNS} ]; do i=$((i + 1)); done",
    "windows": f"for /l %i in (1,1,{CANARY_TURNS}) do @rem",
}


@dataclass(frozen=True)
class Idle:
    """Watts of the idle device, by source, and the seconds they were measured for."""

    watts: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class Look:
    """A device seen for a moment."""

    temp_c: float | None
    load: float | None
    available_b: float | None
    on_battery: bool | None


@dataclass(frozen=True)
class Gate:
    """How long a device was waited for, and what was still not as it should be."""

    waited_s: float
    missed: tuple[str, ...] = ()

    @property
    def doubt(self) -> Doubt | None:
        return doubts.named("not-ready", "; ".join(self.missed)) if self.missed else None

    def notes(self) -> GateNotes:
        return GateNotes(round(self.waited_s, 1), self.missed)


class Conditions:
    """One run on one device. ``settle``: seconds that each gate may take; 0 opens every gate."""

    def __init__(self, session: Session, settle: float = 120.0) -> None:
        self._session = session
        self._settle = settle
        self._first: Look | None = None
        self._canary: float | None = None
        self._saver: str | None = None
        self.idle: Idle | None = None
        self.bandwidth: bandwidth.Bandwidth | str = "not looked at"
        self.gpu_bandwidth: bandwidth.Bandwidth | str | None = None

    def begin(self, file: str = "", size: int = 0, gpu: Command | str | None = None) -> dict[str, object]:
        """Look at the idle device, for the record's facts. ``file`` is a large one that lies on it;
        ``gpu``, where one will compute, is what measures its bandwidth, or why nothing does."""
        if not self._settle:
            return {}
        self._look_first()
        self._saver = self._saves()
        self._canary = self._work()
        python = "python3"
        if self._session.device.transport["kind"] == "local":
            import sys

            python = sys.executable
        self.bandwidth = bandwidth.measure(self._session, file, size, python)
        self.gpu_bandwidth = bandwidth.measure_gpu(self._session, gpu) if isinstance(gpu, Command) else gpu
        return self._facts()

    def ready(self, need_b: float = 0.0) -> Gate:
        """Wait until the device is as it was at the start, with ``need_b`` bytes of memory free."""
        if not self._settle or self._first is None:
            return Gate(0.0)
        began = time.monotonic()
        with Sampler(self._session, 0, PROBES) as sampler:
            while True:
                _look(sampler)
                waited = time.monotonic() - began
                missed = self._missed(self._seen(sampler), need_b, waited)
                if not missed or waited > self._settle:
                    return Gate(waited, missed)

    def end(self) -> list[Doubt]:
        """The doubts that concern the whole run."""
        found = [self.drift()]
        if self._saver:
            found.append(doubts.named("battery-saver", self._saver))
        return [doubt for doubt in found if doubt]

    def drift(self) -> Doubt | None:
        """Do the fixed piece of work again; a doubt where it takes another time than at the start."""
        again = self._work() if self._canary else None
        if not again or not self._canary or abs(again / self._canary - 1) <= DRIFT:
            return None
        return doubts.named("drift", f"{self._canary:.2f} s at the start, {again:.2f} s at the end")

    def _look_first(self) -> None:
        with Sampler(self._session, 0, PROBES) as sampler:
            since = time.monotonic()
            _look(sampler)
            if any(sample.name == "power_w" for sample in list(sampler.samples)):
                sampler.wait(lambda s: s.reaches(since + IDLE_S), IDLE_S + 5)
                until = time.monotonic()
                watts = sampler.by_label("power_w", "of", since, until)
                self.idle = Idle({name: watts[name] for name in choose_sources(watts)}, until - since)
            self._first = self._seen(sampler)

    def _seen(self, sampler: Sampler) -> Look:
        now = time.monotonic()
        seen = sampler.between(now - RECENT_S, now)
        battery = seen.get("on_battery")
        return Look(
            seen.get("temp_max_c"),
            seen.get("cpu_util"),
            seen.get("available_min_b"),
            None if battery is None else battery > 0,
        )

    def _missed(self, look: Look, need_b: float, waited: float) -> tuple[str, ...]:
        first = self._first
        assert first is not None
        missed = []
        if look.temp_c is not None and first.temp_c is not None and look.temp_c > first.temp_c + WARMER_C:
            missed.append(f"{look.temp_c:.0f} °C, at the start {first.temp_c:.0f} °C")
        limit = max(QUIET, (first.load or 0.0) + BUSIER)
        if look.load is not None and look.load > limit and waited < LOAD_S:
            missed.append(f"{look.load:.0%} load, at the start {first.load or 0:.0%}")
        wanted = self._session.device.defaults.get("power")
        if look.on_battery is not None and wanted in ("mains", "battery") and look.on_battery != (wanted == "battery"):
            missed.append(f"runs on {'battery' if look.on_battery else 'mains'}, the profile wants {wanted}")
        if look.available_b is not None and look.available_b < need_b:
            missed.append(f"{look.available_b / 2**30:.1f} GiB of memory free, {need_b / 2**30:.1f} needed")
        return tuple(missed)

    def _facts(self) -> dict[str, object]:
        first = self._first
        facts: dict[str, object] = {}
        if first is not None:
            told = {"temp_c": first.temp_c, "load": first.load, "on_battery": first.on_battery}
            facts["at_start"] = {name: value for name, value in told.items() if value is not None}
        if self._saver:
            facts["battery_saver"] = self._saver
        if self.idle is not None:
            facts["idle_power"] = {"watts": dict(self.idle.watts), "seconds": round(self.idle.seconds, 1)}
        for name, found in (("read_bandwidth", self.bandwidth), ("gpu_read_bandwidth", self.gpu_bandwidth)):
            if isinstance(found, str):
                facts[name] = {"absent": found}
            elif found is not None:
                facts[name] = {key: value for key, value in asdict(found).items() if value}
        return facts

    def _saves(self) -> str | None:
        """What says that a battery saver is on, if anything does."""
        command, sign = SAVERS.get(self._session.device.system, ("", ""))
        try:
            said = self._session.run(command, timeout=20).stdout.strip() if command else ""
        except TimedOut:
            return None
        return f"{command.split(';')[0]}: {said}" if said and re.search(sign, said) else None

    def _work(self) -> float | None:
        """Seconds of a fixed piece of work on one core, the wire taken off; the fastest of some tries."""
        command = _CANARY["windows" if self._session.device.system == "windows" else "posix"]
        try:
            wire = min(self._timed(":" if "while" in command else "rem") for _ in range(CANARY_TIMES))
            return max(0.0, min(self._timed(command) for _ in range(CANARY_TIMES)) - wire) or None
        except TimedOut:
            return None

    def _timed(self, command: str) -> float:
        began = time.monotonic()
        self._session.run(command, timeout=60)
        return time.monotonic() - began


def _look(sampler: Sampler) -> None:
    """Wait for the processor's load over a time that begins now."""
    since = time.monotonic()
    sampler.wait(
        lambda seen: any(one.name == "cpu_util" and seen.local(one.at) > since for one in seen.samples[-200:]), LOOK_S
    )
