"""Derives doubts from a record's own rounds, metrics and facts.

A doubt never removes a value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from edgebench.core import Doubt, Record
from edgebench.judging import metrics, stats
from edgebench.judging.doubts import new_doubt

MAX_SPREAD = 0.10
CPU_SHARE_LIMITS = {"steal": 0.01, "other_load": 0.05}
"""Largest share of the CPU time that others may use in the median round."""
SINGLE_ROUND_FACTOR = 4
"""Factor by which a single round may exceed that limit, as the median tolerates outliers."""
SWAP_SHARE = 0.01
"""Share of the footprint that may be swapped out; a few cold pages always are on a machine with a long uptime."""


def judge(record: Record) -> tuple[Doubt, ...]:
    """The record's doubts, followed by those that its rounds, metrics and facts give rise to.

    Types of doubt that the record already has are not repeated.
    """
    result = dict.fromkeys(record.doubts)
    existing_ids = {doubt.id for doubt in result}
    new_doubts = (
        doubt for check in (_rounds, _disturbances, _engine, _memory, _prompts, _early_stops) for doubt in check(record)
    )
    result.update(dict.fromkeys(doubt for doubt in new_doubts if doubt.id not in existing_ids))
    return tuple(result)


def _rounds(record: Record) -> Iterator[Doubt]:
    round_count = 0
    for entry in metrics.headline():
        name = entry.name
        metric = record.metrics.get(name)
        if metric is None:
            continue
        values = [value for value in metric.rounds if value is not None]
        spread = stats.spread(values)
        if spread is not None and spread > MAX_SPREAD:
            yield new_doubt("spread", f"{entry.title} by {spread:.0%} over {len(values)} rounds")
        if not name.startswith("load"):
            # Only fresh starts have load times, so fewer of them than rounds are expected.
            round_count = max(round_count, len(values))
            if values and len(values) < len(metric.rounds):
                yield new_doubt("missing-rounds", f"{entry.title}: {len(values)} of {len(metric.rounds)} rounds")
    if 0 < round_count < stats.FEW:
        yield new_doubt("few-rounds", f"{round_count} of at least {stats.FEW}")


def _disturbances(record: Record) -> Iterator[Doubt]:
    for name, limit in CPU_SHARE_LIMITS.items():
        values = list(_values(record, name))
        median, worst = (stats.median(values), max(values)) if values else (0.0, 0.0)
        if median > limit or worst > SINGLE_ROUND_FACTOR * limit:
            detail = f" in the median round, {worst:.1%} in the worst" if worst > median else ""
            yield new_doubt(name.replace("_", "-"), f"{median:.1%} of the CPU time{detail}")
    swap_b, rss_b = max(_values(record, "peak_swap_b"), default=0.0), max(_values(record, "peak_rss_b"), default=0.0)
    if swap_b > SWAP_SHARE * rss_b:
        yield new_doubt("swap", f"up to {swap_b / 2**20:.0f} MiB in a round")
    for name, limit, doubt_id, template in (
        ("on_battery", 0.0, "on-battery", "{:.0%} of the time"),
        ("mbu", 1.0, "mbu-above-one", "{:.2f}"),
    ):
        worst = max(_values(record, name), default=0.0)
        if worst > limit:
            yield new_doubt(doubt_id, f"up to {template.format(worst)} in a round")
    worst = max(_values(record, "throttled"), default=0.0)
    if worst > 0:
        events = (event for round_ in record.rounds for event in round_.notes.throttling)
        causes = ", ".join(dict.fromkeys(event.by or "" for event in events))
        yield new_doubt("throttled", f"up to {worst:.0%} of the time in a round" + (f", by {causes}" if causes else ""))


def _values(record: Record, name: str) -> Iterator[float]:
    if name in record.metrics:
        yield from (value for value in record.metrics[name].rounds if value is not None)


def _engine(record: Record) -> Iterator[Doubt]:
    yield from _backend(record)
    engine = record.facts.engine
    for name, value in engine.options_used.items():
        requested = record.trial.options.get(name)
        if requested is not None and requested != value:
            yield new_doubt("option-not-applied", f"--{name.replace('_', '-')} {requested} requested, {value} used")
    if counts := engine.token_counts:
        yield new_doubt("estimated", f"token counts are {counts}")
    capacity, ctx = engine.kv_capacity, record.trial.options.get("ctx")
    if capacity is not None and isinstance(ctx, int) and capacity < ctx:
        yield new_doubt("context-clipped", f"the engine allocated {capacity} of {ctx} tokens")
    if "itl_s_p50" in record.metrics and any(
        turn.token_clock == "arrival" for round_ in record.rounds for turn in round_.turns
    ):
        yield new_doubt("arrival-clock")
    regimes = {round_.notes.load_regime for round_ in record.rounds if round_.fresh and round_.notes.load_regime}
    if len(regimes) > 1:
        yield new_doubt("load-regime-mixed", " and ".join(sorted(regimes)))


def _prompts(record: Record) -> Iterator[Doubt]:
    """Prompts whose token count on the engine differs from the number of tokens sent."""
    if record.facts.engine.token_counts:
        return  # estimated, which has its own doubt
    for round_ in record.rounds:
        for turn in round_.turns:
            if turn.measures and not turn.is_prompt_complete:
                requested = turn.requested_prompt_tokens
                expected = f"{requested}" if requested is not None else f"at least {turn.min_prompt_tokens}"
                yield new_doubt(
                    "prompt-differs",
                    f"{turn.label or 'a request'}: {expected} tokens sent, the engine counted {turn.prompt_tokens}",
                )
                return


def _early_stops(record: Record) -> Iterator[Doubt]:
    """Generations with ``ignore_eos`` that are shorter than requested."""
    for round_ in record.rounds:
        for turn in round_.turns:
            requested, generated = turn.requested_tokens, turn.completion_tokens
            if requested is not None and generated < requested:
                yield new_doubt("stopped-early", f"{turn.label or 'a request'}: {generated} of {requested} tokens")
                return


def _backend(record: Record) -> Iterator[Doubt]:
    """Compares requested and used backend, and the number of offloaded layers."""
    engine = record.facts.engine
    backend, requested = engine.backend, record.trial.backend
    if backend is None and record.rounds and record.status != "interrupted":
        # its log was not stored yet
        yield new_doubt("backend-unknown")
    elif backend is not None and backend.lower() != requested.lower():
        yield new_doubt("backend-mismatch", f"requested {requested}, used {backend}")
    offloaded, layers, buffers = engine.layers_offloaded, engine.layers, engine.buffers
    for worker in record.facts.rpc if buffers else ():
        name = worker.get("device") or worker.get("address")
        if not any(buffer.startswith("RPC") and f"[{name}] model" in buffer for buffer in buffers):
            yield new_doubt("backend-mismatch", f"no weights on {name}")
    if (requested == "cpu" and not record.facts.rpc) or offloaded is None or layers is None:
        return
    gpu_layers = record.trial.options.get("gpu_layers", "all")
    expected = layers if gpu_layers == "all" else min(int(gpu_layers), layers)
    if offloaded < expected:
        yield new_doubt("backend-mismatch", f"{offloaded} of {expected} layers are on {backend or requested}")


_HOST = re.compile(r"CPU|AMX|RPC|\w+_Host ")
"""Prefixes of llama.cpp's buffers in main memory, or on another device."""
DOUBLED_SHARE = 0.8
"""Share of the GPU's weights that must also be in RAM for the doubt ``weights-twice``."""
SPILL_SHARE = 0.1
"""Share of the weights that must be in shared GPU memory for the doubt ``spilled``."""


def _memory(record: Record) -> Iterator[Doubt]:
    """Weights that are in memory twice, by the engine's buffers and the file's resident pages; spilled GPU memory."""
    engine, weights_b = record.facts.engine, record.facts.model.weights_bytes
    if not engine.buffers or not weights_b:
        return
    gpu_b = sum(size for name, size in engine.buffers.items() if name.endswith(" model") and not _HOST.match(name))
    if gpu_b < 0.5 * weights_b or engine.backend == "cpu":
        return
    # Layers that are not on the GPU have to be in RAM.
    doubled_b = (engine.weights_mapped_b or 0) - max(0, weights_b - gpu_b)
    if doubled_b >= DOUBLED_SHARE * gpu_b:
        yield new_doubt(
            "weights-twice", f"{gpu_b / 2**20:.0f} MiB on the GPU, {doubled_b / 2**20:.0f} MiB of them in RAM too"
        )
    shared_b = max(_values(record, "gpu_shared_b"), default=0.0)
    if shared_b >= SPILL_SHARE * weights_b and max(_values(record, "gpu_memory_b"), default=0.0) > 0:
        yield new_doubt("spilled", f"{shared_b / 2**20:.0f} MiB of shared GPU memory")
