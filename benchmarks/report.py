"""How long a report takes and how large it is: 10,000 records with samples, 100,000 without; first paint of 100.

    python benchmarks/report.py [RECORDS …]

The records are made up (tests/lab/records.py); what is measured is edgebench itself. Each figure is printed
as it is there; all of them take a few minutes.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from lab.browser import CHROMIUM, FLAGS
from lab.records import record, samples
from playwright.sync_api import sync_playwright

from edgebench.core import Record
from edgebench.store import ids, packing, records
from edgebench.store.results import INDEXED_METRICS, Store

BACKENDS = ("cpu", "cuda", "vulkan")
TEMPLATES = 720
"""So many records are made up in full; the others are copies under other ids and times."""
STARTED = "2026-01-01T00:00:00Z"
BUNDLED = 1000


def template(chance: random.Random, *, sampled: bool) -> Record:
    """One of 30 devices, 3 backends, 4 thread counts."""
    metrics = {"decode_tps": chance.uniform(5, 100), "prefill_tps": 100.0, "ttft_s": 0.4}
    metrics |= {"load_s": chance.uniform(0.2, 3), "peak_footprint_b": chance.uniform(1e8, 1e9)}
    return record(
        device=f"synthetic-{chance.randrange(30)}",
        backend=chance.choice(BACKENDS),
        options={"ctx": 2048, "threads": chance.choice((1, 2, 4, 8))},
        metrics=metrics,
        samples=samples(30) if sampled else [],
        started=STARTED,
    )


def fill(path: Path, count: int, *, sampled: bool) -> None:
    """A store of so many synthetic records."""
    chance = random.Random(0)
    lead = ", ".join(f"{name}{end}" for name in INDEXED_METRICS for end in ("", "_low", "_high"))
    names = "device, model, engine, backend, scenario, options, facts"
    with Store(path) as store:
        store._db.execute("PRAGMA synchronous = OFF")
        made = [template(chance, sampled=sampled) for _ in range(min(count, TEMPLATES))]
        texts = []
        for one in made:
            store.add(one)
            texts.append(packing.dumps(records.to_json(replace(one, rounds=()))))
        store._db.execute("BEGIN")
        for number in range(len(made), count):
            one, text = made[number % TEMPLATES], texts[number % TEMPLATES]
            new, when = ids.new_id(), f"2026-02-{1 + number * 27 // count:02d}T00:00:00Z"
            doc = text.replace(f'"{one.id}"', f'"{new}"').replace(STARTED, when)
            for statement, values in (
                (f"trials SELECT ?, run, ?, {names} FROM trials WHERE id = ?", (new, when, one.id)),
                ("rounds SELECT ?, number, data, samples FROM rounds WHERE trial = ?", (new, one.id)),
                (f"records SELECT ?, status, doubts, failure, {lead} FROM records WHERE trial = ?", (new, one.id)),
                ("documents VALUES (?, ?)", (new, packing.zlib.compress(doc.encode()))),
            ):
                store._db.execute(f"INSERT INTO {statement}", values)
        store._db.execute("COMMIT")


@dataclass(frozen=True)
class Cost:
    """What a command took: seconds on the clock and of processor time, and its peak memory."""

    seconds: float
    processor: float
    mebibytes: float

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s, {self.processor:.1f} s of processor time, {self.mebibytes:.0f} MiB at most"


def cost(*words: str | Path) -> Cost:
    """Run ``edgebench`` with these words to its end."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "edgebench", *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    assert process.stderr
    if status:
        raise SystemExit(process.stderr.read().decode())
    return Cost(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


QUERY = """
import statistics, sys, time
from pathlib import Path
from edgebench.store.results import Store
with Store(Path(sys.argv[1]), read_only=True) as store:
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        store.rows()
        seconds.append(time.perf_counter() - began)
print(statistics.median(seconds))
"""


def query(store: Path) -> float:
    """Seconds of the table's query in a process of its own: all that lives in this one costs it, too."""
    return float(subprocess.check_output([sys.executable, "-c", QUERY, store]))


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


def say(text: str) -> None:
    print(text, flush=True)


def hundred(folder: Path) -> None:
    """The first paint of a page of 100 records."""
    fill(folder / "hundred.sqlite", 100, sampled=True)
    say(f"100 records: page in {cost('report', '--store', folder / 'hundred.sqlite', '-o', folder)}")
    paints = first_paint(folder / "index.html")
    say(f"  first paint after {statistics.median(paints):.2f} s, at worst {max(paints):.2f} s (aim: 1)")


def measure(count: int, folder: Path) -> None:
    """The table's query, the page, and (with samples) the forms that hold every record."""
    store, sampled = folder / f"{count}.sqlite", count <= 10_000
    began = time.perf_counter()
    fill(store, count, sampled=sampled)
    took, size = time.perf_counter() - began, store.stat().st_size / 2**20
    say(f"{count} records{' with samples' if sampled else ''}, {size:.0f} MiB, made in {took:.0f} s")
    say(f"  the table's query in {query(store):.3f} s" + (" (aim: 0.1)" if sampled else ""))
    page = cost("report", "--store", store, "-o", folder)
    aims = " (aims: 10 s, 20 MB)" if sampled else ""
    say(f"  page in {page}; {(folder / 'index.html').stat().st_size / 1e6:.1f} MB{aims}")
    if sampled:
        for form in ("csv", "json"):
            say(f"  {form} in {cost('report', '--format', form, '--store', store, '-o', folder)}")
        words = ("results", "export", "--bundle", folder / "x.zip", "--newest", str(BUNDLED), "--store", store)
        say(f"  bundle of {BUNDLED} in {cost(*words)}")
        say(f"  taken in again in {cost('results', 'import', folder / 'x.zip', '--store', folder / 'y.sqlite')}")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        hundred(Path(name))
        for count in sys.argv[1:] or ["10000", "100000"]:
            measure(int(count), Path(name))


if __name__ == "__main__":
    main()
