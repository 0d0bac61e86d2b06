"""``edgebench compare``: like with like, and a difference only where one was shown."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from lab.records import record
from lab.stores import DEFAULT, Call, fill
from rich.cells import cell_len

from edgebench.core import Failure, Record, Round, RoundNotes, Turn
from edgebench.errors import StoreError, UsageError
from edgebench.judging.comparison import Comparison, compare, find_smallest_difference
from edgebench.judging.over_rounds import over_rounds
from edgebench.views import comparison_view


def noisy(rate: float = 40.0, *, seed: int = 0, noise: float = 0.005, rounds: int = 5, **more: Any) -> Record:
    """A synthetic record whose rounds scatter around a rate."""
    chance = random.Random(seed)
    made = tuple(
        Round(i, "", {"decode_tps": rate * chance.gauss(1, noise), "ttft_s": 10 / rate * chance.gauss(1, noise)})
        for i in range(rounds)
    )
    return replace(record(**more), rounds=made, metrics=over_rounds(made))


def verdicts(result: Result) -> Mapping[str, str]:
    (one,) = json.loads(result.stdout)["comparisons"]
    return {name: finding["verdict"] for name, finding in one["metrics"].items()}


# --- verdicts ----------------------------------------------------------------------------------


def test_a_slower_run_is_worse_by_rate_and_by_latency(call: Call) -> None:
    fill(DEFAULT, noisy(40, seed=1), name="before")
    fill(DEFAULT, noisy(34, seed=2), name="after")
    result = call("compare", "before", "after", "--json")
    assert verdicts(result) == {"decode_tps": "worse", "ttft_s": "worse"}
    (one,) = json.loads(result.stdout)["comparisons"]
    rate = one["metrics"]["decode_tps"]
    assert rate["low"] < 0.85 < rate["high"] < 1
    assert one["paired"] is False
    assert verdicts(call("compare", "after", "before", "--json")) == {"decode_tps": "better", "ttft_s": "better"}


def test_the_same_twice_shows_no_difference(call: Call) -> None:
    fill(DEFAULT, noisy(40, seed=1, noise=0.05), name="before")
    fill(DEFAULT, noisy(40, seed=2, noise=0.05), name="after")
    result = call("compare", "before", "after", "--fail-above", "0.1%")
    assert result.exit_code == 0
    assert result.stdout.count("no difference shown") == 2


def test_devices_of_one_run_are_paired_by_round(call: Call) -> None:
    drift = [1.0, 0.9, 0.8, 0.7, 0.6]

    def rounds(rate: float) -> tuple[Round, ...]:
        return tuple(Round(i, "", {"decode_tps": rate * factor}) for i, factor in enumerate(drift))

    made = []
    for device, rate in (("laptop", 40.0), ("phone", 39.0)):
        kept = rounds(rate)
        made.append(replace(record(device=device), rounds=kept, metrics=over_rounds(kept)))
    fill(DEFAULT, *made)
    result = call("compare", "laptop", "phone", "--json")
    (one,) = json.loads(result.stdout)["comparisons"]
    assert one["paired"] is True
    assert one["metrics"]["decode_tps"]["ratio"] == pytest.approx(0.975)
    assert one["metrics"]["decode_tps"]["verdict"] == "worse"
    assert "paired by round" in call("compare", "laptop", "phone").stdout


def test_few_rounds_show_no_difference_however_large_it_looks(call: Call) -> None:
    fill(DEFAULT, noisy(40, rounds=3), name="before")
    fill(DEFAULT, noisy(10, rounds=3), name="after")
    result = call("compare", "before", "after", "--fail-above", "5%")
    assert result.exit_code == 2
    assert "too few rounds: 3" in result.stdout


def test_a_round_that_one_side_missed_is_left_out_of_the_pairs() -> None:
    kept = tuple(Round(i, "", {"decode_tps": 40.0 + i}) for i in range(6))
    a = replace(record(device="a"), rounds=kept, metrics=over_rounds(kept))
    some = tuple(one for one in kept if one.index != 2)
    b = replace(record(device="b"), rounds=some, metrics=over_rounds(some))
    (pair,) = compare([a], [b], "device", ["decode_tps"]).pairs
    change = pair.findings[0].change
    assert change is not None
    assert (change.ratio, change.rounds) == (1.0, 5)


def test_load_times_of_different_regimes_are_not_compared() -> None:
    def started(regime: str, seconds: float) -> Record:
        kept = tuple(
            Round(i, "", {"load_s": seconds}, fresh=True, notes=RoundNotes(load_regime=regime)) for i in range(5)
        )
        return replace(record(), rounds=kept, metrics=over_rounds(kept))

    (pair,) = compare([started("cold", 9.0)], [started("warm", 1.0)], "run", ["load_s"]).pairs
    assert pair.findings[0].change is None
    assert pair.findings[0].why == "cold against warm starts"
    assert pair.findings[0].worse == 0


# --- the exit code for CI ----------------------------------------------------------------------


def test_it_fails_only_above_the_limit(call: Call) -> None:
    fill(DEFAULT, noisy(40, seed=1), name="before")
    fill(DEFAULT, noisy(36, seed=2), name="after")
    assert call("compare", "before", "after").exit_code == 0
    assert call("compare", "before", "after", "--fail-above", "50%").exit_code == 0
    result = call("compare", "before", "after", "--fail-above", "5%")
    assert result.exit_code == 1
    assert "worse by" in result.stderr
    assert "decode rate" in result.stderr
    assert call("compare", "after", "before", "--fail-above", "5%").exit_code == 0
    assert call("compare", "before", "after", "--fail-above", "5%", "--metric", "ttft_s").exit_code == 1


def test_a_trial_that_failed_cannot_be_compared(call: Call) -> None:
    fill(DEFAULT, noisy(40), name="before")
    fill(DEFAULT, record(status="failed", failure=Failure("died")), name="after")
    result = call("compare", "before", "after", "--fail-above", "5%")
    assert result.exit_code == 2
    assert "not comparable" in result.stderr
    assert "failed: died" in result.stdout


def test_too_few_rounds_are_no_pass(call: Call) -> None:
    fill(DEFAULT, record(), name="before")
    fill(DEFAULT, record(rounds=1, metrics={"decode_tps": 20.0}), name="after")
    assert call("compare", "before", "after").exit_code == 0
    result = call("compare", "before", "after", "--fail-above", "5%")
    assert result.exit_code == 2
    assert "too few rounds for a verdict" in result.stderr
    result = call("compare", "before", "after", "--fail-above", "5%", "--metric", "load_s")
    assert result.exit_code == 2
    assert "not measured on both sides" in result.stderr


def test_a_long_list_of_differences_is_cut(call: Call) -> None:
    fill(DEFAULT, record(), name="before")
    other = record(model="m" * 90, quantization="Q8_0", options={"ctx": 4096, "threads": 2, "batch": 8})
    fill(DEFAULT, other, name="after")
    with pytest.raises(UsageError, match="2 more") as caught:
        call("compare", "before", "after")
    assert "m" * 41 not in str(caught.value)


@pytest.mark.parametrize(
    ("limit", "near"), [("5", "Did you mean 5%?"), ("x", "Write it as 5%"), ("-3%", "Write it"), ("", "Write")]
)
def test_a_limit_is_a_percentage(call: Call, limit: str, near: str) -> None:
    result = call("compare", "a", "b", "--fail-above", limit)
    assert result.exit_code == 2
    assert near in result.stderr


def test_an_unknown_metric_is_named_with_the_near_one(call: Call) -> None:
    with pytest.raises(UsageError, match="unknown metric 'decode_tsp'") as caught:
        call("compare", "a", "b", "--metric", "decode_tsp")
    assert caught.value.hint == "Did you mean decode_tps?"


# --- like with like ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"options": {"ctx": 8192}}, "option ctx: 2048 vs. 8192"),
        ({"options": {"ctx": 2048, "threads": 4}}, "option threads: unknown vs. 4"),
        ({"scenario": "chat"}, "scenario: throughput vs. chat"),
        ({"model": "other"}, "model sha256"),
        ({"quantization": "F16"}, "quantization: Q4_1 vs. F16"),
        ({"backend": "cuda"}, "backend: cpu vs. cuda"),
        ({"backend": "cpu", "used": "vulkan"}, "backend: cpu vs. vulkan"),
        ({"device": "phone"}, "device: synthetic-laptop vs. phone"),
    ],
)
def test_what_is_not_alike_is_not_compared_and_it_says_why(call: Call, changed: dict[str, Any], says: str) -> None:
    fill(DEFAULT, noisy(), name="before")
    fill(DEFAULT, noisy(**changed), name="after")
    with pytest.raises(UsageError, match="no comparable trials") as caught:
        call("compare", "before", "after")
    assert says in str(caught.value)
    assert caught.value.exit_code == 2


def test_between_devices_only_the_device_may_differ(call: Call) -> None:
    fill(DEFAULT, noisy(device="laptop"), noisy(device="phone", options={"ctx": 8192}))
    with pytest.raises(UsageError, match="option ctx"):
        call("compare", "laptop", "phone")


def test_devices_without_a_setting_in_common_are_compared_at_their_fastest(call: Call) -> None:
    laptop = [noisy(rate, device="laptop", options={"ctx": 2048, "threads": n}) for n, rate in ((8, 40.0), (16, 30.0))]
    phone = noisy(10.0, device="phone", backend="opencl", options={"ctx": 2048, "threads": 4})
    fill(DEFAULT, *laptop, phone)
    text = call("compare", "laptop", "phone").stdout
    assert "device laptop, backend cpu, threads 8\n" in text
    assert "device phone, backend opencl, threads 4\n" in text
    assert "only in" not in text
    (one,) = json.loads(call("compare", "laptop", "phone", "--json").stdout)["comparisons"]
    assert one["differs"] == {"device": ["laptop", "phone"], "backend": ["cpu", "opencl"], "option threads": ["8", "4"]}
    alike = noisy(15.0, device="phone", options={"ctx": 2048, "threads": 16})
    fill(DEFAULT, alike)
    text = call("compare", "laptop", "phone").stdout
    assert "threads 16\nA: " in text  # what was done the same way on both comes first


def test_two_results_are_compared_however_the_same_work_was_done(call: Call) -> None:
    one, two, other = fill(
        DEFAULT,
        *(noisy(10.0 * n, seed=n, options={"ctx": 2048, "threads": n}) for n in (1, 2)),
        noisy(options={"ctx": 4096}),
    )
    text = call("compare", one.id, two.id).stdout
    assert f"A: {one.id}, threads 1\n" in text
    assert "better" in text
    with pytest.raises(UsageError, match="the closest pair differs in option ctx: 2048 vs"):
        call("compare", one.id, other.id)


def test_engines_are_compared_across_their_forms_of_the_model_and_it_is_said() -> None:
    a = noisy(40, engine="llama.cpp")
    facts = {"model": {"sha256": "f" * 64, "quantization": "q4f16_1"}, "engine": {"backend": "opencl", "build": "9"}}
    b = noisy(50, engine="mlc-llm", backend="opencl", facts=facts)
    (pair,) = compare([a], [b], "engine").pairs
    assert pair.differs["quantization"] == ("Q4_1", "q4f16_1")
    assert pair.differs["engine build"] == ("b0", "9")
    assert find_smallest_difference([a], [b], "run").keys() >= {"engine", "model sha256", "quantization", "backend"}


def test_a_chat_whose_engine_keeps_nothing_is_not_the_same_work_and_it_is_said() -> None:
    kept = record(run="r", scenario="chat", turns=[Turn(label="1"), Turn(label="2", cached_tokens=90)])
    again = record(
        run="r",
        scenario="chat",
        engine="mlc-llm",
        turns=[Turn(label="1"), Turn(label="2")],
    )
    (pair,) = compare([kept], [again], "engine").pairs
    assert pair.differs["earlier turns"] == ("kept in the cache", "evaluated again")
    (pair,) = compare([kept], [kept], "run").pairs
    assert "earlier turns" not in pair.differs


def test_what_has_no_counterpart_is_listed(call: Call) -> None:
    fill(DEFAULT, noisy(options={"threads": 1}), noisy(options={"threads": 2}), name="before")
    fill(DEFAULT, noisy(options={"threads": 2}), noisy(options={"threads": 8}), name="after")
    text = call("compare", "before", "after").stdout
    assert "only in A:" in text
    assert "only in B:" in text
    assert "threads 8" in text.splitlines()[-1]
    fill(DEFAULT, *(noisy(options={"threads": n}) for n in range(1, 10)), name="after")
    assert call("compare", "before", "after").stdout.splitlines()[-1] == "only in B: 2 more; --json lists all"


def test_no_change_is_less_than_none() -> None:
    a = noisy(40.0)
    (pair,) = compare([a], [replace(a, id="b")], "run").pairs
    (decode,) = [one for one in pair.findings if one.name == "decode_tps"]
    assert decode.change
    least = replace(pair, findings=(replace(decode, change=replace(decode.change, ratio=0.99999, low=0.99998)),))
    assert "-0.0" not in comparison_view.text(Comparison((least,), (), ()))


# --- what A and B may be -----------------------------------------------------------------------


def test_results_by_the_beginning_of_their_ids(call: Call) -> None:
    (a,) = fill(DEFAULT, noisy(40))
    (b,) = fill(DEFAULT, noisy(40))
    assert f"A: {a.id}" in call("compare", a.id, b.id).stdout
    assert f"A: {a.id}" in call("compare", f"record:{a.id[:11]}", b.id).stdout


def test_the_newest_run_of_a_name_is_meant(call: Call) -> None:
    fill(DEFAULT, noisy(10), name="nightly")
    (newest,) = fill(DEFAULT, noisy(40), name="nightly")
    (other,) = fill(DEFAULT, noisy(40), name="other")
    text = call("compare", "nightly", other.run["id"]).stdout
    assert f"A: {newest.id}, run nightly" in text


def test_two_stores(call: Call, tmp_path: Path) -> None:
    fill(tmp_path / "a b.sqlite", noisy(40, seed=1))
    fill(tmp_path / "other", noisy(20, seed=2))
    assert verdicts(call("compare", "a b.sqlite", tmp_path / "other", "--json"))["decode_tps"] == "worse"
    with pytest.raises(StoreError, match="does not exist"):
        call("compare", "store:missing", "store:other")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(StoreError):
        call("compare", "text", "other")


def test_a_store_and_a_run(call: Call, tmp_path: Path) -> None:
    fill(tmp_path / "old.sqlite", noisy(40, seed=1))
    fill(DEFAULT, noisy(20, seed=2), name="new")
    assert verdicts(call("compare", "old.sqlite", "new", "--json"))["decode_tps"] == "worse"


def test_builds_of_an_engine(call: Call) -> None:
    for build, rate in (("b100", 40), ("b200", 60)):
        facts = noisy().facts.document()
        facts["engine"] = {"build": build, "backend": "cpu"}
        fill(DEFAULT, noisy(rate, seed=rate, facts=facts))
    result = call("compare", "b100", "b200")
    assert "also differs: engine build: b100 → b200" in result.stdout
    assert "better" in result.stdout


def test_backends(call: Call) -> None:
    layers = {"ctx": 2048, "gpu_layers": "all"}
    fill(DEFAULT, noisy(40, seed=1), noisy(80, seed=2, backend="cuda", options=layers))
    assert verdicts(call("compare", "cpu", "cuda", "--json"))["decode_tps"] == "better"


def test_words_that_mean_nothing_two_things_or_the_same(call: Call) -> None:
    with pytest.raises(UsageError, match="no results to compare yet"):
        call("compare", "a", "b")
    fill(DEFAULT, noisy(device="laptop"), name="phone")
    fill(DEFAULT, noisy(device="phone"), name="laptop")
    with pytest.raises(UsageError, match="'tablet' matches no run"):
        call("compare", "tablet", "phone")
    with pytest.raises(UsageError, match="ambiguous") as caught:
        call("compare", "laptop", "phone")
    assert "device:laptop device:phone, or run:laptop run:phone" in caught.value.hint
    assert call("compare", "device:laptop", "device:phone").exit_code == 0
    with pytest.raises(UsageError, match="cannot compare different things"):
        call("compare", "cpu", "device:laptop")
    with pytest.raises(UsageError, match="the same backend"):
        call("compare", "cpu", "cpu")


@pytest.mark.parametrize("width", [80, 100])
def test_it_fits_the_terminal(width: int) -> None:
    names = {"peak_footprint_b": 3e8, "load_s": 1.234, "decode_tps": 40.1, "ttft_s": 0.1234, "prefill_tps": 456.0}
    rounds = tuple(Round(i, "", {name: value * (1 + i / 100) for name, value in names.items()}) for i in range(3))
    sides = [
        replace(record(device=device, backend="vulkan", options={"ctx": 2048}, doubts=doubts), rounds=rounds)
        for device, doubts in (("rog-m16-windows", ("steal", "spread", "few-rounds", "other-load")), ("oneplus11", ()))
    ]
    sides = [replace(one, metrics=over_rounds(one.rounds), run={"id": one.id, "name": "before"}) for one in sides]
    other = record(device="b", model="another-model-with-a-rather-long-name", options={"ctx": 2048, "threads": 14})
    text = comparison_view.text(compare([*sides[:1], other], sides[1:], "device"), width=width)
    assert max(map(cell_len, text.splitlines())) <= width
    words = " ".join(text.split())
    for part in ("memory footprint", "tokens/s", "+0.0 %", "rog-m16-windows", "other-load", "threads 14"):
        assert part in words
    assert words.count("too few") == 4
