"""``edgebench speculative``: sweeps of tiny models through the command line, refusals, and the figures."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab.place import Place
from lab.tiny import tiny

import edgebench
from edgebench import modelfiles, profiles
from edgebench.bench import divergence
from edgebench.bench.events import TrialFinished
from edgebench.bench.trials import Bench
from edgebench.core import (
    CostQuery,
    DeviceFacts,
    Divergence,
    DivergenceQuery,
    Facts,
    FollowUp,
    Gpu,
    Metric,
    Record,
    Reply,
    Round,
    SpeculationCounts,
    Trial,
    Turn,
)
from edgebench.device.session import Session
from edgebench.engines import llama_server
from edgebench.engines.llamacpp import LlamaCpp, LlamaCppConfig
from edgebench.errors import EngineFailed, ModelError
from edgebench.judging import costs as costs_of
from edgebench.judging import doubts, speculation
from edgebench.judging.costs import Costs
from edgebench.judging.speculation import complete_sweep, predict_best_lengths, verdict
from edgebench.modelfiles import pairs
from edgebench.plan import Plan
from edgebench.plan.sweep import sweep
from edgebench.scenarios.speculative import MESSAGES
from edgebench.views.speculative import draw


def speculative(folder: Path, *argv: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "edgebench", "speculative", "--ctx", "512", "--gen-tokens", "24", *map(str, argv)]
    # Threads that wait by spinning starve one another on a busy machine.
    env = {**os.environ, "OMP_WAIT_POLICY": "passive", "EDGEBENCH_SETTLE": "0"}
    return subprocess.run(words, capture_output=True, text=True, cwd=folder, env=env, check=False)


def swept(folder: Path, *argv: object) -> list[dict[str, Any]]:
    ended = speculative(folder, "--json", "-", *argv)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    records: list[dict[str, Any]] = json.loads(ended.stdout)["records"]
    return records


@pytest.fixture
def pair(tmp_path: Path) -> list[object]:
    """A target, and its own first layer as the draft; in a folder whose name needs quoting."""
    folder = tmp_path / "mo dels' $(x) ü"
    folder.mkdir()
    target, draft = tiny(folder / "target.gguf", seed=3), tiny(folder / "draft.gguf", seed=3, layers=1)
    return ["--target", target, "--draft", draft]


# --- sweeps ----------------------------------------------------------------------------------


@pytest.mark.lab
def test_a_sweep_has_the_baseline_in_every_round_and_a_record_for_each_k(tmp_path: Path, pair: list[object]) -> None:
    records = swept(tmp_path, *pair, "--draft", "prompt-lookup", "--k", "1..3", "--rounds", "2")
    told = [(record["trial"]["options"]["draft"], record["trial"]["options"]["k"]) for record in records]
    expected = [("none", 0), *((draft, k) for draft in ("draft", "prompt-lookup") for k in (1, 2, 3))]
    assert told == expected
    baseline = records[0]["metrics"]["decode_tps"]["rounds"]
    assert len(baseline) == 2
    assert "speedup" not in records[0]["metrics"]
    for record in records[1:]:
        metrics = record["metrics"]
        ratios = [mine / its for mine, its in zip(metrics["decode_tps"]["rounds"], baseline, strict=True)]
        assert metrics["speedup"]["rounds"] == pytest.approx(ratios)
    for record in records[1:4]:
        metrics = record["metrics"]
        assert 0 <= metrics["acceptance"]["value"] <= 1
        assert 1 <= metrics["tokens_per_verification"]["value"] <= 1 + record["trial"]["options"]["k"]
        assert metrics["predicted_speedup"]["value"] > 0
        assert record["facts"]["engine"]["name"] == "llama-cpp-python"
    assert sum("load_s" in record["metrics"] for record in records) >= 1
    shown = subprocess.run(
        [sys.executable, "-m", "edgebench", "results", "list"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert all(record["id"] in shown.stdout for record in records)


@pytest.mark.lab
def test_every_k_of_every_round_is_served_by_one_process(tmp_path: Path, pair: list[object]) -> None:
    records = swept(tmp_path, *pair, "--k", "1,4,16", "--rounds", "2")
    assert sum(one["fresh"] for record in records for one in record["rounds"]) == 1


@pytest.mark.lab
def test_the_table_ends_with_a_verdict(tmp_path: Path, pair: list[object]) -> None:
    ended = speculative(tmp_path, *pair, "--k", "4", "--rounds", "1")
    assert ended.returncode == 0, ended.stderr
    assert "no K" in ended.stdout or "is best" in ended.stdout
    assert "a step of the draft takes" in ended.stdout


@pytest.mark.lab
def test_auto_predicts_then_measures_three(tmp_path: Path, pair: list[object]) -> None:
    records = swept(tmp_path, *pair, "--k", "auto", "--rounds", "1")
    assert [record["trial"]["options"]["k"] for record in records[:2]] == [0, 16]
    assert records[2]["trial"]["options"]["k"] == 0
    assert len(records) == 2 + 1 + 3


@pytest.mark.lab
def test_native_llama_cpp_starts_once_for_every_k_and_drafts_from_the_text_too(
    tmp_path: Path, pair: list[object]
) -> None:
    asked = ["--draft", "ngram-simple", "--k", "2,5", "--rounds", "1", "--engine", "llama.cpp"]
    records = swept(tmp_path, *pair, *asked)
    assert all(one["fresh"] for record in records for one in record["rounds"])
    for record in records[1:3]:
        assert record["trial"]["options"]["draft"] == "draft"
        assert record["metrics"]["acceptance"]["value"] >= 0
        predicted = record["metrics"]["predicted_speedup"]
        assert predicted["value"] > 0
        assert "timed as the prompt of n tokens after a cached text" in predicted["note"]
    assert [record["trial"]["model"] for record in records] == ["target"] * 5 + ["draft"]
    assert records[-1]["metrics"]["decode_tps"]["value"] > 0


@pytest.mark.lab
@pytest.mark.parametrize("engine", ["llama-cpp-python", "llama.cpp"])
def test_a_draft_ends_where_it_is_unsure_on_either_engine(tmp_path: Path, pair: list[object], engine: str) -> None:
    asked = [*pair, "--engine", engine, "--k", "8", "--rounds", "1", "--json", "-"]
    free = swept(tmp_path, *asked)
    strict = swept(tmp_path, *asked, "--p-min", "0.6")
    assert "p_min" not in free[1]["trial"]["options"]
    assert [record["trial"]["options"].get("p_min") for record in strict[:2]] == [None, 0.6]
    turns = [records[1]["rounds"][0]["turns"] for records in (free, strict)]
    proposed = [sum(turn.get("draft_tokens", 0) for turn in each if "decode" in turn["measures"]) for each in turns]
    assert 0 < proposed[1] < proposed[0]
    ended = speculative(tmp_path, *pair, "--engine", engine, "--k", "8", "--rounds", "1", "--p-min", "1")
    assert ended.returncode == 1, ended.stderr
    assert "never reached the probability --p-min 1.0" in " ".join(ended.stdout.split())


@pytest.mark.lab
def test_a_server_that_silently_does_not_speculate_fails_by_name(tmp_path: Path, pair: list[object]) -> None:
    server = Path(edgebench.__file__).parent / "servers" / "bundled.py"
    deaf = tmp_path / "llama-server"
    # As builds since b9464 do that are given a draft model and no --spec-type.
    deaf.write_text(
        '#!/bin/sh\nfor word; do shift; case $word in draft-simple) word=none;; esac; set -- "$@" "$word"; done\n'
        f'exec {shlex.quote(sys.executable)} {shlex.quote(str(server))} "$@"\n'
    )
    deaf.chmod(0o755)
    profile = tmp_path / "deaf.yaml"
    profile.write_text(
        f"name: deaf\nsystem: linux\ntransport: {{kind: local}}\nengines:\n  llama.cpp:\n    path: {deaf}\n"
    )
    ended = speculative(tmp_path, *pair, "-d", profile, "--k", "3", "--rounds", "1", "--engine", "llama.cpp")
    assert ended.returncode == 1, ended.stderr
    assert "silent non-speculation: 3 draft tokens requested, the engine proposed none" in ended.stdout


def test_over_ssh_the_server_is_sent_and_one_process_serves_every_k(
    linux: Place, tmp_path: Path, pair: list[object]
) -> None:
    profile = tmp_path / "far.yaml"
    told = {
        "name": "far",
        "system": linux.system,
        "transport": dict(linux.transport),
        "workspace": linux.folder,
        "engines": {"llama-cpp-python": {"python": sys.executable, "env": {"OMP_WAIT_POLICY": "passive"}}},
    }
    profile.write_text(json.dumps(told))
    records = swept(tmp_path, *pair, "-d", profile, "--k", "2,4", "--rounds", "1")
    assert [record["trial"]["engine"] for record in records] == ["llama-cpp-python"] * 3
    assert all("speedup" in record["metrics"] for record in records[1:])
    assert list((linux.here / "servers").glob("llama_cpp_python-*.pyz"))


@pytest.mark.lab
def test_questions_after_the_last_round_go_to_the_engine_of_the_trial_that_they_name(
    tmp_path: Path, pair: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    target, draft = (modelfiles.resolve(str(path)) for path in pair[1::2])
    asked: dict[str, Any] = {"ctx": 512, "gen_tokens": 8, "threads": 1}
    trials = sweep(
        profiles.load_device("local"), target, [draft], [2], engine="llama.cpp", backend="cpu", options=asked
    )
    seen: list[Any] = []

    def questions(done: Sequence[tuple[Trial, Sequence[Round]]]) -> FollowUp:
        seen.append([(trial.options["k"], len(rounds)) for trial, rounds in done])
        with pytest.raises(EngineFailed, match="/apply-template"):
            yield (
                0,
                DivergenceQuery(({"no": "role"},), "a", "b"),
            )
        reply = yield 0, CostQuery(MESSAGES, "the quick brown fox jumps over", (1, 2), 1)
        seen.append(reply.costs)
        return {1: ["explain_divergence", doubts.new_doubt("output-differs", "by a fault")]}

    with Session(profiles.load_device("local")) as session:
        bench = Bench(
            Plan(profiles.load_device("local"), "llama.cpp", "cpu", trials, rounds=1, settle=0, follow_up=questions),
            session,
            LlamaCpp(session, LlamaCppConfig()),
        )
        happened = list(bench.events())
    ended = {one.index: one.record for one in happened if isinstance(one, TrialFinished)}
    assert seen[0] == [(0, 1), (2, 1), (0, 1)]
    assert set(seen[1].verify_s) == {1, 2}
    assert "explain_divergence" in ended[1].notes
    assert "output-differs" in [doubt.id for doubt in ended[1].doubts]
    assert ended[0].status == ended[1].status == ended[2].status == "ok"


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("k", "words"),
    [
        ("0", "the baseline, k = 0, is always measured"),
        ("16..1", "Did you mean 1..16?"),
        ("1..1000", "1000"),
        ("65", "at most 64"),
        ("many", "not a range"),
        ("auto,3", "or auto, alone"),
    ],
)
def test_impossible_values_of_k_are_refused(tmp_path: Path, pair: list[object], k: str, words: str) -> None:
    ended = speculative(tmp_path, *pair, "--k", k)
    assert ended.returncode == 2
    assert words.lower() in ended.stderr.lower()
    assert "Traceback" not in ended.stderr


def refused(folder: Path, *argv: object) -> str:
    ended = speculative(folder, "--k", "2", "--rounds", "1", *argv)
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "starting the engine" not in ended.stderr
    assert not (folder / "reports").exists(), "nothing is kept of what never began"
    return ended.stderr


@pytest.mark.lab
def test_pairs_that_cannot_work_are_refused_with_the_reason_before_anything_is_loaded(tmp_path: Path) -> None:
    target = tiny(tmp_path / "target.gguf")
    again = tmp_path / "again.gguf"
    again.write_bytes(target.read_bytes())
    assert "the same file" in refused(tmp_path, "--target", target, "--draft", again)
    words = tiny(tmp_path / "words.gguf", pieces=[*"zyxwvutsrqponmlkjihgfedcba "])
    assert "token 259 is 'z', in the target it is 'a'" in refused(tmp_path, "--target", target, "--draft", words)
    bos = tiny(tmp_path / "bos.gguf", add_bos=False)
    assert "adds a first token by itself" in refused(tmp_path, "--target", target, "--draft", bos)
    many = tiny(tmp_path / "many.gguf", pieces=[f"w{i}" for i in range(200)])
    assert "more than 128 apart" in refused(tmp_path, "--target", target, "--draft", many)
    draft = tiny(tmp_path / "draft.gguf", layers=1)
    pair = ["--target", target, "--draft", draft]
    assert "Methods of llama-cpp-python: prompt-lookup" in refused(tmp_path, *pair, "--draft", "ngram-simple")
    assert "--draft-gpu-layers: 'al' is not a range" in refused(tmp_path, *pair, "--draft-gpu-layers", "al")
    assert "--gpu-layers must be a single value in a sweep over K, not 1,2" in refused(
        tmp_path, *pair, "--gpu-layers", "1,2"
    )
    assert "Did you mean cuda?" in refused(tmp_path, *pair, "--backend", "cude")
    lookup = ["--draft", "prompt-lookup", "--engine", "mlc-llm"]
    assert "mlc-llm has no drafting method 'prompt-lookup'" in refused(tmp_path, "--target", target, *lookup)
    state = tiny(tmp_path / "state.gguf", seed=1, extra={"llama.ssm.state_size": 16})
    assert "recurrent" in refused(tmp_path, "--target", state, "--draft", target)
    assert "recurrent" in refused(tmp_path, "--target", target, "--draft", state)
    assert "--p-min requires a draft model" in refused(
        tmp_path, "--target", target, "--draft", "prompt-lookup", "--p-min", "0.5"
    )
    asked = ["--p-min", "0.5", "--engine"]
    assert "mlc-llm does not support p_min" in refused(tmp_path, *pair, *asked, "mlc-llm")
    words = "k = auto cannot be combined with p_min on llama.cpp"
    assert words in refused(tmp_path, *pair, *asked, "llama.cpp", "--k", "auto")
    assert "there is no such file" in refused(tmp_path, "--target", target, "--draft", tmp_path / "nowhere.gguf")
    assert "magic" in refused(tmp_path, "--target", target, "--draft", "magic")


@pytest.mark.lab
def test_a_pair_that_does_not_fit_is_refused_from_the_headers(tmp_path: Path) -> None:
    vast = 2**31 - 1
    target = tiny(tmp_path / "target.gguf", context=vast)
    draft = tiny(tmp_path / "draft.gguf", layers=1, context=vast)
    assert "do not fit into" in refused(tmp_path, "--target", target, "--draft", draft, "--ctx", vast)


def test_a_pair_that_does_not_fit_onto_the_gpu_is_refused_where_its_memory_is_known(tmp_path: Path) -> None:
    target = modelfiles.resolve(str(tiny(tmp_path / "t.gguf")))
    draft = modelfiles.resolve(str(tiny(tmp_path / "d.gguf")))
    options: dict[str, Any] = {"ctx": 512}
    parts = {
        "t": pairs.memory_split("llama.cpp", target, options, 1),
        "d": pairs.memory_split("llama.cpp", draft, options, "all"),
    }
    (here, there), (_, whole) = parts.values()
    assert here == there, "one of two layers"
    assert parts["d"] == (0, here + there)
    device = profiles.load_device("local")

    def check(ram: int, gpu: int | None, backend: str = "cuda") -> None:
        facts = DeviceFacts(ram_b=ram, gpus=(Gpu("a GPU", memory_b=gpu),))
        pairs.check_fit(parts, facts, device, backend)

    check(here, there + whole)
    check(here, None)
    with pytest.raises(ModelError, match=r"t .* does not fit into the .* GiB of local"):
        check(here - 1, None)
    with pytest.raises(ModelError, match=r"do not fit into the .* GiB of the GPU of local") as error:
        check(here, there + whole - 1)
    assert "--draft-gpu-layers" in (error.value.hint or "")
    with pytest.raises(ModelError, match="of local"):
        check(here + there, None, "metal")
    check(here + there + whole, None, "metal")


@pytest.mark.lab
def test_a_draft_larger_than_its_target_is_warned_of(tmp_path: Path) -> None:
    small, large = tiny(tmp_path / "small.gguf", layers=1), tiny(tmp_path / "large.gguf", layers=3)
    ended = speculative(tmp_path, "--target", small, "--draft", large, "--k", "1", "--rounds", "1")
    assert ended.returncode == 0, ended.stderr
    assert "the draft large is larger than the target small" in ended.stderr


# --- figures ---------------------------------------------------------------------------------


@given(st.floats(0.01, 0.99), st.integers(1, 16), st.floats(0.01, 1))
def test_with_a_free_verification_the_prediction_is_that_of_leviathan(alpha: float, k: int, cost: float) -> None:
    per_step = (1 - alpha ** (k + 1)) / (1 - alpha)
    known = Costs(dict.fromkeys(range(1, 18), 0.1), 0.1 * cost)
    assert known.predicted(per_step, k, draft=True) == pytest.approx(per_step / (k * cost + 1))


def test_costs_between_measured_sizes_lie_on_a_line_and_none_beyond_them() -> None:
    known = Costs({1: 1.0, 3: 2.0, 9: 8.0}, 0.5)
    assert [known.verification(n) for n in (1, 2, 3, 6, 9)] == [1, 1.5, 2, 5, 8]
    assert known.verification(10) is None
    assert known.predicted(2.0, 9, draft=True) is None
    assert known.predicted(3.0, 2, draft=False) == pytest.approx(3.0 / 2.0)


def record(k: int, *rates: float, text: str = "same", costs: Any = None, positions: Any = None) -> Record:
    draft = "none" if k == 0 else "small"
    trial = Trial("d", "m", "llama-cpp-python", "cpu", "speculative", {"k": k, "draft": draft})

    def turn() -> Turn:
        drafts = {"draft_tokens": 2 * k, "draft_accepted": 4} if k else {}
        return Turn(
            measures=("decode",),
            text=text,
            completion_tokens=11,
            costs=llama_server.costs_of(costs) if costs else None,
            speculation=SpeculationCounts(**positions) if positions else None,
            **drafts,
        )

    rounds = tuple(
        Round(i, "", {"decode_tps": rate, **({"tokens_per_verification": 2.0} if k else {})}, (turn(),))
        for i, rate in enumerate(rates)
    )
    return Record("r", {}, "ok", trial, Facts(), {"decode_tps": Metric(rates[0], "tokens/s")}, rounds=rounds)


def test_speed_ups_are_paired_by_round() -> None:
    _, two = complete_sweep([record(0, 10, 20, 40), record(2, 20, 30, 40)])
    assert two.metrics["speedup"].rounds == (2, 1.5, 1)
    assert two.metrics["speedup"].value == 1.5
    assert "predicted_speedup" not in two.metrics


def test_costs_are_those_of_the_round_and_a_first_step_of_the_draft_may_cost_more() -> None:
    costs = {"verify_s": {"1": [1.0], "3": [2.0]}, "draft_s": [[0.5, 0.1, 0.1], [0.7, 0.1, 0.3]]}
    (alone, two) = complete_sweep([record(0, 10, costs=costs), record(2, 20)])
    known = costs_of.collect_costs([alone, two])
    assert known == Costs({1: 1.0, 3: 2.0}, 0.1, 0.6)
    assert [known.drafting(n) for n in (0, 1, 2, 3)] == pytest.approx([0, 0.6, 0.7, 0.8])
    # 20 tokens, of 2 · 2 proposed 4 accepted: 6 steps of 2/3 a token
    proposed = 4 / 6
    expected = 2.0 * 1.0 / (known.drafting(proposed) + known.verification(1 + proposed))
    assert two.metrics["predicted_speedup"].value == pytest.approx(expected)


def test_a_draft_that_was_accepted_whole_has_a_token_more_to_read() -> None:
    costs = {"verify_s": {"1": [1.0], "3": [2.0]}, "draft_s": [[0.5, 0.1, 0.1]], "draft_two_s": [0.8]}
    positions = {"steps": 4, "proposed_by_position": [4, 4], "accepted_by_position": [4, 3], "draft_evaluated": 11}
    sweep = complete_sweep([record(0, 10, costs=costs), record(2, 20, positions=positions)])
    known = costs_of.collect_costs(sweep)
    assert known is not None
    assert known.drafting(2, 1.0) == pytest.approx(0.8 + 0.1)
    proposed = 4 / 6  # 4 draft tokens in the 6 steps that 10 tokens took
    predicted = 2.0 * 1.0 / (proposed * 0.5 + 3 / 4 * 0.3 + 1 + proposed / 2)
    assert sweep[1].metrics["predicted_speedup"].value == pytest.approx(predicted)
    k, gain = costs_of.predict_best_case(sweep) or (0, Metric(0, ""))
    assert (k, gain.value) == (2, pytest.approx(3 / (0.8 + 0.1 + 2.0)))


def slowed(baseline: Record, *factors: float) -> Record:
    """With a draft that takes so many times as long in each round."""
    rounds = []
    for one, factor in zip(baseline.rounds, factors, strict=True):
        (turn,) = one.turns
        slower = replace(
            turn.costs,
            draft_s=tuple(tuple(step * factor for step in steps) for steps in turn.costs.draft_s),
            draft_two_s=tuple(step * factor for step in turn.costs.draft_two_s),
        )
        rounds.append(replace(one, turns=(replace(turn, costs=slower),)))
    return replace(baseline, rounds=tuple(rounds))


@given(st.lists(st.floats(0.2, 5), min_size=1, max_size=7))
def test_nothing_is_predicted_that_the_costs_do_not_allow_however_they_vary(factors: list[float]) -> None:
    costs = {"verify_s": {"1": [0.03], "2": [0.03], "5": [0.05]}, "draft_s": [[0.01, 0.01]], "draft_two_s": [0.01]}
    baseline = slowed(record(0, *[10.0] * len(factors), costs=costs), *factors)
    whole = []
    for k in range(1, 5):
        turn = Turn(measures=("decode",), completion_tokens=k + 2, draft_tokens=k, draft_accepted=k)
        metrics = {"decode_tps": 20.0, "tokens_per_verification": float(k + 1)}
        each = tuple(replace(one, metrics=metrics, turns=(turn,)) for one in baseline.rounds)
        whole.append(replace(record(k, 20.0), rounds=each))
    sweep = complete_sweep([baseline, *whole])
    allowed = costs_of.predict_best_case(sweep)
    assert allowed is not None
    assert max(one.metrics["predicted_speedup"].value for one in sweep[1:]) <= 1e-9 + allowed[1].value


def test_a_search_and_what_it_led_to_tell_their_costs_together() -> None:
    def costs(factor: float) -> dict[str, Any]:
        return {"verify_s": {"1": [factor], "3": [2 * factor]}, "draft_s": [[0.1 * factor, 0.1 * factor]]}

    search = complete_sweep([record(0, 10, costs=costs(9.0)), record(16, 10)])
    led_to = complete_sweep([record(0, 10, 10, 10, costs=costs(1.0)), record(2, 20, 20, 20)])
    known = costs_of.collect_costs([*search, *led_to])
    assert known == costs_of.collect_costs(led_to), "one round of four does not decide"
    assert costs_of.collect_costs(search) == Costs({1: 9.0, 3: 18.0}, 0.9, 0.9)


def test_what_is_allowed_is_of_the_rounds_whose_predictions_stand_above_it() -> None:
    def costs(step: float) -> dict[str, Any]:
        return {"verify_s": {"1": [1.0], "3": [2.0]}, "draft_s": [[step, step]]}

    search = complete_sweep([record(0, 10, costs=costs(0.9)), record(16, 10)])
    led_to = complete_sweep([record(0, 10, 10, costs=costs(0.1)), record(2, 20, 20)])
    assert speculation.explain_best([*search, *led_to])[-1] == speculation.explain_best(led_to)[-1]
    assert "allow a long text 1.36× at most" in speculation.explain_best(led_to)[-1]


def test_a_draft_that_reads_all_that_is_verified_costs_that_too() -> None:
    """As llama.cpp's does since it has the type draft-simple."""
    told = {"verify_s": {"1": [1.0], "3": [2.0]}, "method": "so", "draft_rereads": True}
    its = {"verify_s": {"1": [0.2], "3": [0.4]}}
    other = record(0, 5, costs=its)
    other = replace(other, trial=replace(other.trial, model="small"))
    other = replace(other, rounds=tuple(replace(one, metrics={"decode_tps": 5.0}) for one in other.rounds))
    known = costs_of.collect_costs([record(0, 10, costs=told), record(2, 20), other])
    assert known == Costs({1: 1.0, 3: 2.0}, 0.2, reread_s={1: 0.2, 3: 0.4}, method="so")
    assert known.drafting(2) == pytest.approx(2 * 0.2 + 0.4)
    assert known.drafting(3) is None, "so many were not measured"


