"""A test without the mark ``lab`` can neither start an engine nor a machine of the lab."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from lab import android, browser, mlcchat, native, proxy, sshd, windows
from lab.cli import Program
from lab.spec_server import SpecServer
from lab.tier import FIXTURES, Gate, LabClosed, needs_lab
from lab.tiny import tiny

MACHINES = (android, browser, mlcchat, proxy, sshd, windows)


@pytest.mark.parametrize(
    "start",
    [
        native.bin_folder,
        lambda: android.AdbServer(Path()),
        lambda: android.Phone(Path()),
        lambda: sshd.Sshd(Path()),
        lambda: windows.Windows(Path()).make(),
        lambda: SpecServer().__enter__(),
    ],
    ids=["llama-server", "adb", "phone", "sshd", "windows", "llama-cpp-python"],
)
def test_what_starts_a_part_of_the_lab_refuses(start: Callable[[], object]) -> None:
    with pytest.raises(LabClosed, match=r"belongs to the lab: give this test pytest\.mark\.lab"):
        start()


@pytest.mark.parametrize(("engine", "package"), [("llama.cpp", "xllamacpp"), ("llama-cpp-python", "llama_cpp")])
def test_an_engine_that_a_process_starts_refuses_and_leaves_a_note(
    edgebench: Program, gate: Gate, engine: str, package: str
) -> None:
    tiny(edgebench.folder / "tiny.gguf")
    words = ("--model", "tiny.gguf", "--engine", engine, "--rounds", "1", "--ctx", "64", "--prompt-tokens", "4")
    assert edgebench("run", *words, "--gen-tokens", "2", traced=True).status != 0
    notes = gate.started()
    assert notes
    assert all(note.startswith(f"{package} of ") and "leaves_a_note" in note for note in notes)
    assert gate.started() == []


@pytest.mark.lab
def test_with_the_mark_the_gate_is_open() -> None:
    assert not Gate.is_shut
    assert native.bin_folder().is_dir()


def test_every_fixture_that_is_a_machine_gives_the_mark() -> None:
    there = {name for module in MACHINES for name, value in vars(module).items() if is_fixture(value)}
    assert {"android", "linux", "look", "windows"} <= there <= FIXTURES


def is_fixture(value: object) -> bool:
    return type(value).__name__ == "FixtureFunctionDefinition"


@pytest.mark.parametrize(
    ("fixtures", "parameters", "needed"),
    [
        (["tmp_path", "linux"], {}, True),
        (["tmp_path", "place"], {"place": "termux"}, True),
        (["tmp_path", "place"], {"place": "local"}, False),
        (["tmp_path", "edgebench"], {"count": 3}, False),
    ],
)
def test_a_machine_is_named_by_an_argument_or_a_parameter(
    fixtures: list[str], parameters: dict[str, object], needed: bool
) -> None:
    assert needs_lab(fixtures, parameters) is needed
