"""How long a report takes and how large it is: 10,000 records with samples; first paint of 100.

    python benchmarks/report.py [RECORDS]

The records are made up (tests/lab/records.py); what is measured is edgebench itself.
"""

from __future__ import annotations

import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from lab.browser import CHROMIUM, FLAGS
from lab.records import record, samples
from playwright.sync_api import sync_playwright

from edgebench.store import Store

BACKENDS = ("cpu", "cuda", "vulkan")


def fill(path: Path, count: int, *, sampled: bool) -> None:
    """A store of synthetic records of 30 devices, 3 backends, 4 thread counts."""
    draw = random.Random(0)
    readings = samples(30) if sampled else []
    with Store(path) as store:
        for number in range(count):
            metrics = {"decode_tps": draw.uniform(5, 100), "prefill_tps": 100.0, "ttft_s": 0.4}
            metrics |= {"load_s": draw.uniform(0.2, 3), "peak_footprint_b": draw.uniform(1e8, 1e9)}
            made = record(
                device=f"synthetic-{draw.randrange(30)}",
                backend=draw.choice(BACKENDS),
                options={"ctx": 2048, "threads": draw.choice((1, 2, 4, 8))},
                metrics=metrics,
                samples=readings,
                started=f"2026-01-{1 + number * 27 // count:02d}T00:00:00Z",
            )
            store.add(made)


def write(path: Path, folder: Path) -> tuple[float, float, Path]:
    """Seconds that ``edgebench report`` takes from start to exit, those of processor time, and the page."""
    began, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "edgebench", "report", "--store", str(path), "-o", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    return time.perf_counter() - began, processor, folder / "index.html"


def first_paint(page: Path, times: int = 5) -> list[float]:
    """Seconds from navigation to first contentful paint, each in a fresh context."""
    painted = "performance.getEntriesByName('first-contentful-paint').map(entry => entry.startTime)[0]"
    found = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        for _ in range(times):
            context = browser.new_context()
            opened = context.new_page()
            opened.goto(page.as_uri())
            opened.wait_for_function(f"{painted} > 0")
            found.append(opened.evaluate(painted) / 1000)
            context.close()
        browser.close()
    return found


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder / "many.sqlite", count, sampled=count <= 10_000)
        seconds, processor, page = write(folder / "many.sqlite", folder / "many")
        size = page.stat().st_size / 1e6
        print(f"{count} records: page in {seconds:.1f} s (aim: 10), {size:.1f} MB (aim: 20)")
        print(f"  {processor:.1f} s of processor time")
        fill(folder / "hundred.sqlite", 100, sampled=True)
        *_, page = write(folder / "hundred.sqlite", folder / "hundred")
        paints = first_paint(page)
        middle, worst = statistics.median(paints), max(paints)
        print(f"100 records: first paint after {middle:.2f} s, at worst {worst:.2f} s (aim: 1)")


if __name__ == "__main__":
    main()