def test_a_prediction_that_does_not_go_with_the_measurement_is_a_doubt() -> None:
    costs = {"verify_s": {"1": [1.0], "2": [1.0], "3": [1.0]}, "draft_s": [[0.01]]}
    base = record(0, 10, 10, 10, 10, 10, costs=costs)
    (_, slow) = complete_sweep([base, record(2, 11, 11, 11, 11, 11)])
    assert slow.metrics["predicted_speedup"].value == pytest.approx(2 / (1 + 0.01 * 4 / 6), rel=1e-3)
    assert [doubt.id for doubt in slow.doubts] == ["prediction"]
    assert "measured 1.10×, predicted 1.99×" in slow.doubts[0].detail
    (_, wide) = complete_sweep([base, record(2, 11, 11, 11, 11, 25)])
    assert wide.doubts == ()
    (_, near) = complete_sweep([base, record(2, 20.5, 20.5, 20.5, 20.5, 20.5)])
    assert near.doubts == ()


# --- where texts part ------------------------------------------------------------------------


def weigh(records: list[Record], answer: Any) -> tuple[list[DivergenceQuery], Any]:
    """Play the engine; what was asked, and what is said of each trial."""
    asking = divergence.explain_divergence([(one.trial, one.rounds) for one in records])
    asked: list[DivergenceQuery] = []
    try:
        index, request = next(asking)
        while True:
            assert index == 0, "the target alone answers"
            asked.append(request)
            if isinstance(answer, Exception):
                index, request = asking.throw(answer)
            else:
                index, request = asking.send(Reply("", divergence=Divergence(**answer)))
    except StopIteration as end:
        return asked, end.value


