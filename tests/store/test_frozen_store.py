"""A store of an earlier version opens, lists, shows, compares, reports and exports.

The store and its figures are in ``recorded/store-8818b3e``; ``source.md`` says how they were made. Where records
change, what is stored is migrated on reading and these figures stay.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from lab.paths import RECORDED
from lab.records import record as made
from lab.stores import DEFAULT, Call, fill

FROZEN = RECORDED / "store-8818b3e"
EXPECTED: dict[str, dict[str, Any]] = json.loads((FROZEN / "expected.json").read_text("utf-8"))


@pytest.fixture
def frozen(call: Call) -> Call:
    """The command line in a folder whose store is a copy of the frozen one."""
    DEFAULT.parent.mkdir()
    shutil.copyfile(FROZEN / "results.sqlite", DEFAULT)
    return call


def records(text: str) -> dict[str, Any]:
    return {record["id"]: record for record in json.loads(text)["records"]}


def figures(record: dict[str, Any]) -> dict[str, list[float | None]]:
    """The median of each metric and its rounds, as ``expected.json`` has them."""
    return {name: [metric["value"], *metric["rounds"]] for name, metric in record["metrics"].items()}


def test_the_frozen_store_is_of_the_old_version() -> None:
    with sqlite3.connect(f"file:{FROZEN / 'results.sqlite'}?mode=ro&immutable=1", uri=True) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (3,)
        assert {id for (id,) in database.execute("SELECT id FROM trials")} == set(EXPECTED)


def test_list_has_every_record_with_its_figures(frozen: Call) -> None:
    listed = records(frozen("results", "list", "--json").stdout)
    assert list(listed) == sorted(EXPECTED)
    for id, expected in EXPECTED.items():
        record = listed[id]
        assert record["run"]["name"] == expected["run"]
        assert record["trial"] == expected["trial"]
        assert record["status"] == expected["status"]
        assert [doubt["id"] for doubt in record["doubts"]] == expected["doubts"]
        assert figures(record) == expected["metrics"]


@pytest.mark.parametrize("id", EXPECTED)
def test_show_has_every_round_turn_and_sample(frozen: Call, id: str) -> None:
    expected = EXPECTED[id]
    (record,) = records(frozen("results", "show", id, "--json").stdout).values()
    assert figures(record) == expected["metrics"]
    keys = ("label", "prompt_tokens", "cached_tokens", "completion_tokens")
    assert [[[turn[key] for key in keys] for turn in one["turns"]] for one in record["rounds"]] == expected["turns"]
    assert [len(one["samples"]) for one in record["rounds"]] == expected["samples"]
    assert (record["failure"] or {}).get("message", "") == expected["failure"]

    text = frozen("results", "show", id).stdout
    assert all(word in text for word in (id, expected["run"], *expected["metrics"], *expected["last_words"]))
    log = frozen("results", "show", id, "--log").stdout
    assert len(log.splitlines()) >= max(1, expected["log_lines"])


def test_the_table_shows_the_old_records(frozen: Call) -> None:
    text = frozen("results", "list").stdout
    assert all(id in text for id in EXPECTED)
    assert "60.3" in text  # the decode rate of the first record, tokens/s
    assert "unknown tensor type 99" in text


def test_compare_divides_the_stored_medians(frozen: Call) -> None:
    comparisons = json.loads(frozen("compare", "nightly-1", "nightly-2", "--json").stdout)["comparisons"]
    assert len(comparisons) == 2
    for comparison in comparisons:
        a, b = EXPECTED[comparison["a"]], EXPECTED[comparison["b"]]
        assert (a["run"], b["run"]) == ("nightly-1", "nightly-2")
        rate = comparison["metrics"]["decode_tps"]
        assert (rate["a"], rate["b"]) == (a["metrics"]["decode_tps"][0], b["metrics"]["decode_tps"][0])
    assert "decode rate" in frozen("compare", "nightly-1", "nightly-2").stdout


def test_the_report_is_of_the_old_records(frozen: Call) -> None:
    assert frozen("report").exit_code == 0
    page = Path("reports/index.html").read_text("utf-8")
    assert all(id in page for id in EXPECTED)
    assert frozen("report", "--format", "md").exit_code == 0
    text = Path("reports/report.md").read_text("utf-8")
    assert "smollm2-135m-f16 · speculative" in text
    assert "unknown tensor type 99" in page


@pytest.mark.parametrize("format", ["csv", "html", "json", "jsonl", "markdown", "speculative", "table", "parquet"])
def test_every_format_is_exported(frozen: Call, format: str) -> None:
    assert frozen("results", "export", "--format", format, "-o", f"out.{format}").exit_code == 0
    assert Path(f"out.{format}").stat().st_size > 1000


def test_a_bundle_of_the_old_records_is_read_elsewhere(frozen: Call) -> None:
    assert frozen("results", "export", "--bundle", "old.zip").exit_code == 0
    assert frozen("results", "import", "old.zip", "--store", "new.sqlite").exit_code == 0
    moved = records(frozen("results", "list", "--json", "--store", "new.sqlite").stdout)
    assert {id: figures(record) for id, record in moved.items()} == {
        id: expected["metrics"] for id, expected in EXPECTED.items()
    }


def test_a_new_run_is_added_to_the_old_store(frozen: Call) -> None:
    (added,) = fill(DEFAULT, made(), name="later")
    assert set(records(frozen("results", "list", "--json").stdout)) == {*EXPECTED, added.id}
