"""``run --threads auto``: sweep the thread counts that suit a device's cores, and store the best in its profile."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from edgebench import plan, profiles
from edgebench.core import Device, Option, Record
from edgebench.device import cores
from edgebench.device.cores import Cores
from edgebench.device.session import Session
from edgebench.errors import DeviceRefused, UsageError
from edgebench.judging.threads import best_threads, rate_by_threads


class ThreadSweep:
    """A thread sweep on each device, planned from its cores."""

    def __init__(self, devices: Sequence[Device]) -> None:
        self._devices = {device.name: device for device in devices}
        self._cores = {device.name: self._read(device) for device in devices}

    def trials(
        self, device: Device, *args: Any, options: Mapping[str, Sequence[Option]], **kwargs: Any
    ) -> tuple[plan.Planned, ...]:
        """As ``plan.trials``, with the candidate thread counts, each pinned to its CPUs."""
        device_cores = self._cores[device.name]
        planned = plan.trials(device, *args, options={**options, "threads": device_cores.candidates()}, **kwargs)
        return tuple(
            replace(one, trial=replace(one.trial, options=cores.with_affinity(one.trial.options, device_cores)))
            for one in planned
        )

    def conclude(
        self, write: bool, print_line: Callable[[str], None]
    ) -> Callable[[Sequence[Record]], Sequence[plan.Plan]]:
        """A planner of further trials that reports the best thread counts and plans none."""

        def report(records: Sequence[Record]) -> Sequence[plan.Plan]:
            for name, device in self._devices.items():
                device_records = [record for record in records if record.trial.device == name]
                rates, phase = rate_by_threads(device_records, "decode_tps"), "decoding"
                if not rates:
                    rates, phase = rate_by_threads(device_records, "prefill_tps"), "prefill"
                optimum = best_threads(rates)
                if optimum is None:
                    print_line(f"{name}: no rate was measured with any number of threads")
                    continue
                cpus = self._cores[name].affinity(optimum.best)
                threads = f"{optimum.best} thread" + ("s" if optimum.best > 1 else "")
                best = f"{phase} is fastest with {threads} on CPUs {cpus}: {optimum.rate:.3g} tokens/s"
                print_line(f"{name}: {best}{_describe_doubts(device_records)}")
                if optimum.cliff:
                    few, before, many, after = optimum.cliff
                    text = f"from {few} to {many} threads the rate falls from {before:.3g} to {after:.3g} tokens/s"
                    print_line(f"{name}: cliff: {text}")
                if write:
                    path = write_threads(device, optimum.best)
                    print_line(f"{name}: wrote threads: {optimum.best} to {path}")
            return ()

        return report

    def _read(self, device: Device) -> Cores:
        with Session(device) as session:
            device_cores = cores.query_cores(session)
        if device_cores is None:
            raise DeviceRefused(
                f"cannot detect the cores of {device.name}", "Pass thread counts: --threads 1,2,4 or 1..16."
            )
        return device_cores


DISTURBANCES = ("steal", "other-load", "throttled", "spread", "drift", "not-ready")
"""Doubts that may change the best number of threads."""


def _describe_doubts(records: Sequence[Record]) -> str:
    ids = {doubt.id for record in records for doubt in record.doubts}
    disturbances = [id for id in DISTURBANCES if id in ids]
    return f" (doubts: {', '.join(disturbances)}; measure again on an idle device)" if disturbances else ""


def write_threads(device: Device, threads: int) -> Path:
    """Write ``defaults: threads`` into a device's profile; return its path.

    A profile that ships with edgebench is first copied to ``devices/`` in the working directory. The
    rest of the file is left unchanged. Raises ``UsageError`` if it cannot be written.
    """
    source = device.source or profiles.locate("devices", device.name)
    built_in = profiles.search_folders("devices")[-1].resolve()
    target = Path("devices") / source.name if source.resolve().parent == built_in else source
    try:
        text = with_threads(source.read_text(encoding="utf-8"), threads)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error.strerror}") from error
    return target


def with_threads(text: str, threads: int) -> str:
    """A profile's text with this number of threads in its defaults; comments and order are kept."""
    profile = yaml.safe_load(text)
    line = re.search(r"^defaults:(.*)$", text, re.MULTILINE)
    if line is None:
        edited = text.rstrip("\n") + f"\ndefaults: {{threads: {threads}}}\n"
    else:
        head, tail = text[: line.end()], text[line.end() :]
        flow = "{" in line[1]
        section = head if flow else tail
        if "threads" in (profile.get("defaults") or {}):
            start = line.start() if flow else 0
            section = section[:start] + re.sub(r"(\bthreads:\s*)[^,}\s]+", rf"\g<1>{threads}", section[start:], count=1)
        elif flow:
            section = section[: line.start()] + section[line.start() :].replace("{", f"{{threads: {threads}, ", 1)
            section = section.replace(", }", "}")
        else:
            indent = re.search(r"^( +)\S", tail, re.MULTILINE)
            section = f"\n{indent[1] if indent else '  '}threads: {threads}" + tail
        edited = section + tail if flow else head + section
    expected = {**profile, "defaults": {**(profile.get("defaults") or {}), "threads": threads}}
    if yaml.safe_load(edited) != expected:
        raise UsageError("cannot edit this profile safely", f"Add threads: {threads} to its defaults yourself.")
    return edited