def test_an_engine_without_logits_is_not_asked() -> None:
    records = [record(0, 10), record(2, 10, text="samt")]
    deaf = [replace(one, trial=replace(one.trial, engine="mlc-llm")) for one in records]
    asked, said = weigh(deaf, {})
    assert asked == []
    assert said[1][0].id == "output-differs"
    assert "mlc-llm does not report logits" in said[1][0].detail


def test_equal_texts_raise_no_question() -> None:
    assert weigh([record(0, 10), record(2, 10)], {}) == ([], {})
    # Seen with MLC-LLM 79d603f: 26 tokens at K = 4 where 24 were asked for.
    assert weigh([record(0, 10), record(2, 10, text="same and")], {}) == ([], {})
    assert len(weigh([record(0, 10), record(2, 10, text="sam")], {"position": 3})[1]) == 1


def test_another_text_is_accepted_at_a_tie_and_the_gap_is_reported() -> None:
    tie = {"position": 3, "gap": 0.01, "noise": 0.04}
    asked, said = weigh([record(0, 10), record(2, 10, text="samt"), record(4, 10, text="samt")], tie)
    assert len(asked) == 1, "the same question is asked once"
    assert (asked[0].reference, asked[0].other) == ("same", "samt")
    assert said[1] == [
        "small with k 2: its text diverges from the target's own at a tie, after 3 equal tokens; there the logits of "
        "the two next tokens are 0.0100 apart, and evaluating one by one or at once changes a logit by up to 0.0400"
    ]
    assert said[2][0].startswith("small with k 4")


