"""Speculative decoding: the own loop against llama-server's, what a sweep costs beside its generations,
and what the best K brings. Ratios of one run; other work on the machine is in all of them alike.

    python benchmarks/speculative.py [--k 4,8] [--rounds 5] [--tokens 128] [--sweep 1..16] [--threads 2]

About ten minutes on two cores; every figure is printed as soon as it is known. `--k ""` leaves the
comparison out, `--sweep ""` the sweep. On a machine with other work on it give --threads 1: threads that
wait for one another measure the others.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from lab.native import bin_folder

import edgebench
from edgebench.judging import costs

TARGET, DRAFT = "smollm2-135m-f16", "smollm2-135m-q4_1"
ENGINES = ("llama-cpp-python", "llama.cpp")
"""Of the own loop, and of llama-server's."""


def native_device(folder: Path) -> Path:
    """A profile of this machine whose llama.cpp is the native server of the test extra's wheel."""
    native = {"path": str(bin_folder() / "llama-server"), "env": {"LD_LIBRARY_PATH": str(bin_folder())}}
    about = {"name": "native", "system": "auto", "transport": {"kind": "local"}, "engines": {"llama.cpp": native}}
    profile = folder / "native.yaml"
    profile.write_text(json.dumps(about))
    return profile


def decode_rate(device: Path, engine: str, k: int, tokens: int, threads: int) -> float:
    """Tokens/s with ``k`` draft tokens at once."""
    sweep = edgebench.speculative(
        device,
        TARGET,
        DRAFT,
        k=k,
        engine=engine,
        rounds=1,
        settle=0,
        store=device.parent / "results.sqlite",
        ctx=512,
        gen_tokens=tokens,
        threads=threads,
        # Without repacked weights on both sides: some virtual machines forbid what repacking needs.
        repack=False,
    )
    (record,) = sweep.filter(k=k, draft=DRAFT)
    if record.failure:
        sys.exit(f"{engine}, k = {k}: {record.failure.message}")
    return record.metrics["decode_tps"].value


def against_llama_server(ks: Sequence[int], rounds: int, tokens: int, threads: int) -> dict[int, float]:
    """Own decode rate ÷ llama-server's at the same K, median over interleaved pairs."""
    ratios: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        device = native_device(Path(folder))
        for k in ks:
            pairs: list[float] = []
            for number in range(rounds):
                rates = {
                    engine: decode_rate(device, engine, k, tokens, threads) for engine in random.sample(ENGINES, 2)
                }
                pairs.append(rates["llama-cpp-python"] / rates["llama.cpp"])
                print(f"  k = {k}, pair {number + 1}: own ÷ llama-server {pairs[-1]:.2f}", flush=True)
            ratios[k] = median(pairs)
            print(f"k = {k}: own loop ÷ llama-server {ratios[k]:.2f}", flush=True)
    return ratios


def sweep(ks: str, rounds: int, tokens: int, threads: int) -> tuple[float, edgebench.Results]:
    """Wall time ÷ sum of the generation times of a sweep, and its records."""
    with tempfile.TemporaryDirectory() as folder:
        began, at = time.time(), time.monotonic()
        results = edgebench.speculative(
            target=TARGET,
            draft=DRAFT,
            k=ks,
            rounds=rounds,
            store=Path(folder) / "results.sqlite",
            ctx=512,
            gen_tokens=tokens,
            threads=threads,
        )
        took = time.monotonic() - at
    finished = [one for record in results for one in record.rounds]
    turns = [turn for one in finished for turn in one.turns]
    generating = sum(turn.total_s or 0 for turn in turns if turn.label.startswith("k = "))
    costing = sum(turn.total_s or 0 for turn in turns if turn.label == "costs")
    first = min(moment(one.started) for one in finished) - began
    print(f"sweep {ks}, {rounds} rounds: {took:.1f} s, generations {generating:.1f} s, ratio {took / generating:.3f}")
    print(
        f"  of the rest: {first:.1f} s until the first round (start, idle device, load), {costing:.1f} s costs of "
        f"verifying and drafting, {took - generating - costing - first:.1f} s between {len(finished)} trials and at "
        "the end"
    )
    return took / generating, results


def moment(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def show(results: edgebench.Results) -> None:
    """Print every K, the cost curve and what follows from it, and the best speed-up."""
    for record in results:
        shown = {name: round(record.metrics[name].value, 3) for name in FIGURES if name in record.metrics}
        print(f"  k = {record.trial.options['k']:2}: {shown}")
    measured = costs.collect_costs(list(results))
    if measured:
        curve = ", ".join(f"{n}: {1e3 * s:.1f}" for n, s in sorted(measured.verify_s.items()))
        print(f"cost curve, ms for evaluating n tokens at once: {curve}")
        steps = f"{1e3 * (measured.draft_s or 0):.1f} ms, its first {1e3 * (measured.first_draft_s or 0):.1f} ms"
        print(f"a step of the draft: {steps}")
        if most := costs.predict_best_case(list(results)):
            print(f"with every token accepted these costs would give {most[1].value:.2f}× at most, at k = {most[0]}")
    best = max((r for r in results if "speedup" in r.metrics), key=lambda r: r.metrics["speedup"].value)
    speedup = best.metrics["speedup"].value
    print(f"best: k = {best.trial.options['k']}, {speedup:.2f}× (wanted: 1.3 on an idle machine)")
    for line in sorted({f"doubt {doubt.id}" for record in results for doubt in record.doubts}):
        print(f"  {line}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--k", default="4,8")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--sweep", default="1..16")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    if args.k:
        ks = [int(k) for k in args.k.split(",")]
        ratios = against_llama_server(ks, args.rounds, args.tokens, args.threads)
        print(f"own loop ÷ llama-server: {min(ratios.values()):.2f} at the least (wanted: 0.9)", flush=True)
    if args.sweep:
        overhead, results = sweep(args.sweep, args.rounds, args.tokens, args.threads)
        print(f"sweep ÷ its generations: {overhead:.2f} (wanted: 1.15 at the most)")
        show(results)


FIGURES = ("decode_tps", "speedup", "predicted_speedup", "acceptance", "tokens_per_verification")

if __name__ == "__main__":
    main()
