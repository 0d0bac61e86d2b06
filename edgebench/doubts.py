"""The closed list of reasons not to believe a number, and the judge that finds them in a record.

``docs/doubts.md`` is generated from here. Doubted rounds are kept: a doubt never drops a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from edgebench import stats
from edgebench.core import Doubt, Record


@dataclass(frozen=True)
class Kind:
    """One kind of doubt: what it means and what to do about it."""

    id: str
    meaning: str
    remedy: str


def _table(*rows: Kind) -> dict[str, Kind]:
    return {row.id: row for row in rows}


KINDS = _table(
    Kind(
        "spread",
        "The rounds of a headline metric spread by more than 10 % (standard deviation ÷ median).",
        "Close other programs, let the device cool, add rounds.",
    ),
    Kind(
        "few-rounds",
        "Fewer than five rounds have a reading, so an interval holds the true median less often than it says.",
        "Run again with --rounds 5 or more.",
    ),
    Kind(
        "missing-rounds",
        "Some rounds have no reading of a headline metric.",
        "Look at those rounds: edgebench results show ID.",
    ),
    Kind(
        "steal",
        "A hypervisor gave more than 1 % of the CPU time to other machines.",
        "Measure on real hardware, or when the host is quiet; compare only trials of the same run.",
    ),
    Kind(
        "other-load",
        "Processes other than the engine used more than 5 % of the CPU.",
        "Close other programs and run again.",
    ),
    Kind(
        "swap",
        "Part of the engine's memory was swapped out.",
        "Use a smaller model or context, or free memory.",
    ),
    Kind(
        "throttled",
        "The device lowered its clocks because of heat or power while it was measured.",
        "Let it cool, improve the cooling, or read the sustained rate as the true one.",
    ),
    Kind(
        "battery-saver",
        "A battery saver or a low-power mode was on.",
        "Switch it off.",
    ),
    Kind(
        "on-battery",
        "The device ran on its battery; many lower their clocks then.",
        "Plug it in, unless energy is what is measured.",
    ),
    Kind(
        "not-ready",
        "The device was still warm or busy when the gate's time was over.",
        "Wait longer between trials, or find what keeps it busy.",
    ),
    Kind(
        "never-settled",
        "The decode rate was still changing at the end: there is no sustained rate.",
        "Measure for longer.",
    ),
    Kind(
        "drift",
        "A fixed piece of work took another time at the end of the run than at its start.",
        "Let the device cool and run again; differences between trials of this run are safer than its absolute values.",
    ),
    Kind(
        "backend-mismatch",
        "The engine computed on another backend than was asked for, or on fewer layers.",
        "Read the engine's log (edgebench results show ID --log): a driver or a build without that backend.",
    ),
    Kind(
        "backend-unknown",
        "The engine did not say which backend computes.",
        "Read the engine's log; take the backend as a claim, not a fact.",
    ),
    Kind(
        "engine-fallback",
        "The engine died as it was asked to run and was started another way, so that it ran at all.",
        "Use a build that fits this machine; the record says what was changed.",
    ),
    Kind(
        "instruction-sets",
        "The CPU has instruction sets that the engine was built without: it can be faster than measured.",
        "Measure with a native build of the engine.",
    ),
    Kind(
        "load-regime-mixed",
        "Load times of different regimes (first, cold, warm) came together.",
        "Compare only load times of one regime.",
    ),
    Kind(
        "load-clock",
        "The load time was taken on the controller's clock: the wire is in it.",
        "Compare it only with load times taken the same way.",
    ),
    Kind(
        "arrival-clock",
        "Times between tokens are arrival times at the controller: the wire's jitter is in them, and a chunk may "
        "hold several tokens.",
        "Use an engine that reports its own times per token, or measure on the device itself.",
    ),
    Kind(
        "clock-offset",
        "The clocks of device and controller could be matched only roughly, or one of them stepped.",
        "Do not read phases closer than the offset's uncertainty.",
    ),
    Kind(
        "stopped-early",
        "The engine generated fewer tokens than were asked for.",
        "Look at the finish reason of the turns in the record.",
    ),
    Kind(
        "context-clipped",
        "The context asked for is larger than the model's own; the model's own was used.",
        "Ask for a context that the model was trained for.",
    ),
    Kind(
        "affinity",
        "The engine ran on other cores than it was pinned to.",
        "Read the affinity in the record; some systems refuse pinning.",
    ),
    Kind(
        "mbu-above-one",
        "The model's bandwidth is above the device's measured one: one of the two is wrong.",
        "Measure the bandwidth again; do not quote this figure.",
    ),
    Kind(
        "weights-twice",
        "The weights were held twice, in RAM and in GPU memory.",
        "Use memory mapping, or an engine build that frees its copy.",
    ),
    Kind(
        "spilled",
        "GPU memory overflowed into the system's memory.",
        "Offload fewer layers, or use a smaller context.",
    ),
    Kind(
        "estimated",
        "A figure was estimated and not measured; its note says how.",
        "Do not compare it with measured ones.",
    ),
    Kind(
        "output-differs",
        "Greedy output differs from the target's own where it must not.",
        "Do not trust this configuration's speed: it does other work.",
    ),
    Kind(
        "prediction",
        "The measured speed-up and the one that acceptance and costs predict differ by more than 10 % and by more than "
        "their intervals: something else took the time, or the costs were measured in another state of the machine.",
        "Look at the other doubts of the sweep; run it again on a quiet machine.",
    ),
    Kind(
        "lost-samples",
        "The sampler ended early or left gaps: peaks may have been missed.",
        "Look at the record's notes, run again.",
    ),
)

HEADLINES = ("decode_tps", "prefill_tps", "ttft_s", "load_s", "peak_footprint_b")
"""The metrics whose spread and missing rounds are doubts."""

SPREAD = 0.10
STEAL = 0.01
OTHER_LOAD = 0.05


def named(kind: str, detail: str = "") -> Doubt:
    """A doubt of the closed list. Raises ``KeyError`` for an id that isn't in it."""
    return Doubt(KINDS[kind].id, detail)


