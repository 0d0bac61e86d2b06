"""macOS: a POSIX shell, BSD tools, no /proc."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from edgebench.core import Cluster, DeviceFacts, Fact, Gpu, ProbeSource
from edgebench.core.fields import Fields
from edgebench.errors import Unreadable
from edgebench.systems import loops, posix, posix_files
from edgebench.systems.linux import parse_boot, parse_kernel, whole_number


class MacOs(posix.Posix):
    """Macs with Apple's or Intel's chips. Nothing that comes with them looks into one file's page cache."""

    default_workspace = "Library/Caches/edgebench/device"

    suffix = ""
    files = posix_files.Files(state="stat -Lf '%z %m'", digest="shasum -a 256")

    @property
    def facts(self) -> Mapping[str, Fact[DeviceFacts]]:
        return FACTS

    def loop(self, sources: Mapping[str, ProbeSource], pid: int) -> str:
        return loops.posix(sources, pid, proc=False)


def parse_sysctl(text: str) -> DeviceFacts:
    """``sysctl NAME…`` → ``cpu``, ``ram_b``, ``threads``, ``cores``, ``clusters`` (the fastest first)."""
    known = dict(re.findall(r"^([\w.]+): (.*)$", text, re.M))
    levels = [known.get(f"hw.perflevel{n}.logicalcpu", "") for n in range(3)]
    return DeviceFacts(
        cpu=known.get("machdep.cpu.brand_string", "").strip() or None,
        ram_b=whole_number(known.get("hw.memsize")),
        threads=whole_number(known.get("hw.logicalcpu")),
        cores=whole_number(known.get("hw.physicalcpu")),
        clusters=tuple(Cluster(threads=int(level)) for level in levels if level.isdigit()),
    )


def parse_sw_vers(text: str) -> DeviceFacts:
    """``sw_vers`` → ``os``, with the build."""
    known = dict(re.findall(r"^(\w+):\s+(.*)$", text, re.M))
    words = [known.get("ProductName", ""), known.get("ProductVersion", "")]
    build = f" ({known['BuildVersion']})" if "BuildVersion" in known else ""
    return DeviceFacts(os=" ".join(words).strip() + build if all(words) else None)


def parse_displays(text: str) -> DeviceFacts:
    """``system_profiler SPDisplaysDataType -json`` → ``gpus``."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise Unreadable(f"system_profiler printed something else: {text[:200]!r}") from error
    cards = [(card.text("sppci_model"), card.text("sppci_cores")) for card in map(Fields, _cards(document))]
    return DeviceFacts(gpus=tuple(Gpu(name, cores=whole_number(cores)) for name, cores in cards if name))


def _cards(document: object) -> tuple[object, ...]:
    return Fields(document).items("SPDisplaysDataType")


def parse_pmset(text: str) -> DeviceFacts:
    """``pmset -g ps``: ``Now drawing from 'AC Power'`` → ``power_source``."""
    sources = {"AC Power": "mains", "Battery Power": "battery"}
    found = re.search(r"^Now drawing from '([^']+)'", text, re.M)
    return DeviceFacts(power_source=sources.get(found[1]) if found else None)


_NAMES = " ".join(
    ["machdep.cpu.brand_string", "hw.memsize", "hw.logicalcpu", "hw.physicalcpu"]
    + [f"hw.perflevel{n}.logicalcpu" for n in range(3)]
)

FACTS: Mapping[str, Fact[DeviceFacts]] = {
    "boot": Fact("sysctl -n kern.bootsessionuuid", parse_boot),
    "cpu": Fact(f"for n in {_NAMES}; do sysctl $n 2>/dev/null; done; true", parse_sysctl),
    "os": Fact("sw_vers", parse_sw_vers),
    "kernel": Fact("uname -srm", parse_kernel),
    "gpu": Fact("system_profiler SPDisplaysDataType -json", parse_displays),
    "power": Fact("pmset -g ps", parse_pmset),
}
