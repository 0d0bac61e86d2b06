"""The closed list of doubts: reasons not to trust a figure. ``docs/doubts.md`` is generated from it."""

from __future__ import annotations

from dataclasses import dataclass

from edgebench.core import Doubt


@dataclass(frozen=True)
class DoubtType:
    """One type of doubt: its meaning and what to do about it."""

    id: str
    meaning: str
    remedy: str


def _table(*rows: DoubtType) -> dict[str, DoubtType]:
    return {row.id: row for row in rows}


DOUBT_TYPES = _table(
    DoubtType(
        "spread",
        "The rounds of a headline metric vary by more than 10 % (standard deviation ÷ median).",
        "Close other programs, let the device cool down, or add rounds.",
    ),
    DoubtType(
        "few-rounds",
        "Fewer than five rounds have a value, so the interval's real coverage is below the nominal 95 %.",
        "Run again with --rounds 5 or more.",
    ),
    DoubtType(
        "missing-rounds",
        "Some rounds have no value for a headline metric.",
        "Inspect those rounds: edgebench results show ID.",
    ),
    DoubtType(
        "steal",
        "A hypervisor gave more than 1 % of the CPU time to other machines in most rounds, or more than 4 % in one "
        "round.",
        "Measure on real hardware or while the host is idle; compare only trials of the same run.",
    ),
    DoubtType(
        "other-load",
        "Processes other than the engine used more than 5 % of the CPU in most rounds, or more than 20 % in one round.",
        "Close other programs and run again; on Linux, top lists them.",
    ),
    DoubtType(
        "swap",
        "More than 1 % of the engine's memory was swapped out.",
        "Use a smaller model or context, or free memory.",
    ),
    DoubtType(
        "throttled",
        "The device lowered its clocks during the measurement because of heat or power.",
        "Let it cool down, improve the cooling, or use the sustained rate.",
    ),
    DoubtType(
        "battery-saver",
        "A battery saver or low-power mode was on.",
        "Turn it off.",
    ),
    DoubtType(
        "on-battery",
        "The device ran on battery power; many devices lower their clocks in that case.",
        "Plug it in, unless you are measuring energy.",
    ),
    DoubtType(
        "not-ready",
        "The device was still warm or busy when the readiness gate timed out.",
        "Wait longer between trials, or find out what keeps the device busy.",
    ),
    DoubtType(
        "never-settled",
        "The decode rate was still changing at the end of the round, so there is no sustained rate.",
        "Measure for longer.",
    ),
    DoubtType(
        "steadiness-unknown",
        "The decode rate scattered too much at the end of the round to tell whether it was still changing, so there is "
        "no sustained rate.",
        "Measure longer, on a quieter device.",
    ),
    DoubtType(
        "drift",
        "A fixed workload took a different time at the end of the run than at its start, because the device was "
        "warmer or busier at one of the two.",
        "Let it cool down, close other programs and run again; until then, trust differences between trials of this"
        " run more than absolute values.",
    ),
    DoubtType(
        "backend-mismatch",
        "The engine used a different backend than requested, or offloaded fewer layers.",
        "Read the engine's log (edgebench results show ID --log) and check the driver and the build's backends.",
    ),
    DoubtType(
        "backend-unknown",
        "The engine did not report which backend it used.",
        "Read the engine's log; treat the backend as unverified.",
    ),
    DoubtType(
        "option-not-applied",
        "The engine reports another value for a launch option than the requested one.",
        "Read the engine's log (edgebench results show ID --log); request a value that this build and device support.",
    ),
    DoubtType(
        "engine-fallback",
        "The engine crashed with the requested settings and was restarted with different ones.",
        "Use a build that fits this machine; the record lists the changed settings.",
    ),
    DoubtType(
        "instruction-sets",
        "The engine was built without instruction sets that the CPU supports, so it can be faster than measured.",
        "Measure with a native build of the engine.",
    ),
    DoubtType(
        "load-regime-mixed",
        "Load times of different regimes (first, cold, warm) were combined.",
        "Compare only load times of one regime.",
    ),
    DoubtType(
        "load-clock",
        "The load time was measured on the controller's clock, so it includes transport overhead.",
        "Compare it only with load times measured the same way.",
    ),
    DoubtType(
        "arrival-clock",
        "Inter-token latencies are based on arrival times at the controller: they include network jitter, and a "
        "chunk may hold several tokens.",
        "Use an engine that timestamps its tokens, or measure on the device itself.",
    ),
    DoubtType(
        "clock-offset",
        "The clocks of device and controller could only be synchronised roughly, or one of them was adjusted.",
        "Do not interpret phases at a finer resolution than the uncertainty of the offset.",
    ),
    DoubtType(
        "prompt-differs",
        "The engine counted another number of prompt tokens than were sent: it added or dropped some, its chat "
        "template keeps no history, or it miscounts.",
        "Compare prompt_tokens of the record's turns; check the model's chat template and the engine's truncation.",
    ),
    DoubtType(
        "stopped-early",
        "The engine generated fewer tokens than requested.",
        "Check the finish reason of the turns in the record.",
    ),
    DoubtType(
        "context-clipped",
        "The requested context exceeds what the model supports or what the engine allocated; the smaller value was "
        "used.",
        "Request a context that the model was trained or compiled for and that fits into memory.",
    ),
    DoubtType(
        "affinity",
        "The engine ran on other cores than it was pinned to.",
        "Check the affinity in the record; some systems do not allow pinning.",
    ),
    DoubtType(
        "mbu-above-one",
        "Decoding read more bytes per second than the device's measured bandwidth: one of the two is wrong, or the "
        "model fits into the CPU cache, which is faster than memory.",
        "Run again on an idle machine, so that the bandwidth is measured again; do not quote this figure.",
    ),
    DoubtType(
        "weights-twice",
        "The weights were in memory twice: in GPU memory and as pages of the model file in RAM.",
        "The system may drop those pages when memory runs short; engines that do not map the file (llama.cpp's "
        "--no-mmap) or unmap it avoid this.",
    ),
    DoubtType(
        "spilled",
        "GPU memory overflowed into system memory.",
        "Offload fewer layers, or use a smaller context.",
    ),
    DoubtType(
        "estimated",
        "A figure is an estimate, not a measurement; its note describes the method.",
        "Do not compare it with measured figures.",
    ),
    DoubtType(
        "output-differs",
        "Greedy output differs from the target's own output, which it must not.",
        "Do not trust this configuration's speed: it did different work.",
    ),
    DoubtType(
        "prediction",
        "The measured speed-up and the one predicted from acceptance and costs differ by more than 10 % and their "
        "intervals do not overlap: something else took the time, or the costs were measured while the machine was "
        "in a different state.",
        "Check the other doubts of the sweep; run it again on an idle machine.",
    ),
    DoubtType(
        "lost-samples",
        "The sampler ended early or left gaps, so peaks may be missing.",
        "Read the record's notes and run again.",
    ),
)


def new_doubt(id_: str, detail: str = "") -> Doubt:
    """A doubt of the closed list. Raises ``KeyError`` for an unknown ID."""
    return Doubt(DOUBT_TYPES[id_].id, detail)


def listing() -> str:
    """The text of ``docs/doubts.md``."""
    lines = [
        "# Doubts",
        "",
        "Generated by `python docs/generate.py` from `edgebench/judging/doubts.py`.",
        "A doubt is a reason not to trust a figure. Records and all views show it; rounds with doubts are kept,",
        "never dropped.",
    ]
    for doubt_type in DOUBT_TYPES.values():
        lines += ["", f"## {doubt_type.id}", "", doubt_type.meaning, "", f"What to do: {doubt_type.remedy}"]
    return "\n".join(lines) + "\n"
