"""The judge: the doubts that a record's own rounds, metrics and facts give rise to.

Doubted rounds are kept: a doubt never drops a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from edgebench.core import Doubt, Record
from edgebench.judging import metrics, stats
from edgebench.judging.doubts import named

SPREAD = 0.10
DISTURBED = {"steal": 0.01, "other_load": 0.05}
"""Shares of the CPU time that others may have in the median round."""
ONCE = 4
"""A single round is doubted beyond so many times that: a median bears one with a little more."""
SWAPPED = 0.01
"""Share of the footprint; a few cold pages are swapped out on any machine that has been up for long."""


def judge(record: Record) -> tuple[Doubt, ...]:
    """The doubts that a record's own rounds, metrics and facts give rise to, one a kind and cause.

    Doubts the record already has stay in front; nothing is said twice.
    """
    kept = dict.fromkeys(record.doubts)
    known = {doubt.id for doubt in kept}
    found = (doubt for judged in (_rounds, _limits, _engine, _memory, _prompts, _short) for doubt in judged(record))
    kept.update(dict.fromkeys(doubt for doubt in found if doubt.id not in known))
    return tuple(kept)


def _rounds(record: Record) -> Iterator[Doubt]:
    few = 0
    for entry in metrics.headline():
        name = entry.name
        metric = record.metrics.get(name)
        if metric is None:
            continue
        values = [value for value in metric.rounds if value is not None]
        spread = stats.spread(values)
        if spread is not None and spread > SPREAD:
            yield named("spread", f"{entry.title} by {spread:.0%} over {len(values)} rounds")
        if not name.startswith("load"):
            # Load times come only from fresh starts; fewer of them than rounds is how it should be.
            few = max(few, len(values))
            if values and len(values) < len(metric.rounds):
                yield named("missing-rounds", f"{entry.title}: {len(values)} of {len(metric.rounds)} rounds")
    if 0 < few < stats.FEW:
        yield named("few-rounds", f"{few} of at least {stats.FEW}")


def _limits(record: Record) -> Iterator[Doubt]:
    for name, limit in DISTURBED.items():
        values = list(_values(record, name))
        middle, worst = (stats.median(values), max(values)) if values else (0.0, 0.0)
        if middle > limit or worst > ONCE * limit:
            most = f" in the median round, {worst:.1%} in the worst" if worst > middle else ""
            yield named(name.replace("_", "-"), f"{middle:.1%} of the CPU time{most}")
    swapped, whole = max(_values(record, "peak_swap_b"), default=0.0), max(_values(record, "peak_rss_b"), default=0.0)
    if swapped > SWAPPED * whole:
        yield named("swap", f"up to {swapped / 2**20:.0f} MiB in a round")
    for name, limit, kind, text in (
        ("on_battery", 0.0, "on-battery", "{:.0%} of the time"),
        ("mbu", 1.0, "mbu-above-one", "{:.2f}"),
    ):
        worst = max(_values(record, name), default=0.0)
        if worst > limit:
            yield named(kind, f"up to {text.format(worst)} in a round")
    worst = max(_values(record, "throttled"), default=0.0)
    if worst > 0:
        events = (event for one in record.rounds for event in one.notes.throttling)
        by = ", ".join(dict.fromkeys(event.by or "" for event in events))
        yield named("throttled", f"up to {worst:.0%} of the time in a round" + (f", by {by}" if by else ""))


def _values(record: Record, name: str) -> Iterator[float]:
    if name in record.metrics:
        yield from (value for value in record.metrics[name].rounds if value is not None)


def _engine(record: Record) -> Iterator[Doubt]:
    yield from _backend(record)
    engine = record.facts.engine
    for name, used in engine.options_used.items():
        wanted = record.trial.options.get(name)
        if wanted is not None and wanted != used:
            yield named("option-not-applied", f"--{name.replace('_', '-')} {wanted} requested, {used} used")
    if counts := engine.token_counts:
        yield named("estimated", f"token counts are {counts}")
    room, asked = engine.kv_capacity, record.trial.options.get("ctx")
    if room is not None and isinstance(asked, int) and room < asked:
        yield named("context-clipped", f"the engine made room for {room} of {asked} tokens")
    if "itl_s_p50" in record.metrics and any(
        turn.token_clock == "arrival" for one in record.rounds for turn in one.turns
    ):
        yield named("arrival-clock")
    regimes = {one.notes.load_regime for one in record.rounds if one.fresh and one.notes.load_regime}
    if len(regimes) > 1:
        yield named("load-regime-mixed", " and ".join(sorted(regimes)))


def _prompts(record: Record) -> Iterator[Doubt]:
    """Prompts of which the engine counted another number of tokens than were sent."""
    if record.facts.engine.token_counts:
        return  # estimated, and doubted for that
    for one in record.rounds:
        for turn in one.turns:
            if turn.measures and not turn.is_prompt_complete:
                exact = turn.requested_prompt_tokens
                sent = f"{exact}" if exact is not None else f"at least {turn.min_prompt_tokens}"
                yield named(
                    "prompt-differs",
                    f"{turn.label or 'a request'}: {sent} tokens sent, the engine counted {turn.prompt_tokens}",
                )
                return


def _short(record: Record) -> Iterator[Doubt]:
    """Generations that were to go on past the end of text and yet ended before their time."""
    for one in record.rounds:
        for turn in one.turns:
            requested, generated = turn.requested_tokens, turn.completion_tokens
            if requested is not None and generated < requested:
                yield named("stopped-early", f"{turn.label or 'a request'}: {generated} of {requested} tokens")
                return


def _backend(record: Record) -> Iterator[Doubt]:
    """Asked for against used: the backend, and how many layers of the model it took."""
    engine = record.facts.engine
    used, asked = engine.backend, record.trial.backend
    if used is None and record.rounds and record.status != "interrupted":  # what it said was not kept yet
        yield named("backend-unknown")
    elif used is not None and used.lower() != asked.lower():
        yield named("backend-mismatch", f"asked for {asked}, used {used}")
    there, layers, buffers = engine.layers_offloaded, engine.layers, engine.buffers
    for part in record.facts.rpc if buffers else ():
        name = part.get("device") or part.get("address")
        if not any(place.startswith("RPC") and f"[{name}] model" in place for place in buffers):
            yield named("backend-mismatch", f"no weights are on {name}")
    if (asked == "cpu" and not record.facts.rpc) or there is None or layers is None:
        return
    wanted = record.trial.options.get("gpu_layers", "all")
    most = layers if wanted == "all" else min(int(wanted), layers)
    if there < most:
        yield named("backend-mismatch", f"{there} of {most} layers are on {used or asked}")


_HOST = re.compile(r"CPU|AMX|RPC|\w+_Host ")
"""Names of llama.cpp's buffers that lie in main memory, or on another device."""
HELD = 0.8
"""Share of the weights on the GPU that still being in RAM counts as held twice."""
SPILL = 0.1
"""Share of the weights in memory lent to the GPU that counts as spilled."""


def _memory(record: Record) -> Iterator[Doubt]:
    """Weights held twice, by the engine's own buffers and what of the file stayed resident; memory that spilled."""
    engine, weights = record.facts.engine, record.facts.model.weights_bytes
    if not engine.buffers or not weights:
        return
    on_gpu = sum(size for name, size in engine.buffers.items() if name.endswith(" model") and not _HOST.match(name))
    if on_gpu < 0.5 * weights or engine.backend == "cpu":
        return
    # Layers that aren't on the GPU are in RAM by right.
    beyond = (engine.weights_mapped_b or 0) - max(0, weights - on_gpu)
    if beyond >= HELD * on_gpu:
        yield named(
            "weights-twice", f"{on_gpu / 2**20:.0f} MiB on the GPU, {beyond / 2**20:.0f} MiB of them in RAM too"
        )
    lent = max(_values(record, "gpu_shared_b"), default=0.0)
    if lent >= SPILL * weights and max(_values(record, "gpu_memory_b"), default=0.0) > 0:
        yield named("spilled", f"{lent / 2**20:.0f} MiB of main memory lent to the GPU")
