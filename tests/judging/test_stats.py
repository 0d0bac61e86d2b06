"""Statistics against known distributions; doubts; the glossary that is made from the code."""

from __future__ import annotations

import json
import math
import random
import runpy
import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab.paths import ROOT
from lab.records import record

from edgebench.core import Doubt, Facts, Metric, Record, Round, RoundNotes, Throttling, Turn
from edgebench.judging import doubts, judge, metrics, stats
from edgebench.judging.over_rounds import over_rounds
from edgebench.judging.steadiness import assess

readings = st.lists(st.floats(0.001, 1e9), min_size=1, max_size=12)


# --- medians and intervals ---------------------------------------------------------------------


@given(readings)
def test_the_median_lies_in_its_interval_and_the_interval_in_the_rounds(values: list[float]) -> None:
    one = stats.summarise(values, "s")
    assert one.value == pytest.approx(statistics.median(values))
    if len(values) == 1:
        assert one.low is one.high is one.iqr is None
    else:
        assert one.low is not None
        assert one.high is not None
        assert min(values) <= one.low <= one.value * (1 + 1e-12)
        assert one.value * (1 - 1e-12) <= one.high <= max(values)


@given(readings, st.randoms())
def test_the_interval_does_not_depend_on_order_or_chance(values: list[float], chance: random.Random) -> None:
    shuffled = list(values)
    chance.shuffle(shuffled)
    assert stats.interval(shuffled) == stats.interval(values)


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_few_rounds_cover_what_their_note_says(n: int) -> None:
    chance = random.Random(n)
    hits = 0
    for _ in range(2000):
        low, high = stats.interval([chance.gauss(0, 1) for _ in range(n)]) or (1.0, 0.0)
        hits += low <= 0 <= high
    assert hits / 2000 == pytest.approx(stats.coverage(n), abs=0.035)
    note = stats.summarise([float(i) for i in range(n)], "s").note
    assert (f"{stats.coverage(n):.0%}" in note) == (n < stats.FEW)


def test_rounds_without_a_reading_are_kept_and_not_counted() -> None:
    one = stats.summarise([1.0, None, math.nan, 3.0, math.inf], "s")
    assert one.rounds == (1.0, None, None, 3.0, None)
    assert one.value == 2.0
    with pytest.raises(ValueError, match="no round"):
        stats.summarise([None, math.nan], "s")


@given(readings, st.floats(0, 1))
def test_percentiles(values: list[float], share: float) -> None:
    assert min(values) <= stats.percentile(values, share) <= max(values)
    assert stats.percentile(values, 0) == min(values)
    assert stats.percentile(values, 1) == max(values)


def test_many_rounds_are_no_trouble() -> None:
    chance = random.Random(1)
    low, high = stats.interval([chance.gauss(100, 5) for _ in range(400)]) or (0.0, 0.0)
    assert 98 < low < 100 < high < 102


# --- comparison --------------------------------------------------------------------------------


@given(st.lists(st.floats(1, 1e6), min_size=5, max_size=10), st.floats(0.1, 10).filter(lambda x: abs(x - 1) > 1e-6))
def test_a_pure_factor_between_pairs_is_found_exactly(values: list[float], factor: float) -> None:
    change = stats.compare_paired(values, [value * factor for value in values])
    assert change is not None
    assert change.ratio == pytest.approx(factor)
    assert change.verdict == ("higher" if factor > 1 else "lower")


def test_pairing_removes_what_both_sides_share() -> None:
    chance = random.Random(3)
    drift = [1 - 0.05 * i for i in range(6)]
    a = [100 * d * chance.gauss(1, 0.002) for d in drift]
    b = [103 * d * chance.gauss(1, 0.002) for d in drift]
    together, apart = stats.compare_paired(a, b), stats.compare_unpaired(a, b)
    assert together is not None
    assert apart is not None
    assert together.verdict == "higher"
    assert together.ratio == pytest.approx(1.03, abs=0.01)
    assert apart.verdict == "no difference shown"


@pytest.mark.parametrize("compare", [stats.compare_paired, stats.compare_unpaired])
@pytest.mark.parametrize("n", [2, 3, 5, 8, 12])
def test_equal_things_are_rarely_called_different(compare: object, n: int) -> None:
    chance = random.Random(n)
    wrong = 0
    for _ in range(300):
        a = [100 * math.exp(0.05 * chance.gauss(0, 1)) for _ in range(n)]
        b = [100 * math.exp(0.05 * chance.gauss(0, 1)) for _ in range(n)]
        wrong += compare(a, b).verdict != "no difference shown"
    # Five pairs all to one side happen by chance in one case of sixteen.
    assert wrong / 300 < 0.11


