"""Memory of the engine's process tree on macOS."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from edgebench.core import ProbeSource, Quantity, Sample, SampleMetric
from edgebench.probes.quantities import PEAK_RSS, RSS
from edgebench.probes.tree import descendants

_ROW = re.compile(r"^ *(\d+) +(\d+) +(\d+) *$", re.MULTILINE)
_FOOTPRINT = re.compile(r"phys_footprint(_peak)?: ([\d.,]+) (B|KB|MB|GB)")
_SCALE = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}


class MemoryMacos:
    """``ps`` for resident memory (its peak is the highest sample), ``footprint`` for the rest."""

    quantities: Mapping[str, Quantity] = {
        "peak_rss_b": PEAK_RSS,
        "rss_b": RSS,
        "footprint_b": Quantity(
            "bytes",
            "macOS physical footprint of the process: dirty, compressed and GPU memory, without clean mapped weights.",
            {"footprint_b": SampleMetric("median", "physical footprint", "lower")},
        ),
        "footprint_peak_b": Quantity(
            "bytes",
            "Peak physical footprint, tracked by the kernel.",
            {"footprint_peak_b": SampleMetric("max", "peak physical footprint", "lower")},
        ),
    }
    sources: Mapping[str, Sequence[ProbeSource]] = {
        "macos": (
            ProbeSource(command="echo pid {pid}; ps -A -o pid=,ppid=,rss=", interval=1),
            ProbeSource(command="footprint -f bytes -p {pid} | grep phys_footprint", interval=5),
        )
    }

    def parse(self, at: float, text: str) -> Iterable[Sample]:
        for peak, amount, unit in _FOOTPRINT.findall(text):
            yield Sample(
                "footprint_peak_b" if peak else "footprint_b", float(amount.replace(",", "")) * _SCALE[unit], at
            )
        if not (root := re.match(r"pid (\d+)", text)):
            return
        rows = {int(pid): (int(parent), int(rss)) for pid, parent, rss in _ROW.findall(text)}
        tree = descendants(int(root[1]), {pid: parent for pid, (parent, _) in rows.items()})
        if total := sum(rows[pid][1] for pid in tree) * 1024:
            yield Sample("rss_b", total, at)
            yield Sample("peak_rss_b", total, at, {"how": "highest reading"})
