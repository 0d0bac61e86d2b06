"""GPUs of AMD, Intel and Arm on Linux: the kernel's per-process statistics and AMD's own files.

``/proc/PID/fdinfo`` as the kernel's "DRM client usage stats" describe it: ``drm-resident-REGION``
(``drm-memory-REGION`` in older drivers), ``drm-engine-NAME`` in nanoseconds. One client can have
several file descriptors: they count once.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from edgebench.core import ProbeSource, Quantity, Sample
from edgebench.probes.quantities import (
    GPU_CLOCK,
    GPU_MEMORY,
    GPU_SHARED,
    GPU_USED,
    GPU_UTIL,
    POWER,
    TEMPERATURE,
)

_EVICTED = "amd-evicted-vram"
_FDINFO = re.compile(rf"^(/proc/\d+/fdinfo/\d+):(?:drm-([\w-]+)|({_EVICTED})):\s*(.+?)\s*$")
_AMOUNT = re.compile(r"^(\d+)(?: (KiB|MiB|GiB|ns))?$")
_SCALE = {None: 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_CARD = "/sys/class/drm/card*/device"
_FILE = re.compile(r"^/sys/class/drm/(card\d+)/device/(?:hwmon/hwmon\d+/)?(\w+):(\d+)$")
_QUANTITIES_BY_FILE = {
    "gpu_busy_percent": ("gpu_util", 0.01),
    "mem_info_vram_used": ("gpu_used_b", 1.0),
    "power1_average": ("power_w", 1e-6),
    "power1_input": ("power_w", 1e-6),
    "temp1_input": ("temp_c", 1e-3),
    "freq1_input": ("gpu_clock_hz", 1.0),
}


class Drm:
    """GPU memory and use of the engine's process, and AMD cards' power, clock and temperature.

    Memory that AMD's driver evicted from a card to main memory counts as shared GPU memory.
    """

    quantities: Mapping[str, Quantity] = {
        "gpu_memory_b": GPU_MEMORY,
        "gpu_shared_b": GPU_SHARED,
        "gpu_used_b": GPU_USED,
        "gpu_util": GPU_UTIL,
        "gpu_clock_hz": GPU_CLOCK,
        "power_w": POWER,
        "temp_c": TEMPERATURE,
    }
    sources: Mapping[str, Sequence[ProbeSource]] = {
        "linux": (
            ProbeSource(files=("/proc/{pid}/fdinfo/*",), lines=("drm-", f"{_EVICTED}:"), interval=1),
            ProbeSource(
                files=(
                    f"{_CARD}/gpu_busy_percent",
                    f"{_CARD}/mem_info_vram_used",
                    *(f"{_CARD}/hwmon/hwmon*/{name}" for name in list(_QUANTITIES_BY_FILE)[2:]),
                ),
                interval=1,
            ),
        ),
    }

    def __init__(self) -> None:
        self._at: float | None = None
        self._engines: dict[tuple[str, str], int] = {}

    def parse(self, at: float, text: str) -> Iterable[Sample]:
        return [*self._files(at, text), *self._clients(at, text)]

    def _files(self, at: float, text: str) -> Iterable[Sample]:
        cards_with_power = set()
        for line in text.splitlines():
            if not (match := _FILE.match(line)) or match[2] not in _QUANTITIES_BY_FILE:
                continue
            card, (name, scale) = match[1], _QUANTITIES_BY_FILE[match[2]]
            value = int(match[3]) * scale
            if name == "power_w" and (card in cards_with_power or value <= 0):
                continue
            if name == "power_w":
                cards_with_power.add(card)
            yield Sample(name, value, at, {"of": card} if name in ("power_w", "temp_c") else {"gpu": card})

    def _clients(self, at: float, text: str) -> Iterable[Sample]:
        fields: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for line in text.splitlines():
            if match := _FDINFO.match(line):
                fields[match[1]][match[2] or match[3]] = match[4]
        clients = {
            (rows.get("pdev", rows.get("driver", "")), rows["client-id"]): rows
            for rows in fields.values()
            if "client-id" in rows
        }
        if not clients:
            return
        memory: defaultdict[str, int] = defaultdict(int)
        evicted: defaultdict[str, int] = defaultdict(int)
        engines: dict[tuple[str, str], int] = {}
        for (gpu, client), rows in clients.items():
            if regions := _regions(rows):
                memory[gpu] += sum(regions.values())
            if amount := _AMOUNT.match(rows.get(_EVICTED, "")):
                evicted[gpu] += int(amount[1]) * _SCALE[amount[2]]
            for name, value in rows.items():
                amount = _AMOUNT.match(value)
                if name.startswith("engine-") and not name.startswith("engine-capacity") and amount:
                    engines[f"{gpu} {name[7:]}", client] = int(amount[1])
        yield from (Sample("gpu_memory_b", value, at, {"gpu": gpu}) for gpu, value in memory.items())
        yield from (Sample("gpu_shared_b", value, at, {"gpu": gpu}) for gpu, value in evicted.items())
        yield from self._busy(at, engines)

    def _busy(self, at: float, engines: dict[tuple[str, str], int]) -> Iterable[Sample]:
        busy_ns: defaultdict[str, int] = defaultdict(int)
        for key, value in engines.items():
            if key in self._engines:
                busy_ns[key[0]] += max(0, value - self._engines[key])
        if self._at is not None and at > self._at:
            for name, nanoseconds in busy_ns.items():
                yield Sample("gpu_util", min(1.0, nanoseconds * 1e-9 / (at - self._at)), at, {"engine": name})
        self._at, self._engines = at, engines


def _regions(rows: Mapping[str, str]) -> dict[str, int]:
    """Bytes by memory region; ``cpu``, memory evicted from the GPU, is omitted."""
    regions: dict[str, int] = {}
    for prefix in ("memory-", "resident-"):
        for name, value in rows.items():
            amount = _AMOUNT.match(value)
            if name.startswith(prefix) and amount and amount[2] != "ns" and name[len(prefix) :] != "cpu":
                regions[name[len(prefix) :]] = int(amount[1]) * _SCALE[amount[2]]
    return regions
