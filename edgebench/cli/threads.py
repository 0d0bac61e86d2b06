"""``run --threads auto``: the sweep that a device's cores suggest, its verdict, and the profile it goes into."""

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


class Sweep:
    """Looks at the cores of each device; plans and judges."""

    def __init__(self, devices: Sequence[Device]) -> None:
        self._devices = {device.name: device for device in devices}
        self._cores = {device.name: self._read(device) for device in devices}

    def trials(
        self, device: Device, *rest: Any, asked: Mapping[str, Sequence[Option]], **more: Any
    ) -> tuple[plan.Planned, ...]:
        """As ``plan.trials``, with the numbers of threads worth a try, each on its processors."""
        known = self._cores[device.name]
        planned = plan.trials(device, *rest, asked={**asked, "threads": known.candidates()}, **more)
        return tuple(
            replace(one, trial=replace(one.trial, options=cores.pinned(one.trial.options, known))) for one in planned
        )

    def conclude(
        self, write: bool, say_line: Callable[[str], None]
    ) -> Callable[[Sequence[Record]], Sequence[plan.Plan]]:
        """Says what was found, once the records are there; asks for nothing more."""

        def say(records: Sequence[Record]) -> Sequence[plan.Plan]:
            for name, device in self._devices.items():
                own = [record for record in records if record.trial.device == name]
                rates, what = rate_by_threads(own, "decode_tps"), "decoding"
                if not rates:
                    rates, what = rate_by_threads(own, "prefill_tps"), "prefill"
                found = best_threads(rates)
                if found is None:
                    say_line(f"{name}: no number of threads gave a rate")
                    continue
                on = self._cores[name].affinity(found.best)
                threads = f"{found.best} thread" + ("s" if found.best > 1 else "")
                best = f"{what} is fastest with {threads} on processors {on}: {found.rate:.3g} tokens/s"
                say_line(f"{name}: {best}{_doubted(own)}")
                if found.cliff:
                    few, before, many, after = found.cliff
                    text = f"from {few} to {many} threads it falls from {before:.3g} to {after:.3g} tokens/s"
                    say_line(f"{name}: a cliff: {text}")
                if write:
                    path = keep(device, found.best)
                    say_line(f"{name}: wrote threads: {found.best} to {path}")
            return ()

        return say

    def _read(self, device: Device) -> Cores:
        with Session(device) as session:
            found = cores.read(session)
        if found is None:
            raise DeviceRefused(
                f"{device.name} does not tell its cores", "Name the numbers of threads: --threads 1,2,4 or 1..16."
            )
        return found


DISTURBED = ("steal", "other-load", "throttled", "spread", "drift", "not-ready")
"""Doubts that may move the best number of threads."""


def _doubted(records: Sequence[Record]) -> str:
    found = {doubt.id for record in records for doubt in record.doubts}
    named = [id for id in DISTURBED if id in found]
    return f" (doubted: {', '.join(named)}; measure again on a quiet device)" if named else ""


def keep(device: Device, threads: int) -> Path:
    """Write ``defaults: threads`` into a device's profile; the file.

    A profile that ships with edgebench is copied into ``devices/`` here first. Everything else in
    it stays as it is. Raises ``UsageError`` where it can't be written.
    """
    source = device.source or profiles.locate("devices", device.name)
    shipped = profiles.folders("devices")[-1].resolve()
    own = Path("devices") / source.name if source.resolve().parent == shipped else source
    try:
        text = with_threads(source.read_text(encoding="utf-8"), threads)
        own.parent.mkdir(parents=True, exist_ok=True)
        own.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {own}: {error.strerror}") from error
    return own


def with_threads(text: str, threads: int) -> str:
    """A profile's text with another number of threads in its defaults; comments and order stay."""
    before = yaml.safe_load(text)
    line = re.search(r"^defaults:(.*)$", text, re.MULTILINE)
    if line is None:
        changed = text.rstrip("\n") + f"\ndefaults: {{threads: {threads}}}\n"
    else:
        head, rest = text[: line.end()], text[line.end() :]
        flow = "{" in line[1]
        place = head if flow else rest
        if "threads" in (before.get("defaults") or {}):
            start = line.start() if flow else 0
            place = place[:start] + re.sub(r"(\bthreads:\s*)[^,}\s]+", rf"\g<1>{threads}", place[start:], count=1)
        elif flow:
            place = place[: line.start()] + place[line.start() :].replace("{", f"{{threads: {threads}, ", 1)
            place = place.replace(", }", "}")
        else:
            indent = re.search(r"^( +)\S", rest, re.MULTILINE)
            place = f"\n{indent[1] if indent else '  '}threads: {threads}" + rest
        changed = place + rest if flow else head + place
    wanted = {**before, "defaults": {**(before.get("defaults") or {}), "threads": threads}}
    if yaml.safe_load(changed) != wanted:
        raise UsageError(
            "this profile is written in a way that can't be changed safely", f"Add threads: {threads} yourself."
        )
    return changed
