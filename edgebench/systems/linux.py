"""Linux: a POSIX shell, /proc and /sys, and the usual tools."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from edgebench.core import Cluster, DeviceFacts, Fact, Gpu, PageCache, ProbeSource
from edgebench.core.fields import Fields
from edgebench.errors import Unreadable
from edgebench.systems import loops, posix


class Linux(posix.Posix):
    """Debian, Ubuntu, Arch, … and derivatives, with a POSIX login shell."""

    default_workspace = ".cache/edgebench/device"

    @property
    def facts(self) -> Mapping[str, Fact[DeviceFacts]]:
        return FACTS

    def loop(self, sources: Mapping[str, ProbeSource], pid: int) -> str:
        return loops.posix_loop(sources, pid, perl=True)

    def page_cache(self, path: str) -> PageCache | None:
        """Inspect with util-linux's ``fincore`` (mincore(2)), evict with ``dd`` (posix_fadvise(2)). A model
        may be a folder of files."""
        files = f"find -L {posix.quote([path])} -type f -exec"
        return PageCache(
            Fact(f"LC_ALL=C {files} fincore -b -n -r -o RES,SIZE -- {{}} +", parse_fincore),
            fill=f"{files} cat -- {{}} + >/dev/null",
            evict=f"{files} dd if={{}} iflag=nocache count=0 ';' 2>/dev/null",
        )


def parse_lscpu(text: str) -> DeviceFacts:
    """``lscpu -J`` → ``cpu``, ``threads``, ``cores``, ``hypervisor``, ``instruction_sets``."""
    try:
        entries = Fields(json.loads(text)).items("lscpu")
    except ValueError as error:
        raise Unreadable(f"unexpected output of lscpu -J: {text[:200]!r}") from error
    if not entries:
        raise Unreadable(f"unexpected output of lscpu -J: {text[:200]!r}")
    fields = _flatten(entries)
    cores, sockets = fields.get("Core(s) per socket", ""), fields.get("Socket(s)", "")
    flags = set(fields.get("Flags", "").split())
    return DeviceFacts(
        cpu=fields.get("Model name"),
        architecture=fields.get("Architecture"),
        threads=parse_int(fields.get("CPU(s)")),
        cores=int(cores) * int(sockets) if cores.isdigit() and sockets.isdigit() else None,
        hypervisor=fields.get("Hypervisor vendor") or None,
        instruction_sets=tuple(name for flag, name in INSTRUCTION_SETS.items() if flag in flags),
    )


def parse_int(text: str | None) -> int | None:
    """The integer value of a string of digits; None for anything else."""
    return int(text) if text and text.isdigit() else None


SAME_CLUSTER = 0.92
"""Cores at least this fast, relative to the fastest of a cluster, belong to it: favoured cores of one
type differ by a few per cent."""


def parse_clusters(text: str) -> DeviceFacts:
    """``CPUS:KHZ`` of each cpufreq policy → ``clusters``: ``cpus`` and ``max_hz`` of each.

    If each CPU has its own policy (x86), CPUs of about the same speed form one cluster.
    """
    pairs = re.findall(r"^([\d ]+):(\d+)$", text, re.M)
    clusters = [(sorted(map(int, cpus.split())), int(khz)) for cpus, khz in pairs]
    if all(len(cpus) == 1 for cpus, _ in clusters):
        merged: list[tuple[list[int], int]] = []
        for cpus, khz in sorted(clusters, key=lambda cluster: (-cluster[1], cluster[0])):
            if merged and khz >= SAME_CLUSTER * merged[-1][1]:
                merged[-1][0].extend(cpus)
            else:
                merged.append((cpus, khz))
        clusters = merged
    return DeviceFacts(clusters=tuple(Cluster(tuple(sorted(cpus)), khz * 1000) for cpus, khz in clusters))


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


def _flatten(entries: Iterable[object]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for entry in map(Fields, entries):
        fields.setdefault((entry.text("field") or "").rstrip(":"), entry.text("data") or "")
        fields = {**_flatten(entry.items("children")), **fields}
    return fields


def parse_meminfo(text: str) -> DeviceFacts:
    """``/proc/meminfo`` (proc(5)) → ``ram_b``, ``swap_b``, ``ram_available_b``; its kB are KiB."""
    sizes = {name: int(value) * 1024 for name, value in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.M)}
    return DeviceFacts(
        ram_b=sizes.get("MemTotal"), swap_b=sizes.get("SwapTotal"), ram_available_b=sizes.get("MemAvailable")
    )


def parse_fincore(text: str) -> float:
    """``fincore -b -n -r -o RES,SIZE`` → share of the files in the page cache, 0…1."""
    numbers = text.split()
    if not numbers or len(numbers) % 2 or not all(number.isdigit() for number in numbers):
        raise Unreadable(f"unexpected output of fincore: {text[:200]!r}")
    cached, size = sum(map(int, numbers[::2])), sum(map(int, numbers[1::2]))
    return min(1.0, cached / size) if size else 1.0


def parse_os_release(text: str) -> DeviceFacts:
    """``os-release(5)`` → ``os``."""
    match = re.search(r'^PRETTY_NAME=(?:"([^"]*)"|(\S+))', text, re.M)
    return DeviceFacts(os=match[1] or match[2]) if match else DeviceFacts()


def parse_power(text: str) -> DeviceFacts:
    """``type:online:status`` of each power supply → ``power_source``: ``mains`` or ``battery``."""
    supplies = [line.split(":") for line in text.splitlines() if line.count(":") == 2]
    if any(supply_type == "Mains" and online == "1" for supply_type, online, _ in supplies):
        return DeviceFacts(power_source="mains")
    if any(supply_type == "Battery" and status == "Discharging" for supply_type, _, status in supplies):
        return DeviceFacts(power_source="battery")
    return DeviceFacts()


def parse_nvidia(text: str) -> DeviceFacts:
    """``nvidia-smi --query-gpu=name,driver_version,memory.total`` → ``gpus``."""
    gpus = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 3 and parts[2].endswith("MiB"):
            gpus.append(Gpu(parts[0], parts[1], int(parts[2].split()[0]) * 2**20))
    return DeviceFacts(gpus=tuple(gpus))


def parse_kernel(text: str) -> DeviceFacts:
    """``uname -srm`` → ``kernel``."""
    return DeviceFacts(kernel=text.strip() or None)


def parse_boot(text: str) -> DeviceFacts:
    """The id of a boot → ``boot``."""
    return DeviceFacts(boot=text.strip() or None)


def parse_governor(text: str) -> DeviceFacts:
    """``scaling_governor`` (cpufreq in the kernel's admin guide) → ``governor``."""
    return DeviceFacts(governor=text.strip() or None)


CLUSTERS = Fact(
    'for p in /sys/devices/system/cpu/cpufreq/policy*; do echo "$(cat $p/related_cpus):$(cat $p/cpuinfo_max_freq)";'
    " done 2>/dev/null; true",
    parse_clusters,
)
BOOT = Fact("cat /proc/sys/kernel/random/boot_id", parse_boot)
"""The same in every container, and for every user, of a running machine (random(4))."""
_CPUFREQ = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"

FACTS: Mapping[str, Fact[DeviceFacts]] = {
    "boot": BOOT,
    "cpu": Fact("LC_ALL=C lscpu -J", parse_lscpu),
    "clusters": CLUSTERS,
    "memory": Fact("cat /proc/meminfo", parse_meminfo),
    "os": Fact("cat /etc/os-release", parse_os_release),
    "kernel": Fact("uname -srm", parse_kernel),
    "governor": Fact(f"cat {_CPUFREQ} 2>/dev/null; true", parse_governor),
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
