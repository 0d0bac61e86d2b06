"""What edgebench costs and changes: its rates against those of a bare script on the same server program.

    python benchmarks/harness.py [PAIRS [THREADS]]

Interleaved pairs on this machine with the small model, in random order within a pair; each side starts a server
of its own. `edgebench.run` measures with everything on: sampling, committing rounds, events. The script uses the
standard library alone, does not stream, and nothing watches its server.
- harness cost: decode rate through edgebench ÷ the script's (at least 0.99);
- fidelity: prefill and decode as edgebench counts them ÷ the server's own figures (0.97–1.03).

With a core left free (THREADS) other work on the machine disturbs less, and the ratios scatter less.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import edgebench
from edgebench.judging import stats

PROMPT, GENERATE, CTX = 64, 256, 512
VOCABULARY = range(1000, 20_000)
"""Token ids that the model has."""
START_S = 60.0


@dataclass(frozen=True)
class Program:
    """What edgebench started, to be started again by hand."""

    server: str
    model: str


class Library:
    """Rates through `edgebench.run`, and what it ran."""

    def __init__(self, folder: Path, threads: int) -> None:
        self._store, self._threads = folder / "results.sqlite", threads
        self.program: Program | None = None

    def rates(self) -> Mapping[str, float]:
        models: list[str] = []

        def note_model(device: str, event: edgebench.Event) -> None:
            if isinstance(event, edgebench.DeviceStarted):
                models.append(str(event.plan.trials[0].model.path))

        (record,) = edgebench.run(
            threads=self._threads,
            ctx=CTX,
            prompt_tokens=PROMPT,
            gen_tokens=GENERATE,
            rounds=1,
            settle=0,
            store=self._store,
            on_event=note_model,
        )
        self.program = Program(str(record.facts.engine.path), models[0])
        return {name: record.metrics[name].value for name in ("prefill_tps", "decode_tps")}


def ask(port: int, tokens: list[int], generate: int) -> Mapping[str, float]:
    """One request, not streamed; the server's own timings."""
    body = {"prompt": tokens, "n_predict": generate, "ignore_eos": True, "cache_prompt": False, "temperature": 0}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        timings: Mapping[str, float] = json.load(answer)["timings"]
    return timings


@contextmanager
def serving(program: Program, threads: int, port: int) -> Iterator[None]:
    """The server, ready, as edgebench starts it."""
    argv = [sys.executable, program.server, "--model", program.model, "--ctx-size", str(CTX), "--parallel", "1"]
    argv += ["--threads", str(threads), "--threads-batch", str(threads), "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_S
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health").close()
                break
            except (urllib.error.URLError, ConnectionError):
                if server.poll() is not None or time.monotonic() > deadline:
                    sys.exit("the bare server does not start")
                time.sleep(0.1)
        yield
    finally:
        server.terminate()
        server.wait()


def bare_rates(program: Program, threads: int) -> Mapping[str, float]:
    """The same requests as a trial of `throughput`, by hand."""
    tokens = random.choices(VOCABULARY, k=PROMPT)
    port = random.randrange(20_000, 30_000)
    with serving(program, threads, port):
        ask(port, tokens[:16], 8)  # warm-up
        prefill, decode = ask(port, tokens, 1), ask(port, tokens[:1], GENERATE)
    return {
        "prefill_tps": prefill["prompt_n"] / prefill["prompt_ms"] * 1e3,
        "decode_tps": (decode["predicted_n"] - 1) / decode["predicted_ms"] * 1e3,
    }


def main(pairs: int = 12, threads: int = os.cpu_count() or 1) -> None:
    ratios: dict[str, list[float]] = {"decode_tps": [], "prefill_tps": []}
    with tempfile.TemporaryDirectory() as name:
        library = Library(Path(name), threads)
        library.rates()  # fetches the model, and says what was started
        assert library.program
        for number in range(pairs):
            rates: dict[str, Mapping[str, float]] = {}
            for side in random.sample(["edgebench", "bare"], 2):
                rates[side] = library.rates() if side == "edgebench" else bare_rates(library.program, threads)
            for metric, values in ratios.items():
                values.append(rates["edgebench"][metric] / rates["bare"][metric])
            ours, bare = (rates[side]["decode_tps"] for side in ("edgebench", "bare"))
            both = ", ".join(f"{metric} ratio {values[-1]:.3f}" for metric, values in ratios.items())
            print(f"{number + 1}: decode {ours:.1f} and {bare:.1f} tokens/s; {both}", flush=True)
    print(f"harness cost and fidelity: decode, edgebench ÷ bare script: {summary(ratios['decode_tps'])} (0.99–1.03)")
    print(f"fidelity: prefill, edgebench ÷ bare script: {summary(ratios['prefill_tps'])} (0.97–1.03)")


def summary(ratios: list[float]) -> str:
    low, high = stats.interval(ratios) or (min(ratios), max(ratios))
    return f"{stats.median(ratios):.3f}, 95 % interval {low:.3f} to {high:.3f}, {len(ratios)} pairs"


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
