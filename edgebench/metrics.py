"""Every metric: its name, unit, definition and which direction is better. The one place.

``docs/glossary.md`` is generated from here. A metric of somebody else's probe is not in the list;
``find`` then reads its unit from the end of its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
        "B",
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
        "load_first_s",
        "s",
        "load time, first ever",
        "load_s where kernels or shaders were compiled for the first time",
        "lower",
    ),
    Definition(
        "load_cold_s",
        "s",
        "load time, cold",
        "load_s with the model evicted from the page cache, the eviction verified",
        "lower",
    ),
    Definition(
        "load_warm_s",
        "s",
        "load time, warm",
        "load_s with the model in the page cache",
        "lower",
    ),
    Definition(
        "load_engine_s",
        "s",
        "load time, engine's own",
        "what the engine itself calls load time; llama.cpp's ends with the first decode, so it holds the warm-up",
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
        "the same as the engine saw it; ttft_s − engine_ttft_s is the wire",
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
        "peak_rss_b",
        "B",
        "peak resident memory",
        "peak resident memory of the engine's process tree plus what of it was swapped out",
        "lower",
    ),
    Definition("peak_anon_b", "B", "peak anonymous memory", "peak of the anonymous part of resident memory", "lower"),
    Definition(
        "peak_file_b",
        "B",
        "peak file memory",
        "peak of the file-backed part of resident memory: mapped weights that were touched are here",
        "lower",
    ),
    Definition("peak_swap_b", "B", "peak swap", "peak of the engine's memory that was swapped out", "lower"),
    Definition(
        "steady_rss_b",
        "B",
        "steady resident memory",
        "median resident memory while decoding; with a GPU it falls after the load while the peak stays",
        "lower",
    ),
    Definition(
        "steady_anon_b", "B", "steady anonymous memory", "median of the anonymous part while measuring", "lower"
    ),
    Definition("steady_file_b", "B", "steady file memory", "median of the file-backed part while measuring", "lower"),
    Definition("steady_shmem_b", "B", "steady shared memory", "median of the shared part while measuring", "lower"),
    Definition(
        "available_min_b",
        "B",
        "least memory left",
        "the least memory that the device could still give to programs",
        "higher",
    ),
    Definition(
        "base_rss_b",
        "B",
        "resident memory before the model",
        "the engine's resident memory before it loads the model: the bundled server's holds a Python interpreter",
        "lower",
    ),
    Definition(
        "peak_gpu_b",
        "B",
        "peak GPU memory",
        "peak GPU memory of the engine's process that isn't already in its resident memory",
        "lower",
    ),
    Definition("cpu_util", "1", "CPU use", "mean use while decoding, 1 = every core busy all the time"),
    Definition("cpu_util_p95", "1", "CPU use, p95", "95th percentile of the CPU use while decoding"),
    Definition("cpu_engine", "cores", "CPU use of the engine", "processor time of the engine's processes per second"),
    Definition("cpu_engine_p95", "cores", "CPU use of the engine, p95", "95th percentile of the same"),
    Definition("gpu_util", "1", "GPU use", "mean use of the GPU while decoding, 1 = always busy"),
    Definition("gpu_util_p95", "1", "GPU use, p95", "95th percentile of the GPU use while decoding"),
    Definition(
        "steal",
        "1",
        "steal",
        "share of CPU time that the hypervisor gave to others (/proc/stat)",
        "lower",
    ),
    Definition(
        "other_load",
        "1",
        "other load",
        "share of all CPU time that processes other than the engine used",
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
    Definition("temp_max_c", "°C", "highest temperature", "highest reading of any sensor of the device", "lower"),
    Definition("throttled", "1", "throttled", "share of the round's time in which the device throttled", "lower"),
    Definition(
        "mbu",
        "1",
        "memory bandwidth use",
        "bytes the model must read per token (weights used + KV at that depth) × decode_tps ÷ read bandwidth measured "
        "on that device; above 1 means a mistake (doubt mbu-above-one)",
        "higher",
    ),
    Definition(
        "acceptance",
        "1",
        "acceptance",
        "draft tokens accepted ÷ draft tokens proposed; the target's own bonus token isn't counted",
        "higher",
    ),
    Definition(
        "speedup",
        "1",
        "speed-up",
        "decode_tps with the draft ÷ decode_tps of the target alone, paired by round",
        "higher",
    ),
    Definition(
        "tokens_per_step",
        "tokens",
        "tokens per step",
        "generated tokens ÷ evaluations of the target",
        "higher",
    ),
    Definition("prompt_tokens", "tokens", "prompt tokens", "tokens of the prompts, cached ones included"),
    Definition("cached_tokens", "tokens", "cached tokens", "prompt tokens that the engine had in its cache"),
    Definition("completion_tokens", "tokens", "generated tokens", "tokens that were generated in the round"),
)

LEAD = ("peak_footprint_b", "load_s", "decode_tps", "ttft_s", "prefill_tps")
"""What every table shows first, in this order; ms per token is 1 ÷ decode_tps."""

_SUFFIXES = {"_tps": "tokens/s", "_s": "s", "_b": "B", "_j": "J", "_w": "W", "_hz": "Hz", "_c": "°C"}


def find(name: str) -> Definition:
    """The definition of a metric; for one that isn't ours, its unit by the end of its name."""
    if name in METRICS:
        return METRICS[name]
    unit = next((unit for suffix, unit in _SUFFIXES.items() if name.endswith(suffix)), "1")
    return Definition(name, unit, name, "")


def glossary() -> str:
    """The text of ``docs/glossary.md``."""
    lines = [
        "# Glossary of metrics",
        "",
        "Made by `python docs/generate.py` from `edgebench/metrics.py`. Units are those of records: base units.",
        "`1` is a ratio. ms per token is 1 ÷ `decode_tps`. Inside a record, a metric's value is the median of its",
        "rounds, `low` and `high` are its 95 % bootstrap interval (see [statistics](statistics.md)).",
        "",
        "| name | unit | better | what it is |",
        "|---|---|---|---|",
    ]
    for row in METRICS.values():
        lines.append(f"| `{row.name}` | {row.unit} | {row.better or '–'} | **{row.title}**: {row.meaning} |")
    return "\n".join(lines) + "\n"
