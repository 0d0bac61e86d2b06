"""macOS: a POSIX shell, BSD tools, no /proc."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from edgebench.core import Fact, Json, ProbeSource
from edgebench.errors import Unreadable
from edgebench.systems import loops, posix, posix_files


class MacOs(posix.Posix):
    """Macs with Apple's or Intel's chips. Nothing that comes with them looks into one file's page cache."""

    default_workspace = "Library/Caches/edgebench/device"

    suffix = ""
    files = posix_files.Files(state="stat -Lf '%z %m'", digest="shasum -a 256")

    @property
    def facts(self) -> Mapping[str, Fact]:
        return FACTS

    def loop(self, sources: Mapping[str, ProbeSource], pid: int) -> str:
        return loops.posix(sources, pid, proc=False)


def parse_sysctl(text: str) -> Mapping[str, Json]:
    """``sysctl NAME…`` → ``cpu``, ``ram_b``, ``threads``, ``cores``, ``clusters`` (the fastest first)."""
    known = dict(re.findall(r"^([\w.]+): (.*)$", text, re.M))
    facts: dict[str, Json] = {}
    if name := known.get("machdep.cpu.brand_string", "").strip():
        facts["cpu"] = name
    numbers = {"ram_b": "hw.memsize", "threads": "hw.logicalcpu", "cores": "hw.physicalcpu"}
    facts.update({name: int(known[key]) for name, key in numbers.items() if known.get(key, "").isdigit()})
    levels = [known.get(f"hw.perflevel{n}.logicalcpu", "") for n in range(3)]
    clusters = [{"threads": int(level)} for level in levels if level.isdigit()]
    return {**facts, **({"clusters": clusters} if clusters else {})}


def parse_sw_vers(text: str) -> Mapping[str, Json]:
    """``sw_vers`` → ``os``, with the build."""
    known = dict(re.findall(r"^(\w+):\s+(.*)$", text, re.M))
    words = [known.get("ProductName", ""), known.get("ProductVersion", "")]
    build = f" ({known['BuildVersion']})" if "BuildVersion" in known else ""
    return {"os": " ".join(words).strip() + build} if all(words) else {}


def parse_displays(text: str) -> Mapping[str, Json]:
    """``system_profiler SPDisplaysDataType -json`` → ``gpus``."""
    try:
        cards = json.loads(text)["SPDisplaysDataType"]
        gpus = [{"name": card["sppci_model"], **_cores(card)} for card in cards if "sppci_model" in card]
    except (ValueError, KeyError, TypeError) as error:
        raise Unreadable(f"system_profiler printed something else: {text[:200]!r}") from error
    return {"gpus": gpus} if gpus else {}


def _cores(card: Mapping[str, Json]) -> dict[str, int]:
    cores = str(card.get("sppci_cores", ""))
    return {"cores": int(cores)} if cores.isdigit() else {}


def parse_pmset(text: str) -> Mapping[str, Json]:
    """``pmset -g ps``: ``Now drawing from 'AC Power'`` → ``power_source``."""
    sources = {"AC Power": "mains", "Battery Power": "battery"}
    found = re.search(r"^Now drawing from '([^']+)'", text, re.M)
    return {"power_source": sources[found[1]]} if found and found[1] in sources else {}


_NAMES = " ".join(
    ["machdep.cpu.brand_string", "hw.memsize", "hw.logicalcpu", "hw.physicalcpu"]
    + [f"hw.perflevel{n}.logicalcpu" for n in range(3)]
)

FACTS: Mapping[str, Fact] = {
    "boot": Fact("sysctl -n kern.bootsessionuuid", lambda text: {"boot": text.strip()} if text.strip() else {}),
    "cpu": Fact(f"for n in {_NAMES}; do sysctl $n 2>/dev/null; done; true", parse_sysctl),
    "os": Fact("sw_vers", parse_sw_vers),
    "kernel": Fact("uname -srm", lambda text: {"kernel": text.strip()} if text.strip() else {}),
    "gpu": Fact("system_profiler SPDisplaysDataType -json", parse_displays),
    "power": Fact("pmset -g ps", parse_pmset),
}
