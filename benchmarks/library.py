"""What the library costs: decode rate through `edgebench.run` against the command line of another checkout.

    python benchmarks/library.py CHECKOUT [PAIRS]

Interleaved, one pair after the other, in random order within a pair. CHECKOUT is a working tree of the commit to
compare with, such as `git worktree add ../parent HEAD~1`.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import edgebench
from edgebench.judging import stats

OPTIONS = {"ctx": 512, "prompt_tokens": 64, "gen_tokens": 128, "threads": 1}


def through_library(folder: Path) -> float:
    results = edgebench.run(rounds=1, settle=0, store=folder / "library.sqlite", **OPTIONS)
    return results[0].metrics["decode_tps"].value


def through_command_line(checkout: Path, folder: Path) -> float:
    words = [word for name, value in OPTIONS.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    done = subprocess.run(
        [sys.executable, "-m", "edgebench", "run", "--rounds", "1", "--settle", "0", "--json", "-", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        capture_output=True,
        check=True,
    )
    return float(json.loads(done.stdout)["records"][0]["metrics"]["decode_tps"]["value"])


def main(checkout: str, pairs: str = "12") -> None:
    ratios = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(int(pairs)):
            order = random.sample(["library", "command line"], 2)
            rates = {}
            for way in order:
                library = way == "library"
                rates[way] = through_library(folder) if library else through_command_line(Path(checkout), folder)
            ratios.append(rates["library"] / rates["command line"])
            print(f"{number + 1}: {rates['library']:.1f} ÷ {rates['command line']:.1f} tokens/s = {ratios[-1]:.3f}")
    low, high = stats.interval(ratios) or (min(ratios), max(ratios))
    print(f"library ÷ command line: {stats.median(ratios):.3f} ({low:.3f}–{high:.3f})")


if __name__ == "__main__":
    main(*sys.argv[1:])