def test_a_real_difference_between_runs_is_found() -> None:
    chance = random.Random(5)
    a = [100 * chance.gauss(1, 0.01) for _ in range(5)]
    b = [90 * chance.gauss(1, 0.01) for _ in range(5)]
    change = stats.compare_unpaired(a, b)
    assert change is not None
    assert change.verdict == "lower"
    assert change.low is not None
    assert change.high is not None
    assert change.low < 0.9 < change.high < 1


def test_nothing_to_compare() -> None:
    assert stats.compare_paired([1.0, None], [None, 2.0]) is None
    assert stats.compare_unpaired([], [1.0]) is None
    alone = stats.compare_paired([1.0], [2.0])
    assert alone is not None
    assert alone.verdict == "no difference shown"


# --- a device that warms up --------------------------------------------------------------------


def _heating(order: list[int], *, chance: random.Random) -> list[float]:
    """Rates of identical configurations on a device that warms by each trial and throttles smoothly."""
    heat, rates = 0.0, []
    for _ in order:
        heat = 0.8 * heat + 1
        rates.append(50 * (1 - 0.06 * heat) * chance.gauss(1, 0.002))
    return rates


def test_block_randomised_rounds_remove_the_drift_of_a_heating_device() -> None:
    rounds = 6
    chance = random.Random(7)
    one_after_another = [0] * rounds + [1] * rounds
    blocks = [index for _ in range(rounds) for index in chance.sample([0, 1], 2)]
    shifts = {}
    for name, order in (("in turn", one_after_another), ("blocks", blocks)):
        rates = _heating(order, chance=chance)
        a, b = ([rate for rate, index in zip(rates, order, strict=True) if index == wanted] for wanted in (0, 1))
        change = stats.compare_paired(a, b)
        assert change is not None
        shifts[name] = change
    assert shifts["in turn"].ratio < 0.95
    assert shifts["in turn"].verdict == "lower"
    assert shifts["blocks"].ratio == pytest.approx(1, abs=0.03)
    assert shifts["blocks"].verdict == "no difference shown"


# --- steadiness --------------------------------------------------------------------------------


def _series(rate: object, seconds: int) -> tuple[list[float], list[float]]:
    times = [float(second) for second in range(seconds)]
    return times, [rate(at) for at in times]


def test_a_rate_that_settles() -> None:
    found = assess(*_series(lambda at: 30 + 20 * math.exp(-at / 40), 360))
    assert found is not None
    assert found.burst > 40
    assert found.sustained == pytest.approx(30, rel=0.01)


def test_a_rate_that_never_settles_is_not_given_a_sustained_value() -> None:
    found = assess(*_series(lambda at: 50 * math.exp(-at / 600), 300))
    assert found is not None
    assert found.sustained is None
    assert found.slope is not None
    assert found.slope.state == "changing"
    assert found.slope.value == pytest.approx(-0.05, rel=0.1)


def test_a_series_too_short_to_tell() -> None:
    found = assess(*_series(lambda at: 50.0, 60))
    assert found is not None
    assert (found.burst, found.sustained, found.slope) == (50.0, None, None)
    assert assess([], []) is None


def _states(fall: float, scatter: float, correlation: float = 0.0, times: int = 200) -> Counter[str]:
    """How often each answer is given for a rate that falls by a share in 30 s, with noise of lag-1 autocorrelation."""
    chance = random.Random(3)
    answers: Counter[str] = Counter()
    for _ in range(times):
        noise = [0.0]
        for _ in range(130):
            noise.append(correlation * noise[-1] + chance.gauss(0, scatter * math.sqrt(1 - correlation**2)))
        found = assess(*_series(lambda at, noise=noise: 40 * (1 - fall * at / 30) * (1 + noise[int(at) + 1]), 130))
        assert found is not None
        assert found.slope is not None
        answers[found.slope.state] += 1
    return answers


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.8])
@pytest.mark.parametrize("scatter", [0.01, 0.02, 0.08])
def test_at_the_margin_neither_answer_is_given_often(scatter: float, correlation: float) -> None:
    # The slope is relative to the mean of the last windows, which lies a little below the start.
    answers = _states(0.0098, scatter, correlation)
    assert answers["settled"] <= 0.12 * 200
    assert answers["changing"] <= 0.12 * 200


def test_a_level_rate_is_settled_where_the_noise_allows_and_unknown_where_not() -> None:
    assert _states(0.0, 0.02)["settled"] >= 0.9 * 200
    loud = _states(0.0, 0.08)
    assert loud["settled"] == 0
    assert loud["uncertain"] >= 0.9 * 200


def test_a_fall_shows_through_noise() -> None:
    assert _states(0.05, 0.04)["changing"] >= 0.95 * 200
    assert _states(0.05, 0.08, 0.8)["settled"] == 0


