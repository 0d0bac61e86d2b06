"""Synthetic records for tests of views and stores. Made up, every one: none is a measurement."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from edgebench.core import Doubt, Facts, Failure, Metric, Option, Record, Round, Sample, Status, Trial, Turn

MIB = 1024**2
UNITS = {"_s": "s", "_tps": "tokens/s", "_b": "bytes", "_w": "W", "_j": "J", "_c": "°C"}
_ids = count(1)


def unit(name: str) -> str:
    if name == "j_per_token":
        return "J/token"
    return next((known for end, known in UNITS.items() if name.endswith(end)), "1")


def metric(name: str, value: float, spread: float = 0.02, rounds: int = 5) -> Metric:
    values = tuple(value * (1 + spread * (i - (rounds - 1) / 2) / max(rounds, 1)) for i in range(rounds))
    if rounds < 2:
        return Metric(value, unit(name), values)
    return Metric(value, unit(name), values, value * (1 - spread), value * (1 + spread), value * spread)


def record(
    *,
    device: str = "synthetic-laptop",
    model: str = "synthetic-1b",
    quantization: str = "Q4_1",
    engine: str = "llama.cpp",
    backend: str = "cpu",
    used: str | None = None,
    scenario: str = "throughput",
    options: Mapping[str, Option] | None = None,
    metrics: Mapping[str, float] | None = None,
    spread: float = 0.02,
    rounds: int = 5,
    turns: Sequence[Turn] = (),
    samples: Sequence[Sample] = (),
    doubts: Sequence[str] = (),
    status: Status = "ok",
    failure: Failure | None = None,
    run: str = "synthetic-run",
    started: str = "2026-01-01T00:00:00Z",
    id: str | None = None,
    facts: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> Record:
    """One record with plausible defaults; ``metrics`` are the medians in base units."""
    number = next(_ids)
    values = {"decode_tps": 40.0, "load_s": 0.8, "peak_rss_b": 300.0 * MIB, "peak_footprint_b": 300.0 * MIB}
    values = values if metrics is None else dict(metrics)
    done = status == "ok"
    made = tuple(
        Round(i, started, values, shaken(turns, 1 + spread * (i - 2)), tuple(samples) if i == 0 else (), fresh=i == 0)
        for i in range(rounds if done else 0)
    )
    return Record(
        id=id or f"synthetic{number:06d}",
        run={"id": run, "name": "", "started": started, "command": "edgebench run", "seed": 0, "version": "0"},
        status=status,
        trial=Trial(device, model, engine, backend, scenario, dict(options or {"ctx": 2048})),
        facts=Facts.from_document(facts)
        if facts is not None
        else Facts.from_document(
            {
                "device": {"cpu": "Synthetic CPU", "cores": 8, "ram_b": 16 * 1024**3, "os": "Synthetic OS 1"},
                "model": {
                    "name": model,
                    "sha256": model.encode().hex().ljust(64, "0")[:64],
                    "quantization": quantization,
                },
                "engine": {"build": "b0", "backend": used or backend},
            }
        ),
        metrics={name: metric(name, value, spread, rounds) for name, value in values.items()} if done else {},
        doubts=tuple(Doubt(name, "synthetic") for name in doubts),
        rounds=made,
        failure=failure,
        notes=tuple(notes),
        started=started,
        finished=started,
    )


def shaken(turns: Sequence[Turn], by: float) -> tuple[Turn, ...]:
    """The turns of another round: every rate and time a little different."""
    return tuple(
        replace(turn, **{key: value * by for key, value in vars(turn).items() if isinstance(value, float)})
        for turn in turns
    )


def conversation(turns: int = 8, depth: int = 250, pace: float = 1.0) -> list[Turn]:
    """One conversation that grows: rates fall with depth."""
    return [
        Turn(
            label=f"conversation 1, turn {n}",
            measures=("prefill", "decode", "ttft"),
            prompt_tokens=depth * n,
            cached_tokens=depth * (n - 1),
            prefill_tps=pace * 400 / (1 + n / 10),
            decode_tps=pace * 40 / (1 + n / 20),
            ttft_s=(0.3 + 0.05 * n) / pace,
        )
        for n in range(1, turns + 1)
    ]


def samples(seconds: int = 30) -> list[Sample]:
    """A run of ``seconds``: memory fills, the chip warms, the clock falls."""
    made = []
    for tick in range(seconds * 4):
        at = 100 + tick / 4
        made += [
            Sample("rss_b", min(300, 40 + tick * 8) * MIB, at),
            Sample("cpu_util", 0.5 + 0.4 * math.sin(tick / 9), at, {"core": "0"}),
            Sample("power_w", 12 + math.sin(tick / 5), at),
            Sample("temp_c", 45 + tick / 6, at, {"zone": "cpu"}),
            Sample("freq_hz", (3.2 if tick < 60 else 2.4) * 1e9, at, {"cluster": "big"}),
        ]
    return made


def everything() -> list[Record]:
    """Records that together give every figure of a report something to draw."""
    rates = {("laptop", "cpu"): 38.0, ("laptop", "vulkan"): 61.0, ("desktop", "cuda"): 142.0, ("desktop", "cpu"): 44.0}
    rates |= {("phone", "cpu"): 9.4, ("phone", "opencl"): 12.6, ("mini", "metal"): 96.0, ("mini", "cpu"): 42.5}
    made = []
    for number, ((device, backend), rate) in enumerate(rates.items()):
        gpu = 0.0 if backend == "cpu" else 260.0 * MIB
        rss = 320.0 * MIB if backend == "cpu" else 120.0 * MIB
        made.append(
            record(
                device=f"synthetic-{device}",
                backend=backend,
                options={"ctx": 2048, "threads": 8},
                metrics={
                    "decode_tps": rate,
                    "prefill_tps": rate * 9,
                    "load_s": 0.2 + 4 / rate,
                    "ttft_s": 8 / rate,
                    "peak_rss_b": rss,
                    "peak_anon_b": rss * 0.4,
                    "peak_file_b": rss * 0.6,
                    "peak_footprint_b": rss + gpu,
                    "j_per_token": 0.1 + 2 / rate,
                    "mbu": 0.35 + number / 20,
                }
                | ({"peak_gpu_b": gpu} if gpu else {}),
                doubts=("throttled",) if device == "phone" else (),
                samples=samples() if device in ("laptop", "phone") else (),
                spread=0.03 + number / 100,
            )
        )
    for threads in (1, 2, 4, 6, 8, 12, 16):
        rate = 40 * math.exp(-(((math.log2(threads) - 3) / 2) ** 2))
        made.append(
            record(
                device="synthetic-laptop",
                options={"ctx": 2048, "threads": threads},
                metrics={"decode_tps": rate, "peak_footprint_b": 3e8, "peak_rss_b": 3e8, "load_s": 0.31},
            )
        )
    chat = {"decode_tps": 30.0, "ttft_s": 0.5, "prefill_tps": 300.0}
    for engine, pace in (("llama.cpp", 1.0), ("mlc-llm", 0.8)):
        rates = {name: value * pace for name, value in chat.items()}
        made.append(record(scenario="chat", engine=engine, metrics=rates, turns=conversation(pace=pace)))
    for k in (0, 1, 2, 4, 6, 8, 12, 16):
        speedup = 1.0 if k == 0 else 1 + 0.9 * math.exp(-(((k - 7) / 6) ** 2)) - 0.1
        values = {"decode_tps": 20 * speedup, "speedup": speedup}
        if k:
            values |= {"acceptance": 0.9 * 0.96**k, "predicted_speedup": speedup * 1.05, "tokens_per_verification": 2.0}
        made.append(record(scenario="speculative", options={"ctx": 2048, "k": k}, metrics=values))
    made.append(
        record(
            device="synthetic-tablet",
            status="failed",
            failure=Failure("the engine died", "try less context", signal="SIGILL", log=("loading", "illegal")),
        )
    )
    return made
