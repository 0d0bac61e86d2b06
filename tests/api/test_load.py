"""``edgebench.load``: what it selects, and stores and filters that make no sense."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from lab.records import record
from lab.tiny import tiny

import edgebench
from edgebench.store.results import Store


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with a record of 2025 and one of 2026."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGEBENCH_STORE", raising=False)
    path = tmp_path / "results.sqlite"
    with Store(path) as opened:
        for year, device in ((2025, "old"), (2026, "new")):
            opened.add(replace(record(device=device, run=f"run-of-{year}", started=f"{year}-06-01T12:00:00.000Z")))
    return path


def devices(results: edgebench.Results) -> list[str]:
    return [one.trial.device for one in results]


@pytest.mark.parametrize(
    ("filters", "selected"),
    [
        ({}, ["old", "new"]),
        ({"since": "2026-06-01T12:00Z"}, ["new"]),
        ({"since": "2026-06-01T14:00+02:00"}, ["new"]),
        ({"since": "2026-06-01T12:01+00:00"}, []),
        ({"since": "2025-06-02"}, ["new"]),
        ({"since": datetime(2026, 1, 1, tzinfo=timezone.utc)}, ["new"]),
        ({"since": "9999w"}, ["old", "new"]),
        ({"devices": "new"}, ["new"]),
        ({"devices": ("old", "other")}, ["old"]),
        ({"runs": {"run-of-2025"}}, ["old"]),
        ({"models": ["nothing"]}, []),
        ({"newest": 1}, ["new"]),
    ],
)
def test_filters_select(store: Path, filters: dict[str, Any], selected: list[str]) -> None:
    assert devices(edgebench.load(store, **filters)) == selected


def test_an_age_counts_from_now(store: Path) -> None:
    started = datetime.now(timezone.utc) - timedelta(hours=30)
    with Store(store) as opened:
        opened.add(record(device="recent", run="recent", started=started.isoformat().replace("+00:00", "Z")))
    assert devices(edgebench.load(store, since="2d")) == ["recent"]
    assert devices(edgebench.load(store, since="29h")) == []


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ({"since": "yesterday"}, "since: 'yesterday' is not a valid date or duration"),
        ({"since": "2026-13-01"}, "since: '2026-13-01' is not a valid date"),
        ({"since": ""}, "since: '' is not a valid date"),
        ({"since": 7}, "since: 7 is not a valid date"),
        ({"since": "999999w"}, "since: '999999w' is not a valid date"),
        ({"newest": 0}, "newest must be at least 1, not 0"),
        ({"newest": "3"}, "newest must be a whole number, not '3'"),
        ({"devices": 7}, "devices must be a name or several of them, not 7"),
        ({"runs": [None]}, "runs must be a name or several of them, not None"),
    ],
)
def test_filters_that_make_no_sense_are_refused(store: Path, filters: dict[str, Any], words: str) -> None:
    with pytest.raises(edgebench.UsageError, match=words) as refused:
        edgebench.load(store, **filters)
    if "since" in filters:
        assert "2026-11-01" in refused.value.hint


@pytest.mark.parametrize("call", ["load", "run", "compare"])
@pytest.mark.parametrize(
    ("path", "error", "words"),
    [
        (":memory:", edgebench.StoreError, "a store is a file, and cannot be :memory:"),
        ("folder", edgebench.StoreError, "it is a folder"),
        ("text", edgebench.StoreError, "not a store of edgebench"),
        ("", edgebench.UsageError, "store must be the path of a file, not ''"),
        (7, edgebench.UsageError, "store must be the path of a file, not 7"),
    ],
)
def test_a_store_that_cannot_be_one_is_named(
    store: Path, call: str, path: Any, error: type[edgebench.EdgebenchError], words: str
) -> None:
    (store.parent / "folder").mkdir()
    (store.parent / "text").write_text("not a database, whatever its name " * 100)
    model = tiny(store.parent / "tiny.gguf")
    calls = {
        "load": lambda: edgebench.load(path),
        "run": lambda: edgebench.run(models=model, rounds=1, settle=0, store=path),
        "compare": lambda: edgebench.compare("a", "b", store=path),
    }
    with pytest.raises(error, match=words):
        calls[call]()


def test_a_store_that_does_not_exist_is_an_error_and_is_not_made(store: Path) -> None:
    for name in ("nowhere.sqlite", Path("no") / "such.sqlite"):
        with pytest.raises(edgebench.StoreError, match=f"{name} does not exist"):
            edgebench.load(name)
        assert not Path(name).exists()