# --- rounds into metrics -----------------------------------------------------------------------


def _round(index: int, fresh: bool = False, regime: str = "warm", **figures: float) -> Round:
    return Round(index, "", figures, fresh=fresh, notes=RoundNotes(load_regime=regime) if fresh else RoundNotes())


def test_load_times_count_only_for_fresh_starts_of_one_regime() -> None:
    rounds = [
        _round(0, True, "first", load_s=9.0, decode_tps=50.0),
        _round(1, True, load_s=1.0, decode_tps=51.0),
        _round(2, load_s=5.0, decode_tps=52.0),
        _round(3, True, load_s=1.2, decode_tps=53.0),
    ]
    found = over_rounds(rounds)
    assert found["load_s"].rounds == (None, 1.0, None, 1.2)
    assert found["load_s"].note.startswith("warm")
    assert found["decode_tps"].rounds == (50.0, 51.0, 52.0, 53.0)
    assert found["decode_tps"].unit == "tokens/s"


def test_rounds_come_in_their_order_and_gaps_stay_gaps() -> None:
    found = over_rounds([_round(2, decode_tps=3.0), _round(0, decode_tps=1.0), _round(1, ttft_s=math.nan)])
    assert found["decode_tps"].rounds == (1.0, None, 3.0)
    assert "ttft_s" not in found


# --- doubts ------------------------------------------------------------------------------------


def _judged(figures: dict[str, list[float | None]], **more: object) -> list[str]:
    made = {name: stats.summarise(values, metrics.find(name).unit) for name, values in figures.items()}
    base: Record = replace(record(), metrics=made, **more)
    return [doubt.id for doubt in judge.judge(base)]


STEADY: list[float | None] = [100.0, 101.0, 99.0, 100.5, 99.5]


@pytest.mark.parametrize(
    ("figures", "id"),
    [
        ({"decode_tps": [100.0, 100.0, 100.0, 100.0, 150.0]}, "spread"),
        ({"decode_tps": [100.0, 101.0]}, "few-rounds"),
        ({"decode_tps": [*STEADY, None]}, "missing-rounds"),
        ({"decode_tps": STEADY, "steal": [0.0, 0.02, 0.02, 0.0, 0.02]}, "steal"),
        ({"decode_tps": STEADY, "steal": [0.0, 0.0, 0.05, 0.0, 0.0]}, "steal"),
        ({"decode_tps": STEADY, "other_load": [0.0, 0.3, 0.0, 0.0, 0.0]}, "other-load"),
        ({"decode_tps": STEADY, "peak_rss_b": [1e8] * 5, "peak_swap_b": [0.0, 0.0, 0.0, 2e6, 0.0]}, "swap"),
        ({"decode_tps": STEADY, "throttled": [0.0, 0.0, 0.0, 0.5, 1.0]}, "throttled"),
        ({"decode_tps": STEADY, "mbu": [0.9, 1.1, 0.9, 0.9, 0.9]}, "mbu-above-one"),
    ],
)
def test_each_disturbance_is_named(figures: dict[str, list[float | None]], id: str) -> None:
    assert _judged(figures) == [id]


def test_a_spread_is_told_of_what_readers_know() -> None:
    spread: list[float | None] = [100.0, 100.0, 100.0, 100.0, 150.0, None]
    made = {"decode_tps": stats.summarise(spread, "tokens/s")}
    found = [doubt.detail for doubt in judge.judge(replace(record(), metrics=made))]
    assert found == ["decode rate by 22% over 5 rounds", "decode rate: 5 of 6 rounds"]


def test_steady_rounds_are_not_doubted() -> None:
    quiet: list[float | None] = [0.0] * 5
    once: list[float | None] = [0.0, 0.0, 0.03, 0.0, 0.0]
    cold: list[float | None] = [65536.0] * 5
    assert _judged({"decode_tps": STEADY, "steal": once, "other_load": [0.15, 0.0, 0.01, 0.01, 0.02]}) == []
    assert _judged({"decode_tps": STEADY, "peak_rss_b": [1e8] * 5, "peak_swap_b": cold}) == []
    assert _judged({"decode_tps": STEADY, "steal": quiet, "peak_swap_b": quiet, "load_s": [1.0, None, None]}) == []


def test_throttling_names_what_did_it() -> None:
    notes = RoundNotes(throttling=(Throttling(1.0, "gpu 0: hardware slowdown"),))
    rounds = (Round(0, "", {}, notes=notes), Round(1, "", {}, notes=notes))
    made = {"throttled": stats.summarise([0.5, 0.25], "ratio")}
    (found,) = judge.judge(replace(record(), metrics=made, rounds=rounds))
    assert found.detail == "up to 50% of the time in a round, by gpu 0: hardware slowdown"