def test_another_text_without_a_tie_is_a_doubt_and_so_is_one_that_could_not_be_weighed() -> None:
    sweep = [record(0, 10), record(2, 10, text="samt")]
    _, said = weigh(sweep, {"position": 3, "gap": 1.5, "noise": 0.04})
    assert [doubt.id for doubt in said[1]] == ["output-differs"]
    assert "1.5000 apart" in said[1][0].detail
    _, said = weigh(sweep, EngineFailed("it is gone"))
    assert [doubt.id for doubt in said[1]] == ["output-differs"]
    assert "could not be measured: it is gone" in said[1][0].detail


def test_the_verdict_knows_that_no_k_may_help() -> None:
    slow = complete_sweep([record(0, 10, 10, 10, 10, 10), record(2, 9, 9, 8, 9, 9), record(4, 7, 7, 7, 7, 7)])
    assert verdict(slow).best is None
    assert verdict(slow).text.startswith("no K helps: the best, small with k = 2, is 0.90×")
    fast = complete_sweep([record(0, 10, 10, 10, 10, 10), record(2, 15, 15, 14, 15, 15), record(4, 12, 12, 12, 12, 12)])
    assert verdict(fast).text == "small with k = 2 is best: 1.50× the target alone (1.40–1.50)"
    unsure = complete_sweep([record(0, 10, 10, 10, 10, 10), record(2, 15, 15, 8, 15, 15)])
    assert verdict(unsure).text.startswith("no K is shown to help")


