"""`make` on a machine that isn't ready says so and leaves nothing half-made; its targets are the tiers of tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from lab.paths import ROOT


def make(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """``make`` in this folder, without what a ``make`` that runs the tests passes on."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    clean = {name: value for name, value in kept.items() if name not in ("PYTHON", "VENV")}
    return subprocess.run(["make", *argv], cwd=folder, env=clean, capture_output=True, text=True, check=False)


def environment(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """``make .venv/bin/python`` with a Python that is this script."""
    shutil.copy(ROOT / "Makefile", folder)
    python = folder / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    return make(folder, ".venv/bin/python", f"PYTHON={python}")


def test_an_old_python_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    old = f'[ "$1" = -c ] && exec "{sys.executable}" -c "import sys; sys.version_info = (3, 9, 18); $2"'
    ran = environment(tmp_path, old)
    assert ran.returncode
    assert "edgebench needs Python 3.10 or later" in ran.stderr
    assert "make run PYTHON=" in ran.stderr
    assert not (tmp_path / ".venv").exists()


def test_an_environment_that_could_not_be_made_is_not_left_behind(tmp_path: Path) -> None:
    broken = (
        '[ "$1" = -c ] && exit\nmkdir -p .venv/bin && : > .venv/bin/python\necho "ensurepip is missing" >&2\nexit 1'
    )
    ran = environment(tmp_path, broken)
    assert ran.returncode
    assert "ensurepip is missing" in ran.stderr
    assert not (tmp_path / ".venv").exists()


def phases(folder: Path, target: str) -> list[str]:
    """The names of the phases that a target prints, with programs that do nothing, until one fails."""
    shutil.copy(ROOT / "Makefile", folder)
    (folder / "tests" / "lab").mkdir(parents=True)
    (folder / "tests" / "lab" / "debian.sh").touch()
    for name in ("setup.cfg", "pyproject.toml"):
        (folder / name).touch()
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "ruff", "mypy", "lint-imports"):
        (programs / name).write_text(
            f'#!/bin/sh\necho "{name} $*" >> "{folder}/calls"\n[ ! -e "{folder}/{name} fails" ]\n'
        )
        (programs / name).chmod(0o755)
    ran = make(folder, "-j4", target)
    return [line.removeprefix("== ").split(":")[0] for line in ran.stdout.splitlines() if line.startswith("== ")]


@pytest.mark.parametrize(("target", "names"), [("check", ["lint", "light"]), ("test", ["lint", "light", "lab"])])
def test_a_target_runs_its_phases_in_order(tmp_path: Path, target: str, names: list[str]) -> None:
    assert phases(tmp_path, target) == names
    calls = (tmp_path / "calls").read_text().splitlines()
    tests = [call for call in calls if call.startswith("python -m pytest")]
    light = "python -m pytest -m not lab -n 2 --dist loadfile"
    assert tests == [light, "python -m pytest -m lab"][: len(names) - 1]
    installed = [call.split()[-1] for call in calls if " install " in call and "--cache-dir" not in call]
    assert installed == [".[check]"]
    assert sum(".[test]" in call for call in calls) == (target == "test")


def test_what_a_phase_finds_ends_the_target_there(tmp_path: Path) -> None:
    (tmp_path / "mypy fails").touch()
    assert phases(tmp_path, "test") == ["lint"]