def test_a_backend_other_than_asked_for_is_a_doubt_once() -> None:
    found = judge.judge(record(backend="cuda", used="cpu"))
    assert [doubt.id for doubt in found] == ["backend-mismatch"]
    assert found[0].detail == "requested cuda, used cpu"
    assert judge.judge(replace(record(backend="cuda", used="cpu"), doubts=found)) == found


def test_arrival_times_are_a_doubt_where_gaps_are_shown() -> None:
    turns = (Round(0, "", {}, (Turn(token_clock="arrival"),)),)
    gaps: dict[str, list[float | None]] = {"itl_s_p50": STEADY}
    assert _judged(gaps, rounds=turns) == ["arrival-clock"]
    assert _judged({"decode_tps": STEADY}, rounds=turns) == []


def test_load_regimes_that_came_together_are_a_doubt() -> None:
    mixed = (_round(0, True, "first"), _round(1, True, "warm"))
    assert _judged({"decode_tps": STEADY}, rounds=mixed) == ["load-regime-mixed"]


def test_the_list_of_doubts_is_closed() -> None:
    assert doubts.new_doubt("steal", "x") == Doubt("steal", "x")
    with pytest.raises(KeyError):
        doubts.new_doubt("bad-feeling")
    assert all(kind.meaning and kind.remedy for kind in doubts.DOUBT_TYPES.values())


# --- metrics and the documents made from the code ----------------------------------------------


def test_headline_metrics_are_one_list_with_a_direction() -> None:
    names = [entry.name for entry in metrics.headline()]
    assert names[:6] == ["peak_footprint_b", "load_s", "decode_tps", "s_per_token", "ttft_s", "prefill_tps"]
    assert all(entry.better != "none" for entry in metrics.headline())


def test_a_multiple_has_the_unit_of_one() -> None:
    """Whatever is called a speed-up is a multiple: it is never shown in per cent."""
    multiples = {name for name in metrics.definitions() if "speedup" in name}
    assert multiples == {"speedup", "predicted_speedup", "cache_speedup"}
    assert {metrics.find(name).unit for name in multiples} == {"×"}


def test_a_metric_of_a_probe_has_the_probes_unit() -> None:
    assert metrics.find("peak_rss_b").unit == "bytes"
    assert metrics.find("nobody_knows").unit == ""


def _documents() -> dict[str, str]:
    made = runpy.run_path(str(ROOT / "docs" / "generate.py"))["DOCUMENTS"]
    return {name: text() for name, text in made.items()}


@pytest.mark.parametrize("name", list(_documents()))
def test_documents_made_from_the_code_are_up_to_date(name: str) -> None:
    assert (ROOT / "docs" / name).read_text("utf-8") == _documents()[name], "run: python docs/generate.py"


def test_a_metric_is_what_the_schema_says() -> None:
    schema = json.loads((ROOT / "docs/schemas/records.json").read_text("utf-8"))
    assert set(schema["$defs"]["Metric"]["required"]) == set(Metric.__dataclass_fields__)


def test_a_generation_that_ended_before_its_time_is_a_doubt() -> None:
    short = (Round(0, "", {}, (Turn(label="tg128", requested_tokens=128, completion_tokens=90),)),)
    assert _judged({"decode_tps": STEADY}, rounds=short) == ["stopped-early"]
    natural = (Round(0, "", {}, (Turn(label="turn 1", completion_tokens=90),)),)
    assert _judged({"decode_tps": STEADY}, rounds=natural) == []


def test_layers_left_on_the_cpu_are_a_doubt() -> None:
    facts = Facts.from_document({"engine": {"backend": "cuda", "layers_offloaded": 20, "layers": 33}})
    base = replace(record(backend="cuda", used="cuda"), facts=facts)
    found = judge.judge(replace(base, trial=replace(base.trial, options={"gpu_layers": "all"})))
    assert [(doubt.id, doubt.detail) for doubt in found] == [("backend-mismatch", "20 of 33 layers are on cuda")]
    assert judge.judge(replace(base, trial=replace(base.trial, options={"gpu_layers": 20}))) == ()


@pytest.mark.parametrize("compare", [stats.compare_paired, stats.compare_unpaired])
def test_a_ratio_larger_than_any_number_is_infinite(compare: Callable[..., Any]) -> None:
    change = compare([5e-324] * 6, [1e300] * 6)
    assert (change.ratio, change.low, change.high) == (math.inf, math.inf, math.inf)
    back = compare([1e300] * 6, [5e-324] * 6)
    assert (back.ratio, back.low, back.high) == (0, 0, 0)