def test_what_only_served_to_predict_is_never_the_best() -> None:
    once = complete_sweep([record(0, 10), record(16, 19)])
    confirmed = complete_sweep([record(0, 10, 10, 10, 10, 10), record(2, 15, 15, 14, 15, 15)])
    assert verdict([*once, *confirmed]).text.startswith("small with k = 2 is best")


def test_why_a_k_is_fast_is_told_in_milliseconds() -> None:
    costs = {"verify_s": {"1": [0.03], "5": [0.05], "17": [0.11]}, "draft_s": [[0.01, 0.01]]}
    sweep = complete_sweep([record(0, 10, 10, costs=costs), record(2, 15, 15)])
    sweep[1] = replace(sweep[1], metrics={**sweep[1].metrics, "tokens_per_verification": Metric(2.0, "tokens")})
    first, second = speculation.explain_best(sweep)
    # 10 tokens after the first, 4 of them accepted: 6 steps, 4 tokens proposed in all
    assert first.startswith("why: with k = 2 a step takes 7 ms to draft 0.7 tokens and 33 ms to check them")
    assert first.endswith("and yields 2.00; the target alone takes 60 ms for these")
    best = max(range(1, 17), key=lambda k: (k + 1) * 0.03 / (0.01 * k + 0.03 + 0.005 * k))
    assert (
        second
        == f"with every draft token accepted these costs allow a long text 1.89× at most (1.89–1.89), at k = {best}"
    )
    assert speculation.explain_best(sweep[:1]) == []


