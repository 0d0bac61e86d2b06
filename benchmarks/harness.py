"""What edgebench costs and changes: sampling on against off, and its figures against a bare script's.

    python benchmarks/harness.py [ROUNDS]

One server serves all three, in interleaved rounds, on this machine with the small model:
- harness cost: decode rate with the sampler running ÷ without (at least 0.99);
- fidelity: prefill and decode as `edgebench run` measures them ÷ those of a bare HTTP script that does the
  arithmetic on the same server's timings (median within 0.97–1.03).
"""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Callable
from statistics import median
from typing import Any

from edgebench import measure, models, profiles
from edgebench.core import Launch, ModelFile, Request, Setting
from edgebench.engines.llamacpp import LlamaCpp, Settings
from edgebench.launcher import Live
from edgebench.sampler import Sampler
from edgebench.scenarios.throughput import Throughput, random_tokens
from edgebench.session import Session

PROMPT, GENERATE = 512, 128


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


def ways(session: Session, engine: LlamaCpp, live: Live, model: ModelFile) -> dict[str, Callable[[], dict[str, float]]]:
    """Three ways to the same two rates."""
    tokens = random_tokens(Setting(model, 4096, {**Throughput.options}, 0, len), PROMPT)
    port, key = live.client.address
    pid = live.running.wait_started()

    def ours() -> dict[str, float]:
        requests = [
            Request(tokens=tokens, max_tokens=1, ignore_eos=True, measures=("prefill",)),
            Request(tokens=tokens[:1], max_tokens=GENERATE, ignore_eos=True, measures=("decode",)),
        ]
        return measure.rates([measure.turn(r, engine.complete(live.client, r)) for r in requests])

    def sampled() -> dict[str, float]:
        with Sampler(session, pid):
            return ours()

    def theirs() -> dict[str, float]:
        prefill = bare(port, key, tokens, 1)
        decode = bare(port, key, tokens[:1], GENERATE)
        return {
            "prefill_tps": prefill["prompt_n"] / prefill["prompt_ms"] * 1e3,
            "decode_tps": (decode["predicted_n"] - 1) / decode["predicted_ms"] * 1e3,
        }

    return {"sampled": sampled, "ours": ours, "bare": theirs}


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    model = models.resolve("smollm2-135m-q4_1")
    found: dict[str, list[dict[str, float]]] = {}
    with Session(profiles.load_device("local")) as session:
        engine = LlamaCpp(session, Settings())
        engine.prepare()
        with Live(session, engine, Launch(str(model.path), ctx=4096)) as live:
            live.sampler.__exit__(None, None, None)  # `sampled` starts its own
            way = ways(session, engine, live, model)
            for one in way.values():
                one()
            for number in range(rounds):
                names = list(way)
                for name in names[number % 3 :] + names[: number % 3]:
                    found.setdefault(name, []).append(way[name]())
    for a, b, name, text in (
        ("sampled", "ours", "decode_tps", "harness cost: decode, sampling on ÷ off (at least 0.99)"),
        ("sampled", "bare", "decode_tps", "fidelity: decode, edgebench ÷ bare script (0.97–1.03)"),
        ("sampled", "bare", "prefill_tps", "fidelity: prefill, edgebench ÷ bare script (0.97–1.03)"),
    ):
        ratios = [x[name] / y[name] for x, y in zip(found[a], found[b], strict=True)]
        print(f"{text}: {median(ratios):.3f}, rounds {', '.join(f'{ratio:.3f}' for ratio in ratios)}")


if __name__ == "__main__":
    main()