def judge(record: Record) -> tuple[Doubt, ...]:
    """The doubts that a record's own rounds, metrics and facts give rise to, one a kind and cause.

    Doubts the record already has stay in front; nothing is said twice.
    """
    kept = dict.fromkeys(record.doubts)
    known = {doubt.id for doubt in kept}
    found = (doubt for judged in (_rounds, _limits, _engine, _memory, _short) for doubt in judged(record))
    kept.update(dict.fromkeys(doubt for doubt in found if doubt.id not in known))
    return tuple(kept)


def _rounds(record: Record) -> Iterator[Doubt]:
    few = 0
    for name in HEADLINES:
        metric = record.metrics.get(name)
        if metric is None:
            continue
        values = [value for value in metric.rounds if value is not None]
        spread = stats.spread(values)
        if spread is not None and spread > SPREAD:
            yield named("spread", f"{name} by {spread:.0%} over {len(values)} rounds")
        if not name.startswith("load"):
            # Load times come only from fresh starts; fewer of them than rounds is how it should be.
            few = max(few, len(values))
            if values and len(values) < len(metric.rounds):
                yield named("missing-rounds", f"{name}: {len(values)} of {len(metric.rounds)} rounds")
    if 0 < few < stats.FEW:
        yield named("few-rounds", f"{few} of at least {stats.FEW}")


def _limits(record: Record) -> Iterator[Doubt]:
    for name, limit, kind, text in (
        ("steal", STEAL, "steal", "{:.1%} of the CPU time"),
        ("other_load", OTHER_LOAD, "other-load", "{:.0%} of the CPU"),
        ("peak_swap_b", 0.0, "swap", "{:.0f} bytes"),
        ("throttled", 0.0, "throttled", "{:.0%} of the time"),
        ("on_battery", 0.0, "on-battery", "{:.0%} of the time"),
        ("mbu", 1.0, "mbu-above-one", "{:.2f}"),
    ):
        worst = max((value for value in _values(record, name)), default=None)
        if worst is not None and worst > limit:
            yield named(kind, f"up to {text.format(worst)} in a round")


def _values(record: Record, name: str) -> Iterator[float]:
    if name in record.metrics:
        yield from (value for value in record.metrics[name].rounds if value is not None)


