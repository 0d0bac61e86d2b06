"""``--scenario kvcache`` and ``--scenario decoding``, on a tiny model through the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab.tiny import tiny

from edgebench.core import Divergence, ModelFile, Reply, Request, RoundData, Sampling, ScenarioContext, Turn
from edgebench.errors import EngineFailed
from edgebench.judging import divergence, metrics
from edgebench.scenarios.decoding import STRATEGIES, Decoding, shape, variety
from edgebench.scenarios.kvcache import KvCache

pytestmark = pytest.mark.lab


def run(folder: Path, *argv: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "edgebench", "run", "--rounds", "1", *map(str, argv)]
    env = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    return subprocess.run(words, capture_output=True, text=True, cwd=folder, env=env, check=False)


def records(folder: Path, *argv: object) -> list[dict[str, Any]]:
    ended = run(folder, "--json", "-", "--engine", "llama-cpp-python", *argv)
    assert ended.returncode == 0, ended.stderr
    found: list[dict[str, Any]] = json.loads(ended.stdout)["records"]
    return found


def test_the_kv_cache_is_compared_with_none_token_by_token(tmp_path: Path) -> None:
    (found,) = records(tmp_path, "-m", tiny(tmp_path / "m.gguf", width=64), "-s", "kvcache", "--gen-tokens", 32)
    metrics = found["metrics"]
    assert metrics["cache_speedup"]["value"] > 1
    ratio = metrics["without_cache_s"]["value"] / metrics["with_cache_s"]["value"]
    assert metrics["cache_speedup"]["value"] == pytest.approx(ratio)
    cached, without = (turn for turn in found["rounds"][0]["turns"] if "KV cache" in turn["label"])
    assert cached["text"] == without["text"]
    assert len(cached["token_times"]) == len(without["token_times"]) == 32


def test_a_real_text_that_parts_at_a_tie_is_measured(tmp_path: Path) -> None:
    # From 64 tokens at once on, llama.cpp's attention sums in another order and precision.
    (found,) = records(tmp_path, "-s", "kvcache", "--gen-tokens", 16, "--settle", 0)
    assert found["metrics"]["cache_speedup"]["value"] > 1


def test_every_strategy_is_a_trial_with_its_cost_and_its_text(tmp_path: Path) -> None:
    model = tiny(tmp_path / "m.gguf", context=4096)
    found = records(tmp_path, "-m", model, "-s", "decoding", "--gen-tokens", 8, "--beams", 3)
    assert [record["trial"]["options"]["strategy"] for record in found] == list(STRATEGIES)
    for record in found:
        metrics = {name: metric["value"] for name, metric in record["metrics"].items()}
        assert metrics["decode_tps"] > 0
        assert metrics["peak_footprint_b"] > 0
        assert metrics["log_likelihood"] < 0
        assert 0 <= metrics["repetition"] <= 1
        assert 0 < metrics["distinct_1"] <= 1


def test_some_strategies_may_be_asked_for_and_others_are_named(tmp_path: Path) -> None:
    model = tiny(tmp_path / "m.gguf", context=4096)
    asked = ["-m", model, "-s", "decoding", "--gen-tokens", 4]
    found = records(tmp_path, *asked, "--strategy", "top-p,greedy")
    assert [record["trial"]["options"]["strategy"] for record in found] == ["top-p", "greedy"]
    wrong = run(tmp_path, *asked, "--engine", "llama-cpp-python", "--strategy", "gredy")
    assert wrong.returncode == 2
    assert "greedy" in wrong.stderr


@pytest.mark.parametrize("scenario", ["kvcache", "decoding"])
def test_other_engines_are_refused(tmp_path: Path, scenario: str) -> None:
    ended = run(tmp_path, "-m", tiny(tmp_path / "m.gguf"), "-s", scenario, "--engine", "llama.cpp")
    assert ended.returncode == 2
    assert "use --engine llama-cpp-python." in ended.stderr


# --- the tie rule in the scenario ------------------------------------------------------------


def setting(**options: Any) -> ScenarioContext:
    model = ModelFile("m", Path("m"), "0", 1, "gguf", "F16", "llama")
    return ScenarioContext(model, 4096, {**options}, 0, len)


def with_tokens(one: Sequence[int], other: Sequence[int], parting: dict[str, Any]) -> Any:
    """Play the engine: two answers, and where they part."""
    turns = KvCache().turns(setting(gen_tokens=4))
    asked: Request = next(turns)
    assert asked.kv_cache is True
    assert turns.send(Reply("", tuple(one), prefill_s=1.0, decode_s=2.0)).kv_cache is False
    question = turns.send(Reply("", tuple(other), prefill_s=1.0, decode_s=5.0))
    assert (question.reference, question.other) == (tuple(one), tuple(other))
    turns.send(Reply("", divergence=Divergence(**parting)))


def test_other_tokens_are_accepted_at_a_tie_only() -> None:
    with pytest.raises(StopIteration):
        with_tokens([1, 2, 3], [1, 4, 3], {"position": 1, "gap": 0.01, "noise": 0.02})
    with pytest.raises(EngineFailed, match="after 1 equal tokens"):
        with_tokens([1, 2, 3], [1, 4, 3], {"position": 1, "gap": 0.2, "noise": 0.02})
    with pytest.raises(EngineFailed, match="one text ends after 2 tokens"):
        with_tokens([1, 2, 3], [1, 2], {"position": 2})


def test_the_speed_up_is_the_ratio_of_the_two_generations() -> None:
    turns = [
        Turn(label="with KV cache", prefill_s=1.0, decode_s=2.0),
        Turn(label="without KV cache", prefill_s=1.0, decode_s=5.0),
    ]
    computed, _ = metrics.compute(KvCache.metrics, RoundData(turns))
    assert computed == {"with_cache_s": 3.0, "without_cache_s": 6.0, "cache_speedup": 2.0}
    assert metrics.compute(KvCache.metrics, RoundData(turns[:1])) == ({"with_cache_s": 3.0}, [])


def test_noise_that_is_no_rounding_error_excuses_nothing() -> None:
    assert not divergence.is_tie(Divergence(0, 0.1, 3.0))
    assert divergence.is_tie(Divergence(0, 0.0, 0.0))


# --- texts -----------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 5), max_size=40))
def test_variety_is_a_share(tokens: list[int]) -> None:
    assert all(0 <= value <= 1 for value in variety(tokens).values())


def test_variety_of_texts_that_repeat_and_that_do_not() -> None:
    assert variety([1, 2, 3, 4, 5]) == {"repetition": 0, "distinct_1": 1, "distinct_2": 1}
    assert variety([1, 1, 1, 1, 1, 1]) == pytest.approx({"repetition": 2 / 3, "distinct_1": 1 / 6, "distinct_2": 0.2})


def test_a_strategy_is_about_one_thing() -> None:
    options = {name: value for name, value in Decoding.options.items() if not isinstance(value, tuple)}
    shapes = {name: shape({**options, "strategy": name}) for name in STRATEGIES}
    assert shapes == {
        "greedy": Sampling(),
        "beam": Sampling(beams=2),
        "temperature": Sampling(),
        "top-k": Sampling(top_k=40),
        "top-p": Sampling(top_p=0.9),
    }
