"""How fast it answers: `edgebench --version` against `import click`, `import edgebench` against an empty Python.

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


def compared(name: str, ours: list[str], reference_name: str, reference: list[str]) -> None:
    mine, theirs = [], []
    for _ in range(PAIRS):
        mine.append(seconds(sys.executable, *ours))
        theirs.append(seconds(sys.executable, *reference))
    ratio = median(a / b for a, b in zip(mine, theirs, strict=True))
    print(f"{name}: {median(mine) * 1e3:.0f} ms; {reference_name}: {median(theirs) * 1e3:.0f} ms; ratio {ratio:.2f}")


def main() -> None:
    compared("edgebench --version", ["-m", "edgebench", "--version"], "import click", ["-c", "import click"])
    compared("import edgebench", ["-c", "import edgebench"], "empty Python", ["-c", ""])


if __name__ == "__main__":
    main()
