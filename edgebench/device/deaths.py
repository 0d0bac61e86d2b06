"""The end of a program on a device in words: how it died, and what to do."""

from __future__ import annotations

import contextlib
import signal

from edgebench.device.session import SupervisedProcess
from edgebench.errors import EngineFailed

LOG_TAIL = 25
"""Lines of an engine's log that a failure shows."""


def death(running: SupervisedProcess, when: str) -> EngineFailed:
    """The end of an engine in words: its signal or exit status, and its last lines."""
    status = running.status
    name = signal_name(status)
    if name:
        how = f"died by {name}"
    elif status is None:
        how = "is gone without an exit status"
    else:
        how = f"ended with exit status {status}"
    log = tuple(running.log_text()[-LOG_TAIL:])
    return EngineFailed(f"the engine {how} {when}", _hint(name, log), status=status, log=log)


def signal_name(status: int | None) -> str | None:
    """``SIGSEGV`` for 139; None for an exit of its own."""
    if status is None or not 128 < status < 160:
        return None
    with contextlib.suppress(ValueError):
        return signal.Signals(status - 128).name
    return f"signal {status - 128}"


def _hint(name: str | None, log: tuple[str, ...]) -> str:
    text = "\n".join(log).lower()
    if name == "SIGKILL":
        return "The system may have run out of memory: use a smaller --ctx or model."
    if name in ("SIGILL", "SIGSEGV", "SIGBUS"):
        return "The engine's build may not fit this CPU: try another build."
    for words, hint in HINTS:
        if words in text:
            return hint
    return ""


HINTS: tuple[tuple[str, str], ...] = (
    ("error while loading shared libraries", "A library is missing: set LD_LIBRARY_PATH in the profile's `env:`."),
    ("failed to allocate", "It does not fit: use a smaller --ctx, a smaller quantization or fewer --gpu-layers."),
    ("out of memory", "It does not fit: use a smaller --ctx, a smaller quantization or fewer --gpu-layers."),
    ("unknown model architecture", "This build is too old for the model: use a newer llama.cpp."),
    ("invalid argument", "This build knows other flags than edgebench used; please report it with its --version."),
)
