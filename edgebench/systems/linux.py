"""Linux: a POSIX shell, /proc and /sys, and the usual tools."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from edgebench.core import Fact, Json, PageCache, ProbeSource
from edgebench.errors import Unreadable
from edgebench.systems import loops, posix


class Linux(posix.Posix):
    """Debian, Ubuntu, Arch, … and their kin; a login shell that is a POSIX shell."""

    default_workspace = ".cache/edgebench/device"

    @property
    def facts(self) -> Mapping[str, Fact]:
        return FACTS

    def loop(self, sources: Mapping[str, ProbeSource], pid: int) -> str:
        return loops.posix(sources, pid, perl=True)

    def page_cache(self, path: str) -> PageCache | None:
        """util-linux's ``fincore`` looks (mincore(2)); ``dd`` asks with posix_fadvise(2). A model may
        be a folder of files."""
        files = f"find -L {posix.quote([path])} -type f -exec"
        return PageCache(
            Fact(f"LC_ALL=C {files} fincore -b -n -r -o RES,SIZE -- {{}} +", parse_fincore),
            fill=f"{files} cat -- {{}} + >/dev/null",
            evict=f"{files} dd if={{}} iflag=nocache count=0 ';' 2>/dev/null",
        )


def parse_lscpu(text: str) -> Mapping[str, Json]:
    """``lscpu -J`` → ``cpu``, ``threads``, ``cores``, ``hypervisor``, ``instruction_sets``."""
    try:
        fields = _flat(json.loads(text)["lscpu"])
    except (ValueError, KeyError, TypeError) as error:
        raise Unreadable(f"lscpu -J printed something else: {text[:200]!r}") from error
    facts: dict[str, Json] = {}
    if "Model name" in fields:
        facts["cpu"] = fields["Model name"]
    if "Architecture" in fields:
        facts["architecture"] = fields["Architecture"]
    if fields.get("CPU(s)", "").isdigit():
        facts["threads"] = int(fields["CPU(s)"])
    cores, sockets = fields.get("Core(s) per socket", ""), fields.get("Socket(s)", "")
    if cores.isdigit() and sockets.isdigit():
        facts["cores"] = int(cores) * int(sockets)
    if fields.get("Hypervisor vendor"):
        facts["hypervisor"] = fields["Hypervisor vendor"]
    have = set(fields.get("Flags", "").split())
    named = [name for flag, name in INSTRUCTION_SETS.items() if flag in have]
    if named:
        facts["instruction_sets"] = named
    return facts


SAME_CLUSTER = 0.92
"""Cores at least this fast, compared with the fastest of a cluster, belong to it: single favoured
cores of one kind differ by a few per cent."""


def parse_clusters(text: str) -> Mapping[str, Json]:
    """``CPUS:KHZ`` of each cpufreq policy → ``clusters``: ``cpus`` and ``max_hz`` of each.

    Where each processor has a policy of its own (x86), those of about one speed are one cluster.
    """
    pairs = re.findall(r"^([\d ]+):(\d+)$", text, re.M)
    found = [(sorted(map(int, cpus.split())), int(khz)) for cpus, khz in pairs]
    if all(len(cpus) == 1 for cpus, _ in found):
        merged: list[tuple[list[int], int]] = []
        for cpus, khz in sorted(found, key=lambda one: (-one[1], one[0])):
            if merged and khz >= SAME_CLUSTER * merged[-1][1]:
                merged[-1][0].extend(cpus)
            else:
                merged.append((cpus, khz))
        found = merged
    clusters = [{"cpus": sorted(cpus), "max_hz": khz * 1000} for cpus, khz in found]
    return {"clusters": clusters} if clusters else {}


INSTRUCTION_SETS = {
    "avx": "AVX",
    "avx2": "AVX2",
    "fma": "FMA",
    "f16c": "F16C",
    "avx_vnni": "AVX_VNNI",
    "avx512f": "AVX512",
    "avx512_vnni": "AVX512_VNNI",
    "avx512_bf16": "AVX512_BF16",
    "amx_int8": "AMX_INT8",
    "asimd": "NEON",
    "asimddp": "DOTPROD",
    "i8mm": "MATMUL_INT8",
    "sve": "SVE",
}
"""The kernel's name of a CPU flag → llama.cpp's name of the instruction set."""


def _flat(fields: list[dict[str, Json]]) -> dict[str, str]:
    flat: dict[str, str] = {}
    for field in fields:
        flat.setdefault(str(field["field"]).rstrip(":"), str(field.get("data") or ""))
        flat.update({k: v for k, v in _flat(field.get("children") or []).items() if k not in flat})
    return flat


def parse_meminfo(text: str) -> Mapping[str, Json]:
    """``/proc/meminfo`` (proc(5)) → ``ram_b``, ``swap_b``, ``ram_available_b``; its kB are KiB."""
    names = {"MemTotal": "ram_b", "SwapTotal": "swap_b", "MemAvailable": "ram_available_b"}
    pairs = re.findall(r"^(\w+):\s+(\d+) kB$", text, re.M)
    return {names[name]: int(value) * 1024 for name, value in pairs if name in names}


def parse_fincore(text: str) -> Mapping[str, Json]:
    """``fincore -b -n -r -o RES,SIZE`` → ``resident``: share of the files in the page cache, 0…1."""
    numbers = text.split()
    if not numbers or len(numbers) % 2 or not all(number.isdigit() for number in numbers):
        raise Unreadable(f"fincore printed something else: {text[:200]!r}")
    cached, size = sum(map(int, numbers[::2])), sum(map(int, numbers[1::2]))
    return {"resident": min(1.0, cached / size) if size else 1.0}


def parse_os_release(text: str) -> Mapping[str, Json]:
    """``os-release(5)`` → ``os``."""
    found = re.search(r'^PRETTY_NAME=(?:"([^"]*)"|(\S+))', text, re.M)
    return {"os": found[1] or found[2]} if found else {}


def parse_power(text: str) -> Mapping[str, Json]:
    """``type:online:status`` of each power supply → ``power_source``: ``mains`` or ``battery``."""
    supplies = [line.split(":") for line in text.splitlines() if line.count(":") == 2]
    if any(kind == "Mains" and online == "1" for kind, online, _ in supplies):
        return {"power_source": "mains"}
    if any(kind == "Battery" and status == "Discharging" for kind, _, status in supplies):
        return {"power_source": "battery"}
    return {}


def parse_nvidia(text: str) -> Mapping[str, Json]:
    """``nvidia-smi --query-gpu=name,driver_version,memory.total`` → ``gpus``."""
    gpus = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 3 and parts[2].endswith("MiB"):
            gpus.append({"name": parts[0], "driver": parts[1], "memory_b": int(parts[2].split()[0]) * 2**20})
    return {"gpus": gpus} if gpus else {}


def _text(command: str, name: str) -> Fact:
    return Fact(command, lambda text: {name: text.strip()} if text.strip() else {})


CLUSTERS = Fact(
    'for p in /sys/devices/system/cpu/cpufreq/policy*; do echo "$(cat $p/related_cpus):$(cat $p/cpuinfo_max_freq)";'
    " done 2>/dev/null; true",
    parse_clusters,
)
BOOT = _text("cat /proc/sys/kernel/random/boot_id", "boot")
"""The same in every container, and for every user, of a running machine (random(4))."""
_CPUFREQ = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"

FACTS: Mapping[str, Fact] = {
    "boot": BOOT,
    "cpu": Fact("LC_ALL=C lscpu -J", parse_lscpu),
    "clusters": CLUSTERS,
    "memory": Fact("cat /proc/meminfo", parse_meminfo),
    "os": Fact("cat /etc/os-release", parse_os_release),
    "kernel": _text("uname -srm", "kernel"),
    "governor": _text(f"cat {_CPUFREQ} 2>/dev/null; true", "governor"),
    "power": Fact(
        "for s in /sys/class/power_supply/*; do [ -r $s/type ] || continue; "
        'echo "$(cat $s/type):$(cat $s/online 2>/dev/null):$(cat $s/status 2>/dev/null)"; done; true',
        parse_power,
    ),
    "gpu": Fact(
        "command -v nvidia-smi >/dev/null && "
        "nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader; true",
        parse_nvidia,
    ),
}