def test_the_table_has_room_in_80_columns_and_names_a_draft_only_where_there_are_several() -> None:
    costs = {"verify_s": {"1": [0.03], "17": [0.11]}, "draft_s": [[0.01, 0.01]]}
    sweep = complete_sweep([record(0, 31.4, 31, 32, costs=costs), record(4, 36, 35, 36), record(16, 130.5, 131, 131)])
    more = {"acceptance": Metric(0.945, ""), "peak_footprint_b": Metric(429 * 2**20, "bytes")}
    sweep = [replace(one, metrics={**one.metrics, **more}) for one in sweep]
    sweep[1] = replace(sweep[1], doubts=(doubts.new_doubt("spread", "decode_tps 12 %"),))
    shown = draw(sweep, width=80)
    assert max(map(len, shown.splitlines())) <= 80
    assert " 4 !" in shown
    assert "alone at k = 0 · draft small" in shown
    assert "(small with k = 4)" in shown
    looked = replace(sweep[1], trial=replace(sweep[1].trial, options={"k": 4, "draft": "prompt-lookup"}))
    both = draw([*sweep, looked], width=80).splitlines()
    assert [line for line in both if line.startswith("draft ")] == ["draft small", "draft prompt-lookup"]
    again = draw([*sweep[:1], sweep[2], replace(sweep[0], id="s"), sweep[1]], width=80)
    assert "m alone again, and the K predicted best" in again


