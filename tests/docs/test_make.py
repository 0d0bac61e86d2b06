"""`make run` on a machine that isn't ready for it says so and leaves nothing half-made."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from lab.paths import ROOT


def make(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """``make .venv/bin/python`` with a Python that is this script."""
    shutil.copy(ROOT / "Makefile", folder)
    python = folder / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    argv = ["make", ".venv/bin/python", f"PYTHON={python}"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # make test's own
    return subprocess.run(argv, cwd=folder, env=clean, capture_output=True, text=True, check=False)


def test_an_old_python_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    old = f'[ "$1" = -c ] && exec "{sys.executable}" -c "import sys; sys.version_info = (3, 9, 18); $2"'
    ran = make(tmp_path, old)
    assert ran.returncode
    assert "edgebench needs Python 3.10 or later" in ran.stderr
    assert "make run PYTHON=" in ran.stderr
    assert not (tmp_path / ".venv").exists()


def test_an_environment_that_could_not_be_made_is_not_left_behind(tmp_path: Path) -> None:
    broken = (
        '[ "$1" = -c ] && exit\nmkdir -p .venv/bin && : > .venv/bin/python\necho "ensurepip is missing" >&2\nexit 1'
    )
    ran = make(tmp_path, broken)
    assert ran.returncode
    assert "ensurepip is missing" in ran.stderr
    assert not (tmp_path / ".venv").exists()
