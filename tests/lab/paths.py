"""Where the checkout, the lab and the recorded texts are."""

from __future__ import annotations

from pathlib import Path

LAB = Path(__file__).parent
RECORDED = LAB.parent / "recorded"
"""What real devices and engines printed, the source of each beside it."""
ROOT = LAB.parent.parent


def recorded_llama_server(name: str) -> str:
    """What a ``llama-server`` printed or answered."""
    return (RECORDED / "llama-server" / name).read_text(encoding="utf-8")
