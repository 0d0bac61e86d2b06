"""What edgebench costs and changes: sampling on against off, and its figures against a bare script's.

    python benchmarks/harness.py [ROUNDS [THREADS]]

THREADS are the engine's; by default as many as it takes itself. With a core left free other work on the
machine disturbs less, and the ratios scatter less.

One server serves all three, in interleaved rounds, on this machine with the small model:
- harness cost: decode rate with the sampler running ÷ without (at least 0.99);
- fidelity: prefill and decode as `edgebench run` measures them ÷ those of a bare HTTP script that does the
  arithmetic on the same server's timings (median within 0.97–1.03).
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
import urllib.request
from statistics import median
from typing import Any

from edgebench import modelfiles, profiles
from edgebench.bench import measure
from edgebench.bench.launcher import EngineProcess
from edgebench.bench.sampler import Sampler
from edgebench.core import Launch, Request, ScenarioContext, Turn
from edgebench.device.session import Session
from edgebench.engines.llamacpp import LlamaCpp, Settings
from edgebench.judging import stats
from edgebench.scenarios.throughput import Throughput, random_tokens

PROMPT, GENERATE = 256, 256
SHORT = 32
"""Tokens of a piece that is set beside another: what a hypervisor takes changes within seconds."""
SETTLE_S = 0.5
"""The sampler looks at everything once when it starts; in a run that is before the engine is ready."""


def bare(port: int, key: str, tokens: tuple[int, ...], generate: int) -> dict[str, Any]:
    """The same request by the standard library alone, not streamed."""
    body = {"prompt": list(tokens), "n_predict": generate, "ignore_eos": True, "cache_prompt": False, "temperature": 0}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/completion",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        timings: dict[str, Any] = json.load(answer)["timings"]
    return timings


def ours(engine: LlamaCpp, live: EngineProcess, tokens: tuple[int, ...], *, prefill: bool) -> dict[str, float]:
    """What a trial of `throughput` asks and how it counts."""
    requests = [
        Request(tokens=tokens[:1], max_tokens=SHORT if prefill else GENERATE, ignore_eos=True, measures=("decode",))
    ]
    if prefill:
        requests.insert(0, Request(tokens=tokens, max_tokens=1, ignore_eos=True, measures=("prefill",)))
    return measure.rates([Turn.of(r, engine.complete(live.client, r)) for r in requests])


def theirs(live: EngineProcess, tokens: tuple[int, ...]) -> dict[str, float]:
    port, key = live.client.address
    prefill = bare(port, key, tokens, 1)
    decode = bare(port, key, tokens[:1], SHORT)
    return {
        "prefill_tps": prefill["prompt_n"] / prefill["prompt_ms"] * 1e3,
        "decode_tps": (decode["predicted_n"] - 1) / decode["predicted_ms"] * 1e3,
    }


def ratio(text: str, above: list[float], below: list[float]) -> None:
    """Print the median of the pairs' ratios so far, with its interval."""
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    low, high = stats.interval(ratios) or (min(ratios), max(ratios))
    print(f"{text}: {median(ratios):.3f}, 95 % interval {low:.3f} to {high:.3f}, {len(ratios)} pairs", flush=True)


def cost(session: Session, engine: LlamaCpp, live: EngineProcess, tokens: tuple[int, ...], rounds: int) -> None:
    """Sampling on and off by turns. As in a run, the sampler is there well before the decode it watches.

    Each round is on, off, off, on (or the other way round), so that a drift of the machine cancels out.
    """
    pid = live.running.wait_started()
    on: list[float] = []
    off: list[float] = []
    for number in range(rounds):
        for sampled in (True, False, False, True) if number % 2 else (False, True, True, False):
            with Sampler(session, pid) if sampled else contextlib.nullcontext():
                time.sleep(SETTLE_S)
                (on if sampled else off).append(ours(engine, live, tokens, prefill=False)["decode_tps"])
        print(
            f"  round {number + 1}: on {on[-2]:.1f} {on[-1]:.1f}, off {off[-2]:.1f} {off[-1]:.1f} tokens/s", flush=True
        )
    ratio("harness cost: decode, sampling on ÷ off (at least 0.99)", on, off)


def fidelity(engine: LlamaCpp, live: EngineProcess, tokens: tuple[int, ...], rounds: int) -> None:
    found: dict[str, tuple[list[float], list[float]]] = {"decode_tps": ([], []), "prefill_tps": ([], [])}
    for number in range(rounds):
        both = {}
        for name in ("edgebench", "bare") if number % 2 else ("bare", "edgebench"):
            both[name] = ours(engine, live, tokens, prefill=True) if name == "edgebench" else theirs(live, tokens)
        for name, (above, below) in found.items():
            above.append(both["edgebench"][name])
            below.append(both["bare"][name])
    for name, (above, below) in found.items():
        ratio(f"fidelity: {name.split('_')[0]}, edgebench ÷ bare script (0.97–1.03)", above, below)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 12
    threads = int(sys.argv[2]) if len(sys.argv) > 2 else None
    model = modelfiles.resolve("smollm2-135m-q4_1")
    tokens = random_tokens(ScenarioContext(model, 4096, {**Throughput.options}, 0, len), PROMPT)
    with Session(profiles.load_device("local")) as session:
        engine = LlamaCpp(session, Settings())
        engine.prepare()
        with EngineProcess(session, engine, Launch(str(model.path), options={"ctx": 4096, "threads": threads})) as live:
            fidelity(engine, live, tokens[:SHORT], 8 * rounds)
            live.sampler.__exit__(None, None, None)
            cost(session, engine, live, tokens, rounds)


if __name__ == "__main__":
    main()
