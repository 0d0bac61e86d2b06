"""``edgebench.compare`` takes names as the command line does, records, and one of each."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from lab.records import record
from lab.stores import fill

import edgebench
from edgebench.api.sides import Side
from edgebench.judging.over_rounds import over_rounds


def measured(rate: float, **more: str) -> edgebench.Record:
    """A synthetic record whose rounds scatter a little around a rate."""
    chance = random.Random(rate)
    rounds = tuple(edgebench.Round(i, "", {"decode_tps": rate * chance.gauss(1, 0.005)}) for i in range(5))
    return replace(record(**more), rounds=rounds, metrics=over_rounds(rounds))  # type: ignore[arg-type]


def verdicts(comparison: edgebench.Comparison) -> dict[str, str]:
    (pair,) = comparison.pairs
    return {one.name: one.change.verdict for one in pair.findings if one.change}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with a run \"before\" and a slower one \"after\", not at the default path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGEBENCH_STORE", raising=False)
    path = tmp_path / "a store.sqlite"
    fill(path, measured(40), name="before")
    fill(path, measured(30), name="after")
    return path


def test_names_of_runs_and_ids_of_records_are_looked_up_in_the_store(store: Path) -> None:
    assert verdicts(edgebench.compare("before", "after", store=store)) == {"decode_tps": "lower"}
    assert verdicts(edgebench.compare("run:after", "before", store=str(store))) == {"decode_tps": "higher"}
    before, after = edgebench.load(store)
    for a, b in (
        (before.id, after.id),
        (before.run["id"], after.run["id"]),
        (before, after),
        ([before], [after]),
        ("before", edgebench.load(store, runs="after")),
        (before, "after"),
    ):
        assert verdicts(edgebench.compare(a, b, store=store)) == {"decode_tps": "lower"}


def test_the_default_store_is_that_of_the_command_line(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(edgebench.StoreError, match="does not exist"):
        edgebench.compare("before", "after")
    monkeypatch.setenv("EDGEBENCH_STORE", str(store))
    assert verdicts(edgebench.compare("before", "after")) == {"decode_tps": "lower"}


def test_store_files_and_records_need_no_default_store(store: Path, tmp_path: Path) -> None:
    fill(tmp_path / "other.sqlite", measured(80))
    assert verdicts(edgebench.compare(store, tmp_path / "other.sqlite")) == {"decode_tps": "higher"}
    assert verdicts(edgebench.compare(edgebench.load(store, runs="after"), "store:other.sqlite")) == {
        "decode_tps": "higher"
    }


def test_metrics_and_the_axis_are_the_callers_choice(store: Path) -> None:
    fill(store, measured(40, device="laptop"), measured(20, device="phone"))
    comparison = edgebench.compare("laptop", "phone", store=store, metrics=["decode_tps"])
    assert [one.name for pair in comparison.pairs for one in pair.findings] == ["decode_tps"]
    with pytest.raises(edgebench.UsageError, match="closest pair differs in device: laptop vs"):
        edgebench.compare("laptop", "phone", store=store, axis="engine")


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ("befor", "after", "'befor' matches no run, result, device"),
        ("before", "before", "'before' and 'before' are the same run"),
        ("before", "cpu", "cannot compare different things: 'before' is a run and 'cpu' is a backend"),
        ("before", [], "'b' has no results to compare"),
        ([], "before", "'a' has no results to compare"),
        ("before", 7, "compare takes names or records, not 7"),
        ("before", ["after"], r"compare takes names or records, not \['after'\]"),
        ("before", [record(scenario="chat")], "closest pair differs in scenario: throughput vs. chat"),
    ],
)
def test_sides_that_make_no_sense_are_the_errors_of_the_command_line(
    store: Path, a: Side, b: edgebench.Side, words: str
) -> None:
    with pytest.raises(edgebench.UsageError, match=words):
        edgebench.compare(a, b, store=store)


def test_unknown_metrics_and_axes_are_refused_with_what_there_is(store: Path) -> None:
    with pytest.raises(edgebench.UsageError, match="unknown metric 'decode_tsp'") as typo:
        edgebench.compare("before", "after", store=store, metrics=["decode_tsp"])
    assert typo.value.hint == "Did you mean decode_tps?"
    with pytest.raises(edgebench.UsageError, match="axis must be one of run, store, record, device"):
        edgebench.compare("before", "after", store=store, axis="colour")  # type: ignore[arg-type]
