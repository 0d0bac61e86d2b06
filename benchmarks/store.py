"""How fast the store is: `python benchmarks/store.py [RECORDS …]`, by default 10000 and 100000.

Fills a store with made-up records (five rounds each, samples in one of ten), then times what people
wait for. Prints figures; asserts nothing.
"""

from __future__ import annotations

import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from edgebench.core import Facts, Record, Round, Sample, Trial
from edgebench.judging import judge
from edgebench.judging.over_rounds import over_rounds
from edgebench.store import ids
from edgebench.store.filters import Filter
from edgebench.store.results import Store

TEMPLATES = 200
"""So many records are made up in full; the others are copies under other names and ids."""
COMMITTED = 500
"""So many are committed as a run commits them; the others without waiting for the disk."""


def made_up(count: int, *, chance: random.Random) -> Iterator[Record]:
    """Records of many devices and settings; the store's own ids."""
    templates = [_template(number, chance=chance) for number in range(min(count, TEMPLATES))]
    run: dict[str, object] = {}
    for number in range(count):
        if number % 50 == 0:
            run = {"id": ids.new_id(), "name": f"made up {number // 50}", "started": "2026-01-01T00:00:00Z"}
        one = templates[number % len(templates)]
        trial = replace(one.trial, device=f"device{number % 40}", options={**one.trial.options, "depth": number})
        yield replace(one, id=ids.new_id(), run=run, trial=trial)


def _template(number: int, *, chance: random.Random) -> Record:
    rate = chance.uniform(5, 150)
    trial = Trial(
        "device", f"model{number % 7}", "llama.cpp", chance.choice(["cpu", "cuda", "metal"]),
        "throughput", {"ctx": 4096, "threads": number % 16 + 1, "prompt_tokens": 512, "gen_tokens": 128},
    )  # fmt: skip
    facts = Facts.from_document({
        "device": {"cpu": "A processor", "ram_b": 16 << 30, "os": "A system", "cores": 8},
        "model": {"sha256": f"{number % 7:064x}", "quantization": "Q4_0", "layers": 32},
        "engine": {"build": "b1", "backend": trial.backend, "instruction_sets": ["AVX", "AVX2", "FMA"]},
    })  # fmt: skip
    rounds = tuple(_round(index, rate, sampled=number % 10 == 0, chance=chance) for index in range(5))
    record = Record(
        "", {}, "ok", trial, facts, over_rounds(rounds), rounds=rounds,
        started="2026-01-01T00:00:00Z", finished="2026-01-01T00:01:00Z",
    )  # fmt: skip
    return replace(record, doubts=judge.judge(record))


def _round(index: int, rate: float, *, sampled: bool, chance: random.Random) -> Round:
    figures = {
        "decode_tps": rate * chance.gauss(1, 0.02),
        "prefill_tps": 8 * rate * chance.gauss(1, 0.02),
        "ttft_s": 5 / rate,
        "peak_footprint_b": 3e9 + chance.random() * 1e7,
        "peak_rss_b": 3e9,
        "cpu_util": 0.8,
        "steal": 0.0,
    }
    if index == 0:
        figures["load_s"] = chance.uniform(0.2, 3)
    samples = [
        Sample(name, chance.random(), at / 4, {})
        for at in range(120 if sampled else 0)
        for name in ("rss_b", "cpu_util", "power_w", "temp_c")
    ]
    turn = {"label": "tg128", "token_clock": "engine", "completion_tokens": 128, "decode_s": 127 / rate}
    return Round(index, "2026-01-01T00:00:00Z", figures, (turn,), tuple(samples), fresh=index == 0)


def timed(what: str, action: Callable[[], object], times: int = 5) -> None:
    """Print the median of several timings."""
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - began)
    print(f"  {what:<58} {statistics.median(seconds):8.3f} s")


def measure(count: int, folder: Path) -> None:
    """Fill a store and time its answers."""
    path = folder / f"{count}.sqlite"
    chance = random.Random(count)
    records = made_up(count, chance=chance)
    with Store(path) as store:
        began = time.perf_counter()
        for record in islice(records, COMMITTED):
            store.add(record)
        each = (time.perf_counter() - began) / min(count, COMMITTED)
        store._db.execute("PRAGMA synchronous = OFF")
        for record in records:
            store.add(record)
    print(f"{count} records: {path.stat().st_size / 2**20:.0f} MiB, {1e3 * each:.1f} ms to add one")
    with Store(path, read_only=True) as store:
        row = store.rows(Filter(newest=1))[0]
        timed("open", lambda: Store(path, read_only=True).close())
        timed("the table's query, every record", store.rows)
        timed("the table's query, one device", lambda: store.rows(Filter(devices=["device7"])))
        timed("count", store.count)
        timed("find an id", lambda: store.find_id(row.id))
        timed("the newest 20 records in full", lambda: list(store.records(Filter(newest=20))))
        timed("one record with samples", lambda: store.record(row.id))
        timed("every record with its rounds", lambda: sum(1 for _ in store.records()), times=1)
    print(f"  peak memory so far {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        for wanted in sys.argv[1:] or ["10000", "100000"]:
            measure(int(wanted), Path(name))
