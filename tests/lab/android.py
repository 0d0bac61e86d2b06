"""Android's userland: mksh as ``sh``, toybox for the rest, and what a phone answers about itself."""

from __future__ import annotations

import subprocess
from pathlib import Path


def toybox(folder: Path) -> None:
    """Fill a folder with Android's commands: nothing else needs to be on the PATH."""
    folder.mkdir(parents=True)
    for name in subprocess.run(["toybox"], check=True, capture_output=True, text=True).stdout.split():
        (folder / name).symlink_to("/usr/bin/toybox")
    (folder / "sh").symlink_to("/usr/bin/mksh")
