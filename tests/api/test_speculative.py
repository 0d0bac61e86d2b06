"""``edgebench.speculative``: a sweep of a real pair of tiny models, and arguments that make no sense."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from lab.tiny import tiny

import edgebench

QUICK: dict[str, Any] = {"ctx": 256, "gen_tokens": 12, "threads": 1, "rounds": 1, "settle": 0}


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """A target, and its own first layer as the draft."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGEBENCH_STORE", raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")  # threads that spin starve others on a busy machine
    target, draft = tiny(tmp_path / "target.gguf", seed=3), tiny(tmp_path / "draft.gguf", seed=3, layers=1)
    return {"target": target, "draft": draft}


@pytest.mark.lab
def test_a_sweep_has_the_target_alone_and_a_record_for_each_draft_and_k(pair: dict[str, Path]) -> None:
    finished: list[str] = []

    def show(device: str, event: edgebench.Event) -> None:
        if isinstance(event, edgebench.TrialFinished):
            finished.append(event.record.id)

    drafts = [pair["draft"], "prompt-lookup"]
    sweep = edgebench.speculative(
        "local", pair["target"], drafts, k=(1, 2), on_event=show, name="swept", repack=False, **QUICK
    )
    configurations = [(one.trial.options["draft"], one.trial.options["k"]) for one in sweep]
    assert configurations == [("none", 0), ("draft", 1), ("draft", 2), ("prompt-lookup", 1), ("prompt-lookup", 2)]
    assert [one.status for one in sweep] == ["ok"] * 5
    assert {one.trial.options["repack"] for one in sweep} == {False}  # an option of the library only
    baseline, *drafted = sweep
    assert "speedup" not in baseline.metrics
    for one in drafted:
        (rate,), (alone,) = one.metrics["decode_tps"].rounds, baseline.metrics["decode_tps"].rounds
        assert rate
        assert alone
        assert one.metrics["speedup"].value == pytest.approx(rate / alone)
        assert one.facts.engine.name == "llama-cpp-python"
    for one in drafted[:2]:
        assert 0 <= one.metrics["acceptance"].value <= 1
        assert one.metrics["predicted_speedup"].value > 0
    assert sorted(finished) == [one.id for one in sweep]
    stored = edgebench.load(runs="swept")
    assert [one.metrics.get("speedup") for one in stored] == [one.metrics.get("speedup") for one in sweep]


def test_a_pair_that_does_not_fit_is_refused_from_the_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    vast = 2**31 - 1
    target = tiny(tmp_path / "target.gguf", context=vast)
    draft = tiny(tmp_path / "draft.gguf", layers=1, context=vast)
    with pytest.raises(edgebench.ModelError, match="do not fit into"):
        edgebench.speculative(target=target, draft=draft, k=1, engine="llama-cpp-python", ctx=vast)
    assert not Path("reports").exists()


@pytest.mark.lab
def test_without_llama_cpp_python_llama_cpp_is_used_and_the_records_say_so(pair: dict[str, Path]) -> None:
    profile = Path("bare.yaml")
    python = {"llama-cpp-python": {"python": "/nowhere/python3"}}
    profile.write_text(
        json.dumps({"name": "bare", "system": "auto", "transport": {"kind": "local"}, "engines": python}), "utf-8"
    )
    sweep = edgebench.speculative(profile, **pair, k=1, **QUICK)
    assert {one.trial.engine for one in sweep} == {"llama.cpp"}
    assert [one.status for one in sweep if one.trial.options["k"]] == ["ok"]
    for one in sweep:
        assert any("falling back to llama.cpp, which starts once per K" in note for note in one.notes)


@pytest.mark.lab
def test_auto_predicts_from_one_round_and_measures_what_is_likely(pair: dict[str, Path]) -> None:
    sweep = edgebench.speculative(**pair, k="auto", **QUICK)
    assert [one.trial.options["k"] for one in sweep][:3] == [0, 16, 0]
    assert len(sweep) == 2 + 1 + 3
    assert len({one.run["id"] for one in sweep}) == 1
    assert {one.trial.engine for one in sweep} == {"llama-cpp-python"}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"k": 0}, "k: '0': 0 is below 1"),
        ({"k": -1}, "k: '-1' is not a range"),
        ({"k": "2..1"}, "k: '2..1' is descending"),
        ({"k": [1, 65]}, "k: at most 64 draft tokens per step, not 65"),
        ({"k": []}, "k is empty"),
        ({"k": 1.5}, "k must be a whole number or several of them, not 1.5"),
        ({"gen_tokens": 1}, "gen_tokens must be at least 2, not 1"),
        ({"p_min": 2}, "p_min must be between 0 and 1, not 2"),
        ({"threads": [1, 2]}, "threads must be a single value, not 2 values"),
        ({"device": ["local", "all"]}, "device must be a single value"),
        ({"draft": []}, "draft is empty"),
        ({"draft": "prompt-lookpu"}, "no model named 'prompt-lookpu'"),
        ({"draft": "ngram-simple"}, "llama-cpp-python has no drafting method 'ngram-simple'"),
        ({"seed": -1}, "seed must be between 0 and"),
        ({"engine": "llama.cp"}, "no engine named 'llama.cp'"),
        ({"engine": "mlc-llm", "p_min": 0.5}, "mlc-llm does not support p_min"),
        ({"engine": "llama.cpp", "p_min": 0.5, "k": "auto"}, "k = auto cannot be combined with p_min on llama.cpp"),
        ({"engine": 7}, "engine must be text, not 7"),
        ({"k": "auto,3"}, "k: 'auto,3' is not a range"),
    ],
)
def test_arguments_that_make_no_sense_are_usage_errors(
    pair: dict[str, Path], wrong: dict[str, Any], words: str
) -> None:
    with pytest.raises(edgebench.UsageError, match=re.escape(words)):
        edgebench.speculative(**{**pair, "k": 1, "engine": "llama-cpp-python", **QUICK, **wrong})
    assert not Path("reports").exists()
