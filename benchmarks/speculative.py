"""Speculative decoding: the own loop against llama-server's, what a sweep costs beside its generations,
and what the best K brings. Ratios of one run; other work on the machine is in all of them alike.

    python benchmarks/speculative.py [--k 4,8] [--rounds 5] [--tokens 128] [--sweep 1..16] [--threads 2]

About eight minutes on two cores; every figure is printed as soon as it is known. `--k ""` leaves the
comparison out, `--sweep ""` the sweep. On a machine with other work on it give --threads 1: threads that
wait for one another measure the others.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from lab.native import bin_folder

from edgebench import modelfiles, profiles
from edgebench.bench.launcher import EngineProcess
from edgebench.core import Drafting, Engine, Launch, Request
from edgebench.device.session import Session
from edgebench.engines.llama_cpp_python import LlamaCppPython
from edgebench.engines.llamacpp import LlamaCpp
from edgebench.judging import costs
from edgebench.scenarios.speculative import PROMPT
from edgebench.store.records import from_json

PAIR = ("smollm2-135m-f16", "smollm2-135m-q4_1")


def llama_server() -> tuple[str, dict[str, str]]:
    """The native server of the test extra's wheel and the environment it needs."""
    folder = bin_folder()
    return str(folder / "llama-server"), {"LD_LIBRARY_PATH": str(folder)}


def request(k: int, tokens: int) -> Request:
    return Request(
        messages=({"role": "user", "content": PROMPT},),
        max_tokens=tokens,
        ignore_eos=True,
        reuse_cache=True,
        extra={"speculative.n_max": k},
    )


def against_llama_server(ks: list[int], rounds: int, tokens: int, threads: int) -> dict[int, float]:
    """Own decode rate ÷ llama-server's at the same K, median over rounds; one process of each a K."""
    target, draft = (modelfiles.resolve(name) for name in PAIR)
    path, env = llama_server()
    ratios: dict[int, float] = {}
    with Session(profiles.load_device("local")) as session:
        own: Engine = LlamaCppPython(session, LlamaCppPython.Config())
        theirs: Engine = LlamaCpp(session, LlamaCpp.Config(path=path, env=env))
        print(f"own: {own.prepare().get('build')}; llama-server: {theirs.prepare().get('build')}")
        # Without repacked weights on both sides: some virtual machines forbid what repacking needs.
        launch = Launch(
            str(target.path), options={"ctx": 512, "threads": threads, "repack": False}, draft=str(draft.path)
        )
        for k in ks:
            with ExitStack() as stack:
                live = {
                    "own": stack.enter_context(EngineProcess(session, own, launch)),
                    "theirs": stack.enter_context(
                        EngineProcess(session, theirs, replace(launch, drafting=Drafting(k)))
                    ),
                }
                rates: dict[str, list[float]] = {"own": [], "theirs": []}
                for number in range(rounds + 1):
                    if number > 1:
                        print(f"  k = {k}, round {number - 1}: own ÷ llama-server {last_ratio(rates):.2f}", flush=True)
                    for side, engine in (("own", own), ("theirs", theirs))[:: 1 if number % 2 else -1]:
                        reply = engine.complete(live[side].client, request(k, tokens))
                        assert reply.draft_tokens, f"{side} did not speculate"
                        assert reply.decode_s
                        if number:  # the first one warms up
                            rates[side].append((reply.completion_tokens - 1) / reply.decode_s)
            each = [a / b for a, b in zip(rates["own"], rates["theirs"], strict=True)]
            ratios[k] = median(each)
            print(
                f"k = {k}: own {median(rates['own']):.1f}, llama-server {median(rates['theirs']):.1f} tokens/s, "
                f"ratio {ratios[k]:.2f} (of each round: {', '.join(f'{ratio:.2f}' for ratio in each)})",
                flush=True,
            )
    return ratios


def last_ratio(rates: dict[str, list[float]]) -> float:
    return rates["own"][-1] / rates["theirs"][-1]


def sweep(ks: str, rounds: int, tokens: int, threads: int) -> tuple[float, list[dict[str, Any]]]:
    """Wall time ÷ sum of the generation times of a sweep, and its records."""
    with tempfile.TemporaryDirectory() as folder:
        argv = ["speculative", "--k", ks, "--rounds", rounds, "--gen-tokens", tokens, "--ctx", 512, "--json", "-"]
        argv += ["--threads", threads]
        began, at = time.time(), time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "edgebench", *map(str, argv)], cwd=folder, stdout=subprocess.PIPE, check=True
        )
        took = time.monotonic() - at
    records: list[dict[str, Any]] = json.loads(done.stdout)["records"]
    every = [one for record in records for one in record["rounds"]]
    turns = [turn for one in every for turn in one["turns"]]
    generating = sum(turn["total_s"] for turn in turns if turn["label"].startswith("k = "))
    costs = sum(turn["total_s"] for turn in turns if turn["label"] == "costs")
    first = min(moment(one["started"]) for one in every) - began
    print(f"sweep {ks}, {rounds} rounds: {took:.1f} s, generations {generating:.1f} s, ratio {took / generating:.3f}")
    print(
        f"  of the rest: {first:.1f} s until the first round (start, idle device, load), {costs:.1f} s costs of "
        f"verifying and drafting, {took - generating - costs - first:.1f} s between {len(every)} trials and at the end"
    )
    return took / generating, records


def moment(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def told(records: list[dict[str, Any]]) -> float:
    """Print every K, the cost curve and what follows from it; the best speed-up."""
    for record in records:
        options, metrics = record["trial"]["options"], record["metrics"]
        shown = {name: round(metrics[name]["value"], 3) for name in FIGURES if name in metrics}
        print(f"  k = {options['k']:2}: {shown}")
    kept = [from_json(record) for record in records]
    known = costs.measured(kept)
    if known:
        curve = ", ".join(f"{n}: {1e3 * s:.1f}" for n, s in sorted(known.verify_s.items()))
        print(f"cost curve, ms for evaluating n tokens at once: {curve}")
        steps = f"{1e3 * (known.draft_s or 0):.1f} ms, its first {1e3 * (known.first_draft_s or 0):.1f} ms"
        print(f"a step of the draft: {steps}")
        if most := costs.allowed(kept):
            print(f"with every token accepted these costs would give {most[1].value:.2f}× at most, at k = {most[0]}")
    best = max((r for r in records if "speedup" in r["metrics"]), key=lambda r: r["metrics"]["speedup"]["value"])
    speedup: float = best["metrics"]["speedup"]["value"]
    print(f"best: k = {best['trial']['options']['k']}, {speedup:.2f}× (wanted: 1.3 on an idle machine)")
    for line in sorted({f"doubt {doubt['id']}" for record in records for doubt in record["doubts"]}):
        print(f"  {line}")
    return speedup


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
        overhead, records = sweep(args.sweep, args.rounds, args.tokens, args.threads)
        print(f"sweep ÷ its generations: {overhead:.2f} (wanted: 1.15 at the most)")
        told(records)


FIGURES = ("decode_tps", "speedup", "predicted_speedup", "acceptance", "tokens_per_verification")

if __name__ == "__main__":
    main()
