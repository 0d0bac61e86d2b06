"""The closed list of reasons not to believe a number; ``judging`` finds them in a record.

``docs/doubts.md`` is generated from here.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgebench.core import Doubt


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
        "A hypervisor gave more than 1 % of the CPU time to other machines in most rounds, or more than 4 % in one.",
        "Measure on real hardware, or when the host is quiet; compare only trials of the same run.",
    ),
    Kind(
        "other-load",
        "Processes other than the engine used more than 5 % of the CPU in most rounds, or more than 20 % in one.",
        "Close other programs and run again; on Linux, top says which they are.",
    ),
    Kind(
        "swap",
        "More than 1 % of the engine's memory was swapped out.",
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
        "A fixed piece of work took another time at the end of the run than at its start: at one of the two the device "
        "was warmer, or busier with other work.",
        "Let it cool, close other programs and run again; differences between trials of this run are safer than its "
        "absolute values.",
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
        "The context asked for is larger than the model's own, or than what the engine made room for; the smaller one "
        "was used.",
        "Ask for a context that the model was trained, or compiled, for and that the memory holds.",
    ),
    Kind(
        "affinity",
        "The engine ran on other cores than it was pinned to.",
        "Read the affinity in the record; some systems refuse pinning.",
    ),
    Kind(
        "mbu-above-one",
        "Decoding read more bytes a second than the device's measured bandwidth: one of the two is wrong, or the model "
        "fits into the processor's cache, which is faster than its memory.",
        "Run again on a quiet machine, so that the bandwidth is measured anew; do not quote this figure.",
    ),
    Kind(
        "weights-twice",
        "The weights were held twice, in GPU memory and as pages of the model's file in RAM.",
        "The system may drop those pages when memory runs short; an engine that doesn't map the file (llama.cpp's "
        "--no-mmap) or unmaps it has none.",
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


def named(kind: str, detail: str = "") -> Doubt:
    """A doubt of the closed list. Raises ``KeyError`` for an id that isn't in it."""
    return Doubt(KINDS[kind].id, detail)


def listing() -> str:
    """The text of ``docs/doubts.md``."""
    lines = [
        "# Doubts",
        "",
        "Made by `python docs/generate.py` from `edgebench/judging/doubts.py`.",
        "A doubt is a reason not to believe a number. It stands in the record and in every view;",
        "doubted rounds are kept, never dropped.",
    ]
    for kind in KINDS.values():
        lines += ["", f"## {kind.id}", "", kind.meaning, "", f"What to do: {kind.remedy}"]
    return "\n".join(lines) + "\n"
