"""Each metric by the function of its entry: the same as before, alone in its name, named where it is at fault."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgebench.core import EngineStart, MetricDefinition, Record, RoundData, Turn
from edgebench.judging import metrics, speculation
from edgebench.store import records

RECORDED = Path(__file__).parent.parent / "recorded" / "metrics-8818b3e.json"


@pytest.fixture(scope="module")
def recorded() -> list[Record]:
    """Records of version 8818b3e, their metrics as that version computed them."""
    return [records.from_json(one) for one in json.loads(RECORDED.read_text("utf-8"))["records"]]


def test_every_metric_of_stored_turns_is_computed_as_before(recorded: list[Record]) -> None:
    seen = set()
    for record in recorded:
        entries = metrics.for_trial(record.trial.scenario, record.trial.engine)
        for one in record.rounds:
            start = EngineStart(one.metrics["load_s"]) if one.fresh else None
            computed, faults = metrics.compute(entries, RoundData(one.turns, start=start))
            assert faults == []
            assert computed.items() <= one.metrics.items()
            seen |= computed.keys()
            missing = one.metrics.keys() - computed.keys()
            assert not {name for name in missing if name.endswith(("_tps", "ttft_s", "_cache_s")) or "itl" in name}
    assert seen >= {
        "prefill_tps", "decode_tps", "ttft_s", "engine_ttft_s", "wire_s", "itl_s_p50", "itl_s_p90", "itl_s_p99",
        "acceptance", "tokens_per_verification", "load_s", "with_cache_s", "without_cache_s", "cache_speedup",
    }  # fmt: skip


def test_every_metric_of_a_stored_sweep_is_computed_as_before(recorded: list[Record]) -> None:
    sweep = [record for record in recorded if record.trial.scenario == "speculative"]
    names = {name for name, entry in metrics.definitions().items() if entry.compute_in_sweep}

    def bare(record: Record) -> Record:
        rounds = (
            replace(one, metrics={k: v for k, v in one.metrics.items() if k not in names}) for one in record.rounds
        )
        return replace(record, rounds=tuple(rounds))

    done = speculation.complete_sweep([bare(record) for record in sweep])
    assert [[one.metrics for one in record.rounds] for record in done] == [
        [one.metrics for one in record.rounds] for record in sweep
    ]
    assert {"speedup", "predicted_speedup"} <= done[1].rounds[0].metrics.keys()


def test_a_multiple_that_was_stored_without_its_unit_is_shown_as_one(recorded: list[Record]) -> None:
    (drafted,) = (record for record in recorded if record.trial.options.get("k"))
    stored = drafted.metrics["predicted_speedup"]
    assert stored.unit == "1"
    assert metrics.unit("predicted_speedup", stored.unit) == "×"
    assert metrics.unit("of_nobody", "furlong") == "furlong"


def test_a_metric_that_cannot_be_computed_is_absent_and_named() -> None:
    broken = MetricDefinition("broken", "s", "broken", "1 ÷ 0", compute=lambda data: 1 / len(data.turns))
    whole = MetricDefinition("whole", "s", "whole", "1", compute=lambda data: 1.0)
    returned = MetricDefinition("returned", "s", "returned", "as the scenario says")
    found, faults = metrics.compute([broken, whole, returned], RoundData([], scenario_values={"returned": 2.0}))
    assert found == {"whole": 1.0, "returned": 2.0}
    assert faults == ["broken was not computed: ZeroDivisionError: division by zero"]
    assert metrics.compute([broken], RoundData([Turn()])) == ({"broken": 1.0}, [])


def test_every_metric_has_a_unit_a_title_and_a_definition() -> None:
    for entry in metrics.definitions().values():
        assert entry.unit, entry.name
        assert entry.title, entry.name
        assert entry.definition, entry.name
    assert "cache_speedup" not in {entry.name for entry in metrics.for_trial("chat", "llama.cpp")}
    assert "cache_speedup" in {entry.name for entry in metrics.for_trial("kvcache", "llama-cpp-python")}
