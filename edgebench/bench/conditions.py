"""A device's state before and after its trials: readiness gate, drift and idle power."""

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
TEMP_MARGIN_C = 3.0
"""Largest rise over the temperature at the start of the run for a cool device, °C."""
LOAD_MARGIN = 0.10
"""Largest rise over the load at the start for an idle device, 0…1; any load below ``IDLE_LOAD`` is accepted."""
IDLE_LOAD = 0.25
LOAD_S = 5.0
"""Seconds to wait for the load to fall: longer waits do not make a busy machine idle."""
IDLE_S = 10.0
"""Seconds over which the idle power is measured, if the device has a power meter."""
LOAD_SAMPLE_S = 3.0
"""Seconds to wait for the next sample of the CPU load, if it can be sampled."""
STATE_WINDOW_S = 2.5
"""Seconds of samples that make up a state: slow sensors are sampled every two."""
MAX_DRIFT = 0.05
"""Largest relative difference between two runs of the fixed workload without a doubt."""
CANARY_TURNS, CANARY_REPEATS = 100_000, 7
"""The fastest of the repeats counts: other programs and the transport slow down some of them, heat all of them."""
BATTERY_SAVER_QUERIES = {
    "linux": ("cat /sys/firmware/acpi/platform_profile 2>/dev/null; true", "^(low-power|quiet|cool)$"),
    "android": ("settings get global low_power; true", "^1$"),
    "macos": ("pmset -g | grep lowpowermode; true", r"lowpowermode\s+1"),
}
"""System → (command that reports the battery saver, pattern of its output if it is on)."""
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
class DeviceState:
    """A device's state at one time; None for values that cannot be sampled."""

    temp_c: float | None
    load: float | None
    available_b: float | None
    on_battery: bool | None


@dataclass(frozen=True)
class Gate:
    """Seconds waited for a device to become ready, and the conditions that were still unmet."""

    waited_s: float
    unmet: tuple[str, ...] = ()

    @property
    def doubt(self) -> Doubt | None:
        return doubts.new_doubt("not-ready", "; ".join(self.unmet)) if self.unmet else None

    def notes(self) -> GateNotes:
        return GateNotes(round(self.waited_s, 1), self.unmet)