def _engine(record: Record) -> Iterator[Doubt]:
    yield from _backend(record)
    counts = record.facts.get("engine", {}).get("token_counts")
    if counts:
        yield named("estimated", f"token counts are {counts}")
    if "itl_s_p50" in record.metrics and any(
        turn.get("token_clock") == "arrival" for one in record.rounds for turn in one.turns
    ):
        yield named("arrival-clock")
    regimes = {str(one.notes["load_regime"]) for one in record.rounds if one.fresh and "load_regime" in one.notes}
    if len(regimes) > 1:
        yield named("load-regime-mixed", " and ".join(sorted(regimes)))


def _short(record: Record) -> Iterator[Doubt]:
    """Generations that were to go on past the end of text and yet ended before their time."""
    for one in record.rounds:
        for turn in one.turns:
            asked, given = turn.get("asked_tokens"), turn.get("completion_tokens", 0)
            if asked is not None and given < asked:
                yield named("stopped-early", f"{turn.get('label', 'a request')}: {given} of {asked} tokens")
                return


def _backend(record: Record) -> Iterator[Doubt]:
    """Asked for against used: the backend, and how many layers of the model it took."""
    engine = record.facts.get("engine") or {}
    used, asked = engine.get("backend"), record.trial.backend
    if used is None and record.rounds:
        yield named("backend-unknown")
    elif isinstance(used, str) and used.lower() != asked.lower():
        yield named("backend-mismatch", f"asked for {asked}, used {used}")
    there, layers = engine.get("layers_offloaded"), engine.get("layers")
    buffers = engine.get("buffers") or {}
    for part in record.facts.get("rpc", ()) if buffers else ():
        name = part.get("device") or part.get("address")
        if not any(place.startswith("RPC") and f"[{name}] model" in place for place in buffers):
            yield named("backend-mismatch", f"no weights are on {name}")
    if (asked == "cpu" and not record.facts.get("rpc")) or there is None or layers is None:
        return
    wanted = record.trial.options.get("gpu_layers", "all")
    most = int(layers) if wanted == "all" else min(int(wanted), int(layers))
    if int(there) < most:
        yield named("backend-mismatch", f"{there} of {most} layers are on {used or asked}")


_HOST = re.compile(r"CPU|AMX|RPC|\w+_Host ")
"""Names of llama.cpp's buffers that lie in main memory, or on another device."""
HELD = 0.8
"""Share of the weights on the GPU that still being in RAM counts as held twice."""
SPILL = 0.1
"""Share of the weights in memory lent to the GPU that counts as spilled."""


def _memory(record: Record) -> Iterator[Doubt]:
    """Weights held twice, by the engine's own buffers and what of the file stayed resident; memory that spilled."""
    engine, model = record.facts.get("engine"), record.facts.get("model")
    buffers = engine.get("buffers") if isinstance(engine, dict) else None
    weights = model.get("weights_bytes") if isinstance(model, dict) else None
    if not isinstance(engine, dict) or not isinstance(buffers, dict) or not weights:
        return
    on_gpu = sum(size for name, size in buffers.items() if name.endswith(" model") and not _HOST.match(name))
    if on_gpu < 0.5 * weights or engine.get("backend") == "cpu":
        return
    # Layers that aren't on the GPU are in RAM by right.
    beyond = engine.get("weights_mapped_b", 0) - max(0, weights - on_gpu)
    if beyond >= HELD * on_gpu:
        yield named(
            "weights-twice", f"{on_gpu / 2**20:.0f} MiB on the GPU, {beyond / 2**20:.0f} MiB of them in RAM too"
        )
    lent = max(_values(record, "gpu_shared_b"), default=0.0)
    if lent >= SPILL * weights and max(_values(record, "gpu_memory_b"), default=0.0) > 0:
        yield named("spilled", f"{lent / 2**20:.0f} MiB of main memory lent to the GPU")


def listing() -> str:
    """The text of ``docs/doubts.md``."""
    lines = [
        "# Doubts",
        "",
        "Made by `python docs/generate.py` from `edgebench/doubts.py`. A doubt is a reason not to believe a number.",
        "It stands in the record and in every view; doubted rounds are kept, never dropped.",
    ]
    for kind in KINDS.values():
        lines += ["", f"## {kind.id}", "", kind.meaning, "", f"What to do: {kind.remedy}"]
    return "\n".join(lines) + "\n"
