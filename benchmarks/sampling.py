"""What sampling costs on the device: processor time of the loop at its default rates, of one core.

    python benchmarks/sampling.py [SECONDS]

All installed probes watch a process that sleeps, on this machine: by Perl, and without one in each
shell. Three figures: the loop's own account once it goes on steadily, the same with its start (what
every record holds), and the kernel's for the whole process tree once it has ended.
A busy machine makes every process dearer (cold caches): look at the load it prints.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from edgebench.bench.sampler import Cost, Sampler
from edgebench.core import Device
from edgebench.device.session import Session

LIMIT = 0.005
SECONDS = 60.0
START_S = 5.0
"""From then on it goes on steadily."""


def spent() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def once(shell: str, seconds: float, pid: int) -> None:
    """Print the cost with ``sh`` being this shell and no Perl; with mksh all programs are toybox's, as on Android."""
    with tempfile.TemporaryDirectory() as folder:
        if shell != "perl":
            (Path(folder) / "sh").symlink_to(str(shutil.which(shell)))
            (Path(folder) / "perl").symlink_to("/bin/false")
        if shell == "mksh":
            toybox = str(shutil.which("toybox"))
            for name in subprocess.check_output([toybox], text=True).split():
                if not (Path(folder) / name).exists():
                    (Path(folder) / name).symlink_to(toybox)
        path, os.environ["PATH"] = os.environ["PATH"], f"{folder}:{os.environ['PATH']}"
        before, begin = spent(), time.monotonic()
        with Session(Device("here", "linux", {"kind": "local"})) as session, Sampler(session, pid) as sampler:
            time.sleep(START_S)
            start = sampler.cost
            time.sleep(seconds)
            cost, samples = sampler.cost, len(sampler.samples)
        os.environ["PATH"] = path
    if cost is None or start is None:
        raise SystemExit("the loop said nothing of its cost")
    steady = Cost(cost.cpu_s - start.cpu_s, cost.wall_s - start.wall_s)
    tree = (spent() - before) / (time.monotonic() - begin)
    verdict = "below" if steady.share < LIMIT else "ABOVE"
    print(
        f"{shell:5} {steady.share:.3%} of one core by its own account, {cost.share:.3%} with the start, "
        f"{tree:.3%} by the kernel's with start and end, {samples / cost.wall_s:.0f} samples/s, "
        f"load {os.getloadavg()[0]:.1f}: {verdict} the limit of {LIMIT:.1%}"
    )


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    with subprocess.Popen(["sleep", "100000"]) as process:
        try:
            for shell in ("perl", "dash", "bash", "mksh"):
                if shutil.which(shell):
                    once(shell, seconds, process.pid)
        finally:
            process.kill()


if __name__ == "__main__":
    main()
