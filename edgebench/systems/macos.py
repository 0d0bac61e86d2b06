"""macOS: a POSIX shell, BSD tools, no /proc."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from edgebench.core import Cluster, DeviceFacts, Fact, Gpu, ProbeSource
from edgebench.core.fields import Fields
from edgebench.errors import Unreadable
from edgebench.systems import loops, posix, posix_files
from edgebench.systems.linux import parse_boot, parse_int, parse_kernel


class MacOs(posix.Posix):
    """Macs with Apple's or Intel's chips. macOS has no tool that inspects the page cache of a file."""

    default_workspace = "Library/Caches/edgebench/device"

    suffix = ""
    files = posix_files.Files(state="stat -Lf '%z %m'", digest="shasum -a 256")

    @property
    def facts(self) -> Mapping[str, Fact[DeviceFacts]]:
        return FACTS

    def loop(self, sources: Mapping[str, ProbeSource], pid: int) -> str:
        return loops.posix_loop(sources, pid, proc=False)


def parse_sysctl(text: str) -> DeviceFacts:
    """``sysctl NAME…`` → ``cpu``, ``ram_b``, ``threads``, ``cores``, ``clusters`` (the fastest first)."""
    values = dict(re.findall(r"^([\w.]+): (.*)$", text, re.M))
    levels = [values.get(f"hw.perflevel{n}.logicalcpu", "") for n in range(3)]
    return DeviceFacts(
        cpu=values.get("machdep.cpu.brand_string", "").strip() or None,
        ram_b=parse_int(values.get("hw.memsize")),
        threads=parse_int(values.get("hw.logicalcpu")),
        cores=parse_int(values.get("hw.physicalcpu")),
        clusters=tuple(Cluster(threads=int(level)) for level in levels if level.isdigit()),
    )


def parse_sw_vers(text: str) -> DeviceFacts:
    """``sw_vers`` → ``os``, with the build."""
    values = dict(re.findall(r"^(\w+):\s+(.*)$", text, re.M))
    words = [values.get("ProductName", ""), values.get("ProductVersion", "")]
    build = f" ({values['BuildVersion']})" if "BuildVersion" in values else ""
    return DeviceFacts(os=" ".join(words).strip() + build if all(words) else None)


def parse_displays(text: str) -> DeviceFacts:
    """``system_profiler SPDisplaysDataType -json`` → ``gpus``."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise Unreadable(f"unexpected output of system_profiler: {text[:200]!r}") from error
    cards = [(card.text("sppci_model"), card.text("sppci_cores")) for card in map(Fields, _cards(document))]
    return DeviceFacts(gpus=tuple(Gpu(name, cores=parse_int(cores)) for name, cores in cards if name))


def _cards(document: object) -> tuple[object, ...]:
    return Fields(document).items("SPDisplaysDataType")


def parse_pmset(text: str) -> DeviceFacts:
    """``pmset -g ps``: ``Now drawing from 'AC Power'`` → ``power_source``."""
    sources = {"AC Power": "mains", "Battery Power": "battery"}
    match = re.search(r"^Now drawing from '([^']+)'", text, re.M)
    return DeviceFacts(power_source=sources.get(match[1]) if match else None)


_SYSCTL_NAMES = " ".join(
    ["machdep.cpu.brand_string", "hw.memsize", "hw.logicalcpu", "hw.physicalcpu"]
    + [f"hw.perflevel{n}.logicalcpu" for n in range(3)]
)

FACTS: Mapping[str, Fact[DeviceFacts]] = {
    "boot": Fact("sysctl -n kern.bootsessionuuid", parse_boot),
    "cpu": Fact(f"for n in {_SYSCTL_NAMES}; do sysctl $n 2>/dev/null; done; true", parse_sysctl),
    "os": Fact("sw_vers", parse_sw_vers),
    "kernel": Fact("uname -srm", parse_kernel),
    "gpu": Fact("system_profiler SPDisplaysDataType -json", parse_displays),
    "power": Fact("pmset -g ps", parse_pmset),
}
