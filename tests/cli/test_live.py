"""What is shown while a run goes on: lines that a terminal has room for."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from edgebench.bench.events import Activity, DeviceStarted, RoundFinished, TrialFinished
from edgebench.cli.progress import Display, distinct_names, fit_line
from edgebench.core import Facts, Failure, Record, Round, Trial
from edgebench.plan import Plan, Planned

DRAFTS = ("none", "a-long-name", "a-long-name", "prompt-lookup")
FIGURES = {"decode_tps": 31.4159, "prefill_tps": 612.0, "load_s": 0.412, "peak_footprint_b": 429 * 2**20}


def trial(model: str = "m", scenario: str = "throughput", **options: Any) -> Trial:
    return Trial("local", model, "llama.cpp", "cpu", scenario, options)


def test_a_trial_is_told_apart_in_as_few_words_as_do() -> None:
    assert distinct_names([trial()]) == ["m throughput"]
    assert distinct_names([trial(threads=1, affinity="0"), trial(threads=2, affinity="0,2")]) == [
        "threads 1",
        "threads 2",
    ]
    one = [trial(k=0, draft="none"), *(trial(k=k, draft="a-long-name", p_min=0.5) for k in (4, 16))]
    assert distinct_names(one) == ["k 0", "k 4", "k 16"]
    two = [*one, trial(k=4, draft="prompt-lookup")]
    assert distinct_names(two) == [
        "k 0 draft none",
        "k 4 draft a-long-name",
        "k 16 draft a-long-name",
        "k 4 draft prompt-lookup",
    ]
    assert distinct_names([trial("a", k=0), trial("a", k=4), trial("b", k=0)]) == ["a k 0", "a k 4", "b k 0"]
    assert distinct_names([trial(gen_tokens=8), trial("other", "chat")]) == ["m", "other"]


@given(st.text(min_size=1, max_size=200), st.integers(60, 200))
def test_a_round_fits_into_a_line_and_its_rate_stays(name: str, width: int) -> None:
    found = [("decode", "31.4 tokens/s"), ("prefill", "612 tokens/s"), ("memory", "429 MiB"), ("load", "412 ms")]
    line = fit_line(name, "round 1/5", found, width)
    assert cell_len(line) <= width
    assert re.search("round 1/5: decode 31.4( tokens/s$|, prefill 612 tokens/s(, memory|$))", line)
    assert name in line or (line.startswith(name[:5]) and "…" in line)


def test_a_single_trial_has_room_for_all_its_figures_in_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    line = next(line for line in shown(monkeypatch, 80, "local", [trial("smollm2-135m-q4_1")]) if "round" in line)
    assert line == "local: round 1/5: decode 31.4, prefill 612 tokens/s, memory 429 MiB, load 412 ms"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, columns: int, name: str, trials: Sequence[Trial]) -> list[str]:
    """What a terminal gets while every trial has its first round."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    device: Any = SimpleNamespace(name=name)
    plan = Plan(device, "llama.cpp", "cpu", tuple(Planned(each, device, device) for each in trials), rounds=5)
    with Display() as display:
        display.show(name, DeviceStarted(plan))
        for index in range(len(trials)):
            display.show(name, Activity(index, "waiting for a cool and quiet device"))
            display.show(name, RoundFinished(index, Round(0, "", FIGURES)))
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue()).replace("\r", "\n").splitlines()


@pytest.mark.parametrize("columns", range(60, 201, 20))
def test_what_is_printed_on_a_terminal_never_wraps(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    drafts = ["Meta-Llama-3.1-8B-Instruct-Q4_K_M", "prompt-lookup"]
    trials = [trial(k=k, draft=draft) for draft in drafts for k in (4, 16)]
    printed = shown(monkeypatch, columns, "oneplus11-termux", trials)
    rounds = [line for line in printed if "round 1/5" in line]
    assert len(rounds) == len(trials)
    assert all(": decode 31.4" in line for line in rounds)
    assert max(map(len, printed)) <= columns
    assert columns < 140 or all("memory 429 MiB" in line for line in rounds)
    assert any(re.search("4/20 about .* left", line) for line in printed)


def test_a_trial_that_failed_is_told_whole_wherever_it_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    device: Any = SimpleNamespace(name="local")
    words = "the engine ended with SIGILL " * 8
    plan = Plan(device, "llama.cpp", "cpu", (Planned(trial(), device, device),))
    ended = TrialFinished(0, Record("", {}, "failed", trial(), Facts(), {}, failure=Failure(words.strip())))
    with Display() as display:
        display.show("local", DeviceStarted(plan))
        display.show("local", ended)
    assert capsys.readouterr().err == f"local: m throughput: failed: {words.strip()}\n"
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    with Display() as display:
        display.show("local", DeviceStarted(plan))
        display.show("local", ended)
    assert words.strip() in " ".join(terminal.getvalue().split())