class Conditions:
    """Conditions of one run on one device. ``settle``: timeout of each gate, seconds; 0 disables the gates."""

    def __init__(self, session: Session, settle: float = 120.0) -> None:
        self._session = session
        self._settle = settle
        self._initial_state: DeviceState | None = None
        self._canary: float | None = None
        self._battery_saver: str | None = None
        self.idle: Idle | None = None
        self.bandwidth: bandwidth.Bandwidth | str = "not measured"
        self.gpu_bandwidth: bandwidth.Bandwidth | str | None = None

    def begin(self, file: str = "", size: int = 0, gpu: Command | str | None = None) -> dict[str, object]:
        """Measure the idle device; the record's facts. ``file``: a large file on the device; ``gpu``: the command
        that measures a GPU's bandwidth, or why there is none; None without a GPU."""
        if not self._settle:
            return {}
        self._measure_idle()
        self._battery_saver = self._detect_battery_saver()
        self._canary = self._time_canary()
        python = "python3"
        if self._session.device.transport["kind"] == "local":
            import sys

            python = sys.executable
        self.bandwidth = bandwidth.measure(self._session, file, size, python)
        self.gpu_bandwidth = bandwidth.measure_gpu(self._session, gpu) if isinstance(gpu, Command) else gpu
        return self._facts()

    def ready(self, need_b: float = 0.0) -> Gate:
        """Wait until the device is as cool and idle as at the start, with ``need_b`` bytes of memory free."""
        if not self._settle or self._initial_state is None:
            return Gate(0.0)
        start = time.monotonic()
        with Sampler(self._session, 0, PROBES) as sampler:
            while True:
                _wait_for_load(sampler)
                waited_s = time.monotonic() - start
                unmet = self._unmet(self._read_state(sampler), need_b, waited_s)
                if not unmet or waited_s > self._settle:
                    return Gate(waited_s, unmet)

    def end(self) -> list[Doubt]:
        """The doubts that concern the whole run."""
        candidates = [self.drift()]
        if self._battery_saver:
            candidates.append(doubts.new_doubt("battery-saver", self._battery_saver))
        return [doubt for doubt in candidates if doubt]

    def drift(self) -> Doubt | None:
        """Run the fixed workload again; a doubt if its time differs from that at the start."""
        final_s = self._time_canary() if self._canary else None
        if not final_s or not self._canary or abs(final_s / self._canary - 1) <= MAX_DRIFT:
            return None
        return doubts.new_doubt("drift", f"{self._canary:.2f} s at the start, {final_s:.2f} s at the end")

    def _measure_idle(self) -> None:
        with Sampler(self._session, 0, PROBES) as sampler:
            start = time.monotonic()
            _wait_for_load(sampler)
            if any(sample.name == "power_w" for sample in list(sampler.samples)):
                sampler.wait(lambda s: s.reaches(start + IDLE_S), IDLE_S + 5)
                end = time.monotonic()
                watts = sampler.by_label("power_w", "of", start, end)
                self.idle = Idle({name: watts[name] for name in choose_sources(watts)}, end - start)
            self._initial_state = self._read_state(sampler)

    def _read_state(self, sampler: Sampler) -> DeviceState:
        now = time.monotonic()
        values = sampler.between(now - STATE_WINDOW_S, now)
        battery = values.get("on_battery")
        return DeviceState(
            values.get("temp_max_c"),
            values.get("cpu_util"),
            values.get("available_min_b"),
            None if battery is None else battery > 0,
        )

    def _unmet(self, state: DeviceState, need_b: float, waited_s: float) -> tuple[str, ...]:
        initial = self._initial_state
        assert initial is not None
        unmet = []
        if state.temp_c is not None and initial.temp_c is not None and state.temp_c > initial.temp_c + TEMP_MARGIN_C:
            unmet.append(f"{state.temp_c:.0f} °C, at the start {initial.temp_c:.0f} °C")
        limit = max(IDLE_LOAD, (initial.load or 0.0) + LOAD_MARGIN)
        if state.load is not None and state.load > limit and waited_s < LOAD_S:
            unmet.append(f"{state.load:.0%} load, at the start {initial.load or 0:.0%}")
        power = self._session.device.defaults.get("power")
        if state.on_battery is not None and power in ("mains", "battery") and state.on_battery != (power == "battery"):
            unmet.append(f"runs on {'battery' if state.on_battery else 'mains'}, the profile requires {power}")
        if state.available_b is not None and state.available_b < need_b:
            unmet.append(f"{state.available_b / 2**30:.1f} GiB of memory free, {need_b / 2**30:.1f} needed")
        return tuple(unmet)

    def _facts(self) -> dict[str, object]:
        initial = self._initial_state
        facts: dict[str, object] = {}
        if initial is not None:
            state = {"temp_c": initial.temp_c, "load": initial.load, "on_battery": initial.on_battery}
            facts["at_start"] = {name: value for name, value in state.items() if value is not None}
        if self._battery_saver:
            facts["battery_saver"] = self._battery_saver
        if self.idle is not None:
            facts["idle_power"] = {"watts": dict(self.idle.watts), "seconds": round(self.idle.seconds, 1)}
        for name, bandwidth_result in (("read_bandwidth", self.bandwidth), ("gpu_read_bandwidth", self.gpu_bandwidth)):
            if isinstance(bandwidth_result, str):
                facts[name] = {"absent": bandwidth_result}
            elif bandwidth_result is not None:
                facts[name] = {key: value for key, value in asdict(bandwidth_result).items() if value}
        return facts

    def _detect_battery_saver(self) -> str | None:
        """The output that shows an active battery saver; None if it is off or unknown."""
        command, pattern = BATTERY_SAVER_QUERIES.get(self._session.device.system, ("", ""))
        try:
            output = self._session.run(command, timeout=20).stdout.strip() if command else ""
        except TimedOut:
            return None
        return f"{command.split(';')[0]}: {output}" if output and re.search(pattern, output) else None

    def _time_canary(self) -> float | None:
        """Seconds of a fixed workload on one core minus the transport's round trip; the fastest of several runs."""
        command = _CANARY["windows" if self._session.device.system == "windows" else "posix"]
        try:
            round_trip_s = min(self._time_command(":" if "while" in command else "rem") for _ in range(CANARY_REPEATS))
            return max(0.0, min(self._time_command(command) for _ in range(CANARY_REPEATS)) - round_trip_s) or None
        except TimedOut:
            return None

    def _time_command(self, command: str) -> float:
        start = time.monotonic()
        self._session.run(command, timeout=60)
        return time.monotonic() - start


def _wait_for_load(sampler: Sampler) -> None:
    """Wait for a sample of the CPU load over a period that starts now."""
    start = time.monotonic()
    sampler.wait(
        lambda current: any(
            sample.name == "cpu_util" and current.local(sample.at) > start for sample in current.samples[-200:]
        ),
        LOAD_SAMPLE_S,
    )
