"""Android, through ``adb shell`` or through Termux: mksh or another POSIX shell, and toybox."""

from __future__ import annotations

import re
from collections.abc import Mapping

from edgebench.core import DeviceFacts, Fact, Gpu
from edgebench.systems import posix
from edgebench.systems.linux import BOOT, CLUSTERS, INSTRUCTION_SETS, parse_kernel, parse_meminfo


class Android(posix.Posix):
    """Android through ``adb shell``. toybox can neither inspect the page cache nor evict from it."""

    default_workspace = "edgebench"

    @property
    def facts(self) -> Mapping[str, Fact[DeviceFacts]]:
        return FACTS


class Termux(Android):
    """Termux over SSH: an app's sandbox with fewer probes, everything under its own home."""


def parse_getprop(text: str) -> DeviceFacts:
    """``[name]: [value]`` lines → ``model``, ``cpu`` (the chip), ``os``, ``build``."""
    values = dict(re.findall(r"^\[([^\]]+)\]: \[([^\]\n]*)\]\s*$", text, re.M))
    chip = [
        values.get("ro.soc.manufacturer"),
        values.get("ro.soc.model") or values.get("ro.board.platform"),
    ]
    model = [values.get("ro.product.manufacturer"), values.get("ro.product.model")]
    release = values.get("ro.build.version.release")
    return DeviceFacts(
        model=" ".join(word for word in model if word) or None,
        cpu=" ".join(word for word in chip if word) or None,
        os=f"Android {release}" if release else None,
        build=values.get("ro.build.fingerprint") or None,
    )


def parse_cpuinfo(text: str) -> DeviceFacts:
    """``/proc/cpuinfo`` → ``threads``, ``instruction_sets``."""
    threads = len(re.findall(r"^processor\s*:", text, re.M))
    flags = re.search(r"^(?:Features|flags)\s*:(.*)$", text, re.M)
    features = flags[1].split() if flags else []
    sets = tuple(name for flag, name in INSTRUCTION_SETS.items() if flag in features)
    return DeviceFacts(threads=threads or None, instruction_sets=sets)


def parse_battery(text: str) -> DeviceFacts:
    """``dumpsys battery`` (BatteryService.java) → ``power_source``."""
    powered = re.findall(r"^\s*(?:AC|USB|Wireless|Dock) powered: (true|false)\s*$", text, re.M)
    if not powered:
        return DeviceFacts()
    return DeviceFacts(power_source="mains" if "true" in powered else "battery")


def parse_gles(text: str) -> DeviceFacts:
    """``GLES: VENDOR, RENDERER, VERSION`` of ``dumpsys SurfaceFlinger`` → ``gpus``."""
    match = re.search(r"^\s*GLES: ([^,\n]+), ([^,\n]+), (.+)$", text, re.M)
    return DeviceFacts(gpus=(Gpu(f"{match[1]} {match[2]}", match[3].strip()),)) if match else DeviceFacts()


_PROPERTIES_PATTERN = r"^.ro.(soc|product.(model|manufacturer)|board.platform|build.(fingerprint|version.release))"

FACTS: Mapping[str, Fact[DeviceFacts]] = {
    "boot": BOOT,
    "device": Fact(f"getprop | grep -E '{_PROPERTIES_PATTERN}'", parse_getprop),
    "cpu": Fact("cat /proc/cpuinfo", parse_cpuinfo),
    "clusters": CLUSTERS,
    "memory": Fact("cat /proc/meminfo", parse_meminfo),
    "kernel": Fact("uname -srm", parse_kernel),
    "power": Fact("dumpsys battery", parse_battery),
    "gpu": Fact("dumpsys SurfaceFlinger | grep GLES:", parse_gles),
}