@pytest.mark.parametrize("width", range(50, 121, 10))
def test_columns_give_way_on_a_narrow_terminal_and_what_a_sweep_is_for_stays(width: int) -> None:
    sweep = complete_sweep([record(0, 31.4, 31, 32), record(4, 36, 35, 36), record(16, 130.5, 131, 131)])
    memory = {"peak_footprint_b": Metric(429 * 2**20, "bytes")}
    shown = draw([replace(one, metrics={**one.metrics, **memory}) for one in sweep], width=width)
    assert max(map(len, shown.splitlines())) <= width
    assert "4.16× (4.09–4.23)" in shown.split("no K")[0]
    assert ("429 MiB" in shown) == (width >= 80)
    assert ("columns that do not fit: " in shown) == (width < 80)


def test_each_run_has_a_table_of_its_own_and_other_results_none() -> None:
    sweep = complete_sweep([record(0, 10), record(4, 15)])
    other = replace(sweep[0], trial=replace(sweep[0].trial, options={"threads": 2}))
    again = [replace(one, run={"id": "later"}, id="the-last") for one in sweep]
    shown = draw([*sweep, other, *again])
    assert shown.count("no K is shown to help") == 2
    assert "alone again" not in shown
    assert shown.endswith("Next: edgebench results show the-last\n")
    assert draw([other]) == draw([]) == "No results of a sweep over draft tokens.\n"


