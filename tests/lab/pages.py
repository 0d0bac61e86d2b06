"""Records for the pages: their store, hostile ones, and one that stands beside the published results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgebench.core import Failure, Record
from edgebench.store.results import Store
from lab.records import record

EVERY = {"decode", "memory", "depth", "turns", "threads", "speculative", "frontier", "roofline", "timeline"}
"""Every figure of the report."""

HOSTILE = (
    "<script>window.pwned=1</script>",
    "</script><script>window.pwned=2</script>",
    '"><img src=x onerror="window.pwned=3">',
    "=cmd|' /C calc'!A0",
    "{{7*7}}{% raw %}",
    "\u202eolleh\u202c שלום عربى",
    "🦙 模型 'quotes' & <b>",
    "javascript:window.pwned=4",
    "\\u003cscript\\u003e ${7*7} `x`",
)


def store(path: Path, records: Sequence[Record]) -> Path:
    with Store(path) as opened:
        for one in records:
            opened.add(one)
    return path


def hostile_records() -> list[Record]:
    made = [
        record(
            device=name, model=HOSTILE[i // 6], backend=f"b{i}", notes=(name,), options={"ctx": 2048, "threads": i + 1}
        )
        for i, name in enumerate(HOSTILE)
    ]
    return [
        *made,
        record(
            device="x",
            status="failed",
            failure=Failure(HOSTILE[0], HOSTILE[1], log=HOSTILE),
            facts={"device": dict(zip("abcdefghi", HOSTILE, strict=True)), "model": {}, "engine": {HOSTILE[2]: 1}},
        ),
    ]


def own(**changes: object) -> Record:
    settings: dict[str, object] = {
        "device": "oneplus11",
        "backend": "opencl",
        "scenario": "chat",
        "model": "llama-2-7b-chat-q4_0",
        "quantization": "Q4_0",
        "options": {"ctx": 4096, "batch": 16, "gpu_layers": "all"},
        "metrics": {"decode_tps": 7.6, "load_s": 1.153, "peak_footprint_b": 4e9},
    }
    return record(**(settings | changes))  # type: ignore[arg-type]
