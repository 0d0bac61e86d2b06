"""How fast the command line answers: `edgebench --version` against `python -c "import click"`.

    python benchmarks/start.py

Interleaved, one pair after the other, so that a machine that changes its speed changes both.
"""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median

PAIRS = 21


def seconds(*argv: str) -> float:
    begin = time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def main() -> None:
    ours, theirs = [], []
    for _ in range(PAIRS):
        ours.append(seconds(sys.executable, "-m", "edgebench", "--version"))
        theirs.append(seconds(sys.executable, "-c", "import click"))
    ratio = median(a / b for a, b in zip(ours, theirs, strict=True))
    print(f"edgebench --version: {median(ours) * 1e3:.0f} ms; import click: {median(theirs) * 1e3:.0f} ms")
    print(f"ratio, median of {PAIRS} pairs: {ratio:.2f} (at most 1.5)")


if __name__ == "__main__":
    main()
