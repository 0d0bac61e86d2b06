"""Order-statistic intervals: exact distributions, and coverage, size and power in simulation."""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgebench.judging import intervals, stats

samples = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=12)


def test_signed_rank_counts_are_those_of_every_combination_of_signs() -> None:
    for n in (1, 2, 5, 8):
        sums = Counter(sum(itertools.compress(range(1, n + 1), signs)) for signs in itertools.product((0, 1), repeat=n))
        assert intervals._signed_rank_counts(n) == tuple(sums[i] for i in range(n * (n + 1) // 2 + 1))


@pytest.mark.parametrize(("n", "m"), [(1, 4), (2, 3), (3, 3), (4, 5)])
def test_rank_sum_counts_are_those_of_every_order(n: int, m: int) -> None:
    inversions: Counter[int] = Counter()
    for places in itertools.combinations(range(n + m), n):
        others = [place for place in range(n + m) if place not in places]
        inversions[sum(other < place for place in places for other in others)] += 1
    assert intervals._rank_sum_counts(n, m) == tuple(inversions[i] for i in range(n * m + 1))


@given(samples)
def test_estimates_lie_in_their_intervals_and_the_intervals_in_the_range(values: list[float]) -> None:
    for interval in (intervals.median_interval(values), intervals.paired_shift_interval(values)):
        assert interval is not None
        assert min(values) <= interval.low <= interval.estimate + 1e-6
        assert interval.estimate - 1e-6 <= interval.high <= max(values)


@given(samples, samples)
def test_a_shift_changes_its_sign_with_the_sides(a: list[float], b: list[float]) -> None:
    one, other = intervals.shift_interval(a, b), intervals.shift_interval(b, a)
    assert one is not None
    assert other is not None
    assert one.estimate == pytest.approx(-other.estimate, abs=1e-6)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=1e-6)


@given(st.lists(st.floats(0.01, 1e6), min_size=2, max_size=10), st.floats(0.01, 100))
def test_ratios_do_not_depend_on_the_unit(values: list[float], unit: float) -> None:
    scaled = [value * unit for value in values]
    change, in_unit = stats.compare_unpaired(values, values[::-1]), stats.compare_unpaired(scaled, scaled[::-1])
    assert change is not None
    assert in_unit is not None
    assert in_unit.ratio == pytest.approx(change.ratio)
    assert in_unit.low == pytest.approx(change.low)


def test_widths_fall_with_every_round_from_five_on() -> None:
    chance = random.Random(2)
    widths = []
    for n in range(5, 13):
        drawn = [intervals.median_interval([chance.gauss(0, 1) for _ in range(n)]) for _ in range(1500)]
        widths.append(statistics.fmean(one.high - one.low for one in drawn if one))
    assert widths == sorted(widths, reverse=True)


SHAPES: dict[str, Callable[[random.Random], float]] = {
    "normal": lambda chance: chance.gauss(0, 1),
    "lognormal": lambda chance: math.exp(chance.gauss(0, 0.5)) - 1,
    "bursts": lambda chance: chance.gauss(0, 5 if chance.random() < 0.1 else 1),
    "skewed": lambda chance: math.log(2) - chance.expovariate(1),
}
ERROR = 0.012
"""Three standard errors of a share of 5 % in 3,000 draws."""


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n", [5, 6, 7, 8, 10, 15, 25])
def test_the_interval_of_a_median_covers_what_it_says(shape: str, n: int) -> None:
    chance, draw = random.Random(n), SHAPES[shape]
    hits = 0
    for _ in range(3000):
        interval = intervals.median_interval([draw(chance) for _ in range(n)])
        hits += interval is not None and interval.low <= 0 <= interval.high
    assert hits / 3000 == pytest.approx(0.9375 if n == 5 else 0.95, abs=ERROR)


@pytest.mark.parametrize("shape", ["normal", "lognormal", "bursts"])
@pytest.mark.parametrize("n", [5, 6, 7, 8, 10])
def test_equal_things_are_called_different_in_one_case_of_twenty(shape: str, n: int) -> None:
    chance, draw = random.Random(n), SHAPES[shape]
    paired = unpaired = 0
    for _ in range(3000):
        a, b = ([100 * math.exp(0.05 * draw(chance)) for _ in range(n)] for _ in range(2))
        for change, is_paired in ((stats.compare_paired(a, b), True), (stats.compare_unpaired(a, b), False)):
            differs = change is not None and change.verdict != "no difference shown"
            paired, unpaired = paired + (differs and is_paired), unpaired + (differs and not is_paired)
    assert paired / 3000 == pytest.approx(0.0625 if n == 5 else 0.05, abs=0.015)
    assert unpaired / 3000 == pytest.approx(0.05, abs=0.015)


def test_a_change_of_two_spreads_is_seen_in_most_runs_of_eight_rounds() -> None:
    chance = random.Random(8)
    seen = 0
    for _ in range(500):
        a, b = ([math.exp(shift + 0.05 * chance.gauss(0, 1)) for _ in range(8)] for shift in (0.0, 0.1))
        change = stats.compare_unpaired(a, b)
        seen += change is not None and change.verdict == "higher"
    assert seen / 500 > 0.9