def test_the_likely_k_follow_from_one_long_draft() -> None:
    costs = {"verify_s": {str(n): [1.0 + 0.05 * n] for n in range(1, 18)}, "draft_s": [[0.1]]}
    accepted = [90, 80, 70, 10, 5, 1, 1, 1]
    positions = {"proposed_by_position": [100] * 8, "accepted_by_position": accepted}
    baseline, long = record(0, 10, costs=costs), record(8, 10, positions=positions)
    assert predict_best_lengths([baseline, long], range(1, 9), 1) == [3]
    assert predict_best_lengths([baseline, long], range(1, 9), 3) == [2, 3, 4]
    assert predict_best_lengths([record(0, 10), long], range(1, 9), 3) == []


def test_a_draft_that_ends_early_is_predicted_as_long_as_it_was() -> None:
    """Accepted ÷ proposed would be 1 at every position, and the longest draft the best."""
    costs = {"verify_s": {str(n): [1.0 + 0.2 * n] for n in range(1, 18)}, "draft_s": [[0.2]]}
    told = [100, 90, 5, 5, 5, 5, 5, 5]
    positions = {"steps": 100, "proposed_by_position": told, "accepted_by_position": told}
    long = record(8, 10, positions=positions)
    sure = replace(long, trial=replace(long.trial, options={**long.trial.options, "p_min": 0.9}))
    known = Costs({n: 1.0 + 0.2 * n for n in range(1, 18)}, 0.2)
    scores = {k: known.predicted(1 + sum(told[:k]) / 100, sum(told[:k]) / 100, draft=True) or 0 for k in range(1, 9)}
    assert predict_best_lengths([record(0, 10, costs=costs), sure], range(1, 9), 2) == sorted(
        sorted(scores, key=lambda k: -scores[k])[:2]
    )
    assert predict_best_lengths([record(0, 10, costs=costs), long], range(1, 9), 1) == [8]


def test_a_draft_without_a_model_is_predicted_without_its_cost() -> None:
    costs = {"verify_s": {str(n): [1.0 + 0.2 * n] for n in range(1, 18)}}
    positions = {"steps": 10, "proposed_by_position": [9, 9, 2, 2], "accepted_by_position": [9, 9, 0, 0]}
    looked = record(4, 10, positions=positions)
    looked = replace(looked, trial=replace(looked.trial, options={"k": 4, "draft": "prompt-lookup"}))
    assert predict_best_lengths([record(0, 10, costs=costs), looked], range(1, 5), 1) == [2]


def test_without_acceptance_by_position_every_token_has_the_same_chance() -> None:
    costs = {"verify_s": {str(n): [1.0] for n in range(1, 18)}, "draft_s": [[0.1]]}
    long = record(16, 10)
    long = replace(long, metrics={**long.metrics, "tokens_per_verification": Metric(4.0, "tokens")})
    # α = 0.757: the gain of one more token is worth its cost of 0.1 up to about 6 tokens
    alpha = 0.7574
    known = Costs(dict.fromkeys(range(1, 18), 1.0), 0.1)
    scores = {k: known.predicted(sum(alpha**i for i in range(k + 1)), k, draft=True) for k in range(1, 17)}
    best = max(scores, key=lambda k: scores[k] or 0)
    assert predict_best_lengths([record(0, 10, costs=costs), long], range(1, 17), 1) == [best]
