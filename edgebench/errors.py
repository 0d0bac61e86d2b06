"""Every error edgebench raises on purpose: what happened, what to do next, and the exit code.

Anything else that reaches the top is a defect and may show its traceback.
"""

from __future__ import annotations

import errno
from pathlib import PurePath
from typing import ClassVar

FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
"""What the system says where there is no space left."""

MAX_TEXT = 500
"""Characters of a plugin's exception that are kept in a message."""


class EdgebenchError(Exception):
    """Says what went wrong (``str(error)``), what to do next (``hint``) and how to exit."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(EdgebenchError):
    """An option, range or name that makes no sense."""

    exit_code = 2


class ProfileError(UsageError):
    """A profile that cannot be found or is not valid."""


class ModelError(UsageError):
    """A model that cannot be had, read or trusted."""


class StoreError(UsageError):
    """A store that cannot be opened, read or written."""


class DeviceRefused(EdgebenchError):
    """The device is there and says no: host key, authorization, permissions, lock, space."""

    exit_code = 3


class EngineMissing(DeviceRefused):
    """The engine's program is not on the device or cannot run there."""


class NoEngine(EngineMissing):
    """A device has no engine yet, and its profile names none: one may be put there."""


class DeviceLost(EdgebenchError):
    """The device cannot be reached, or went away."""

    exit_code = 4


class Unreadable(EdgebenchError):
    """A device or an engine printed something that is not understood."""

    exit_code = 5


class TimedOut(EdgebenchError):
    """A command or an engine took longer than it may."""


class EngineFailed(EdgebenchError):
    """The engine died, refused or answered with an error. The run goes on with the next trial."""

    def __init__(self, message: str, hint: str = "", *, status: int | None = None, log: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint)
        self.status = status
        self.log = log


class EngineRefused(EngineFailed):
    """The engine is there and says no: waiting longer won't help."""


class UnexpectedError(EdgebenchError):
    """An exception that was not raised on purpose, caught where nothing else may end by it.

    ``context`` comes before the exception's own text: ``the engine x of the package y raised``.
    ``located``: the message also says in which line.
    """

    def __init__(self, context: str, error: BaseException, hint: str = "", *, located: bool = True) -> None:
        import traceback

        frames = traceback.extract_tb(error.__traceback__)
        place = f" ({PurePath(frames[-1].filename).name}:{frames[-1].lineno})" if frames and located else ""
        # An exception's own __str__ may raise too; this doesn't.
        text = " ".join(traceback.format_exception_only(error)[-1].split())[:MAX_TEXT]
        super().__init__(f"{context} {text}{place}", hint)
        self.located = located
        self.trace = "".join(traceback.format_exception(error))
        """The traceback, as text."""


class PartFailed(UnexpectedError, UsageError):
    """A plugin raised what its contract doesn't allow. In a run this ends a trial or a reading, nothing else."""


class InternalError(UnexpectedError):
    """A defect of edgebench itself."""
