"""Describe how an engine on a device ended, with advice."""

from __future__ import annotations

import contextlib
import signal

from edgebench.device.session import SupervisedProcess
from edgebench.errors import EngineFailed

LOG_TAIL = 25
"""Lines of an engine's log in an error."""


def crash_error(process: SupervisedProcess, when: str) -> EngineFailed:
    """The error for an engine that ended: its signal or exit status, its last log lines, and advice."""
    status = process.status
    name = signal_name(status)
    if name:
        ending = f"was terminated by {name}"
    elif status is None:
        ending = "ended without an exit status"
    else:
        ending = f"exited with status {status}"
    log = tuple(process.log_text()[-LOG_TAIL:])
    return EngineFailed(f"the engine {ending} {when}", _hint(name, log), status=status, log=log)


def signal_name(status: int | None) -> str | None:
    """``SIGSEGV`` for 139; None if the program exited by itself."""
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
    for pattern, hint in HINTS:
        if pattern in text:
            return hint
    return ""


HINTS: tuple[tuple[str, str], ...] = (
    ("error while loading shared libraries", "A library is missing: set LD_LIBRARY_PATH in the profile's `env:`."),
    ("failed to allocate", "It does not fit: use a smaller --ctx, a smaller quantization or fewer --gpu-layers."),
    ("out of memory", "It does not fit: use a smaller --ctx, a smaller quantization or fewer --gpu-layers."),
    ("unknown model architecture", "This build is too old for the model: use a newer llama.cpp."),
    ("invalid argument", "This build has other flags than edgebench used; please report it with its --version."),
)
