"""This machine, as a device of the lab."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.place import Place


@pytest.fixture
def local(tmp_path: Path) -> Place:
    folder = tmp_path / "local"
    folder.mkdir()
    return Place("lab-local", "linux", {"kind": "local"}, str(folder), folder, 0)
