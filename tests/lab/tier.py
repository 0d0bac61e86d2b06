"""The two tiers of tests: one marked ``lab`` may start an engine or a machine of the lab, any other may not."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

FIXTURES = frozenset(
    {
        *("adb_server", "android", "mlcchat", "modern_phone", "old_android", "old_phone"),
        *("linux", "proxy", "sshd_server", "termux", "termux_server"),
        *("windows", "windows_machine", "windows_server"),
        *("browser", "laptop", "look", "real_model", "smollm2"),
        "mksh",  # Android's shell, a package of the lab
    }
)
"""A test that names one of them, as an argument or as a value of a parameter, is marked ``lab``."""

ENGINES = ("llama_cpp", "xllamacpp")
"""The packages that load models: in a light test, a process that imports one fails and leaves a note."""

REFUSAL = """\
import os
import pathlib
with pathlib.Path({notes!r}).open("a") as notes:
    notes.write(__name__ + " of " + os.environ.get("PYTEST_CURRENT_TEST", "a test") + "\\n")
raise ImportError("a test without the mark lab started the engine " + __name__)
"""


class LabClosed(AssertionError):
    """A test without the mark reached for the lab."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} belongs to the lab: give this test pytest.mark.lab")


def needs_lab(fixtures: Iterable[str], parameters: Mapping[str, object]) -> bool:
    """Whether a test with these fixtures and parameters uses a machine of the lab."""
    return not FIXTURES.isdisjoint({*fixtures, *(value for value in parameters.values() if isinstance(value, str))})


def enter(what: str) -> None:
    """Called by whatever starts a part of the lab or an engine, before it does."""
    if Gate.is_shut:
        raise LabClosed(what)


class Gate:
    """Shuts the lab and the engines while a light test runs."""

    is_shut = False

    def __init__(self, folder: Path) -> None:
        self.notes = folder / "notes"
        self._packages = folder / "packages"
        for name in ENGINES:
            (self._packages / name).mkdir(parents=True)
            (self._packages / name / "__init__.py").write_text(REFUSAL.format(notes=str(self.notes)))

    @contextmanager
    def shut(self) -> Iterator[None]:
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join([str(self._packages), *([before] if before else [])])
        Gate.is_shut = True
        try:
            yield
        finally:
            Gate.is_shut = False
            if before is None:
                del os.environ["PYTHONPATH"]
            else:
                os.environ["PYTHONPATH"] = before

    def started(self) -> list[str]:
        """Engines that were started since the last call although the gate was shut, each with its test."""
        if not self.notes.exists():
            return []
        names = sorted(set(self.notes.read_text().splitlines()))
        self.notes.unlink()
        return names
