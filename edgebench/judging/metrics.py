"""Every metric: its name, unit, definition and which direction is better. The one place.

Metrics that a probe reads are defined by the probe itself (``Quantity``); here they only have a
title and a direction, if any (``PROBED``). ``docs/glossary.md`` is generated from all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from edgebench import plugins

Better = Literal["lower", "higher", ""]


@dataclass(frozen=True)
class Definition:
    """What one metric is. ``unit`` is a base unit, as in records; views turn it into ms or MiB."""

    name: str
    unit: str
    title: str
    meaning: str
    better: Better = ""


def _table(*rows: Definition) -> dict[str, Definition]:
    return {row.name: row for row in rows}


METRICS = _table(
    Definition(
        "peak_footprint_b",
        "bytes",
        "memory footprint",
        "peak_rss_b + peak_gpu_b: the most memory the engine held, in RAM and on the GPU, nothing counted twice",
        "lower",
    ),
    Definition(
        "load_s",
        "s",
        "load time",
        "engine process start → first successful readiness answer, of fresh starts only, on the device's clock where "
        "that can be had. Rounds of one regime only (first, cold or warm); the note says which",
        "lower",
    ),
    Definition(
        "compile_s",
        "s",
        "compile time",
        "what the engine spent on compiling the model for this device, where it had no compiled one yet; not part of "
        "load_s, which is of a start after that",
        "lower",
    ),
    Definition(
        "decode_tps",
        "tokens/s",
        "decode rate",
        "(n − 1) ÷ time from the first to the last of n generated tokens, from counts and times, never from a rate "
        "that an engine printed",
        "higher",
    ),
    Definition(
        "decode_burst_tps",
        "tokens/s",
        "decode rate, burst",
        "median decode rate of the first 30 s of a round that lasts at least two minutes",
        "higher",
    ),
    Definition(
        "decode_sustained_tps",
        "tokens/s",
        "decode rate, sustained",
        "median decode rate of the last 90 s, where it changes by less than 1 % in 30 s or by no more than chance "
        "does; absent where it never settled (doubt never-settled)",
        "higher",
    ),
    Definition(
        "ttft_s",
        "s",
        "time to first token",
        "request sent → first token received, on the controller's clock: on a remote device the wire is in it",
        "lower",
    ),
    Definition(
        "engine_ttft_s",
        "s",
        "time to first token, engine's own",
        "the same as the engine saw it, where it tells the time of its tokens",
        "lower",
    ),
    Definition("wire_s", "s", "wire", "ttft_s − engine_ttft_s: what the way to the device cost", "lower"),
    Definition(
        "prefill_tps",
        "tokens/s",
        "prefill rate",
        "prompt tokens evaluated ÷ prompt time, both as the engine reports them; cached tokens don't count",
        "higher",
    ),
    Definition(
        "itl_s_p50",
        "s",
        "time between tokens, median",
        "gaps between generated tokens, by the engine's own times per token where it gives them, else by arrival "
        "(doubt arrival-clock)",
        "lower",
    ),
    Definition("itl_s_p90", "s", "time between tokens, p90", "90th percentile of the gaps between tokens", "lower"),
    Definition("itl_s_p99", "s", "time between tokens, p99", "99th percentile of the gaps between tokens", "lower"),
    Definition(
        "base_rss_b",
        "bytes",
        "resident memory before the model",
        "the engine's resident memory before it loads the model: the bundled server's holds a Python interpreter",
        "lower",
    ),
    Definition(
        "energy_j",
        "J",
        "energy",
        "energy of the round, net of the idle baseline measured before it",
        "lower",
    ),
    Definition("energy_gross_j", "J", "energy, gross", "energy of the round, the idle baseline included", "lower"),
    Definition("energy_load_j", "J", "energy of loading", "energy of the load phase, net of the baseline", "lower"),
    Definition("energy_prefill_j", "J", "energy of prefill", "energy of the prefill, net of the baseline", "lower"),
    Definition("energy_decode_j", "J", "energy of decode", "energy of the decode, net of the baseline", "lower"),
    Definition(
        "j_per_token",
        "J/token",
        "energy per token",
        "energy_decode_j ÷ generated tokens",
        "lower",
    ),
    Definition("power_w", "W", "power", "mean power while decoding, the idle baseline included", "lower"),
    Definition(
        "mbu",
        "ratio",
        "memory bandwidth use",
        "bytes the model must read per token (weights used + KV at that depth) × decode_tps ÷ read bandwidth measured "
        "of what computes, the processors or the GPU; above 1 means a mistake (doubt mbu-above-one)",
        "higher",
    ),
    Definition(
        "acceptance",
        "ratio",
        "acceptance",
        "draft tokens accepted ÷ draft tokens proposed; the target's own bonus token isn't counted",
        "higher",
    ),
    Definition(
        "speedup",
        "×",
        "speed-up",
        "decode_tps with the draft ÷ decode_tps of the target alone, paired by round",
        "higher",
    ),
    Definition(
        "predicted_speedup",
        "1",
        "predicted speed-up",
        "tokens_per_verification × T(1) ÷ (K̄ × T_draft + T(K̄ + 1)): what acceptance and the measured costs of a draft "
        "step and of verifying n tokens at once, T(n), say; K̄ is the mean number of tokens proposed",
        "higher",
    ),
    Definition(
        "tokens_per_verification",
        "tokens",
        "tokens per verification",
        "generated tokens (without the first) ÷ evaluations of the target; 1 without a draft",
        "higher",
    ),
    Definition(
        "with_cache_s",
        "s",
        "time with KV cache",
        "prompt read to last token of one greedy generation, by the engine's clock",
        "lower",
    ),
    Definition(
        "without_cache_s",
        "s",
        "time without KV cache",
        "the same generation with the whole text evaluated anew for every token",
        "lower",
    ),
    Definition("cache_speedup", "1", "speed-up by the KV cache", "without_cache_s ÷ with_cache_s", "higher"),
    Definition(
        "log_likelihood",
        "nat/token",
        "log-likelihood",
        "mean log-likelihood of a generated token under the model itself, before any shaping of its distribution",
    ),
    Definition(
        "repetition",
        "1",
        "repetition",
        "share of a text's 4-grams of tokens that stood in it before",
    ),
    Definition("distinct_1", "1", "distinct tokens", "different tokens ÷ all tokens of a text (Li et al. 2016)"),
    Definition("distinct_2", "1", "distinct pairs", "different pairs of tokens ÷ all of a text (Li et al. 2016)"),
)

LEAD = ("peak_footprint_b", "load_s", "decode_tps", "ttft_s", "prefill_tps")
"""What every table shows first, in this order; ms per token is 1 ÷ decode_tps."""

PROBED: Mapping[str, tuple[str, Better]] = {
    "peak_rss_b": ("peak resident memory", "lower"),
    "peak_anon_b": ("peak anonymous memory", "lower"),
    "peak_file_b": ("peak file memory", "lower"),
    "peak_swap_b": ("peak swap", "lower"),
    "steady_rss_b": ("steady resident memory", "lower"),
    "steady_anon_b": ("steady anonymous memory", "lower"),
    "steady_file_b": ("steady file memory", "lower"),
    "steady_shmem_b": ("steady shared memory", "lower"),
    "available_min_b": ("least memory left", "higher"),
    "peak_gpu_b": ("peak GPU memory", "lower"),
    "peak_pss_b": ("peak PSS", "lower"),
    "gpu_memory_b": ("steady GPU memory", "lower"),
    "gpu_used_b": ("memory in use on the GPU", ""),
    "gpu_shared_b": ("memory lent to the GPU", ""),
    "gpu_util": ("GPU use", ""),
    "gpu_util_p95": ("GPU use, p95", ""),
    "gpu_clock_hz": ("GPU clock", ""),
    "gpu_power_capped": ("GPU at its power limit", ""),
    "cpu_clock_hz": ("CPU clock", ""),
    "temp_max_c": ("highest temperature", "lower"),
    "throttled": ("throttled", "lower"),
    "on_battery": ("on battery", ""),
    "footprint_b": ("physical footprint", "lower"),
    "footprint_peak_b": ("peak physical footprint", "lower"),
    "private_b": ("private memory", "lower"),
    "swap_in_b": ("read from swap", "lower"),
    "swap_out_b": ("written to swap", "lower"),
    "cpu_util": ("CPU use", ""),
    "cpu_util_p95": ("CPU use, p95", ""),
    "cpu_engine": ("CPU use of the engine", ""),
    "cpu_engine_p95": ("CPU use of the engine, p95", ""),
    "steal": ("steal", "lower"),
    "other_load": ("other load", "lower"),
}
"""Title and direction of metrics that probes define: unit and meaning are in the probe."""

_OVER = {
    "mean": "mean",
    "median": "median",
    "p95": "95th percentile",
    "max": "greatest",
    "min": "least",
    "sum": "sum",
    "last": "last",
}


@cache
def known() -> Mapping[str, Definition]:
    """Every metric by its name: ours in their order, then those that only a probe knows."""
    found = dict(METRICS)
    for probe in plugins.names("probes"):
        for quantity in plugins.load("probes", probe).quantities.values():
            for name, over in quantity.over.items():
                title, better = PROBED.get(name, (name.rsplit("_", 1)[0].replace("_", " "), ""))
                meaning = f"{quantity.text} Of a round: the {_OVER.get(over, over)}"
                found[name] = Definition(name, quantity.unit, title, meaning, better)
    return found


def find(name: str) -> Definition:
    """The definition of a metric; of one that nobody here knows, its name alone."""
    return known().get(name) or Definition(name, "", name, "")


def glossary() -> str:
    """The text of ``docs/glossary.md``."""
    lines = [
        "# Glossary of metrics",
        "",
        "Made by `python docs/generate.py` from `edgebench/judging/metrics.py` and the probes.",
        "Units are those of records: base units; a `ratio` of 1 is 100 %. ms per token is 1 ÷ `decode_tps`.",
        "In a record, a metric's value is the median of its rounds, `low` and `high` are its 95 %",
        "interval (see [statistics](statistics.md)).",
        "",
        "| name | unit | better | what it is |",
        "|---|---|---|---|",
    ]
    for row in known().values():
        lines.append(f"| `{row.name}` | {row.unit} | {row.better or '–'} | **{row.title}**: {row.meaning} |")
    return "\n".join(lines) + "\n"
