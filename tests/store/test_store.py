"""The store: what is committed stays, whatever happens to the program, the disk or the file."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from lab.paths import ROOT
from lab.records import conversation, record, samples

import edgebench
from edgebench.core import Divergence, Failure, Record, Round, Sample, Trial, Turn
from edgebench.errors import StoreError, UsageError
from edgebench.store import ids, records
from edgebench.store.filters import Filter
from edgebench.store.results import Store

TRIAL = Trial("local", "m", "llama.cpp", "cpu", "throughput", {"threads": 2})
SCHEMA = jsonschema.Draft202012Validator(json.loads((ROOT / "docs/schemas/records.json").read_text("utf-8")))


def add(store: Store, one: Record, name: str = "") -> Record:
    run = store.begin_run({"name": name})
    done = replace(one, id=store.begin_trial(run, one.trial, one.facts), run=store.run(run))
    store.finish(done)
    return done


def ordered(readings: list[Sample]) -> list[Sample]:
    """As the store gives them: by time, of one instant by name."""
    return sorted(readings, key=lambda one: (one.at, one.name))


def child(code: str, *argv: object, **more: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, argv)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more
    )


# --- what goes in comes out --------------------------------------------------------------------


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    one = record(
        device="テスト $(reboot) 'x' \"y\"",
        options={"threads": 4, "ignore_eos": True, "temperature": 0.5, "gpu_layers": "all"},
        turns=conversation(3),
        samples=ordered(samples(5)),
        doubts=["spread"],
        notes=["a note", "<script>"],
    )
    with Store(tmp_path / "a b?#%.sqlite") as store:
        done = add(store, one, "nightly")
        # Samples come back in the order of their times; made in that order, they are the same.
        assert store.record(done.id) == done
        (without,) = store.records()
        assert without.rounds[0].samples == ()
        assert replace(without, rounds=()) == replace(done, rounds=())


def test_a_failure_comes_back_as_it_was(tmp_path: Path) -> None:
    failure = Failure("died", "try again", 132, "SIGILL", ("last", "lines"))
    with Store(tmp_path / "s.sqlite") as store:
        done = add(store, record(status="failed", failure=failure))
        assert store.record(done.id) == done
        (row,) = store.rows()
        assert (row.status, row.failure, row.decode_tps) == ("failed", "died", None)


def test_rows_hold_what_the_records_hold(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        done = add(store, record(doubts=["spread", "spread", "steal"]), "nightly")
        (row,) = store.rows()
    rate = done.metrics["decode_tps"]
    assert (row.id, row.run_name, row.device) == (done.id, "nightly", done.trial.device)
    assert (row.decode_tps, row.decode_tps_low, row.decode_tps_high) == (rate.value, rate.low, rate.high)
    assert json.loads(row.options) == done.trial.options
    assert row.doubts == "spread steal"


def test_logs_are_kept_one_a_start_with_any_bytes(tmp_path: Path) -> None:
    odd = b"caf\xe9 \x1b[2J \xf0\x9f\x98\x80".decode("utf-8", "surrogateescape")
    with Store(tmp_path / "s.sqlite") as store:
        done = add(store, record())
        store.add_log(done.id, "first\nstart\n")
        store.add_log(done.id, odd)
        assert store.logs(done.id) == ["first\nstart\n", odd]


numbers = st.floats(allow_nan=True, allow_infinity=True)


@given(st.dictionaries(st.text(max_size=8), numbers, max_size=4), st.lists(numbers, max_size=4))
@example({"Infinity": float("inf"), "NaN": 0.0}, [float("nan")])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_no_document_ever_holds_what_json_cannot(metrics: dict[str, float], readings: list[float]) -> None:
    one = Round(
        0,
        "",
        metrics,
        (Turn(label="odd", token_times=tuple(readings)),),
        tuple(Sample("x", value, 0.0) for value in readings),
    )
    text = records.dumps(records.document([replace(record(), rounds=(one,))], samples=True))

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")  # as a value; a metric may be called so

    document = json.loads(text, parse_constant=refuse)
    SCHEMA.validate(document)
    assert records.from_json(document["records"][0]).trial.device == "synthetic-laptop"


def test_a_record_of_schema_1_is_migrated_when_it_is_read() -> None:
    document = records.to_json(record(rounds=1))
    document["schema"] = 1
    document["rounds"][0]["turns"] = [
        {"label": "tg128", "measures": ["decode"], "asked_tokens": 128, "completion_tokens": 90, "depth": 91},
        {
            "label": "k = 4",
            "measures": ["decode"],
            "draft_tokens": 8,
            "draft_accepted": 5,
            "speculative": {"type": "model", "n_max": 4, "steps": 2, "proposed_by_position": [2, 2], "draft_ms": 12.5},
        },
        {"label": "costs", "measures": [], "costs": {"depth": 9, "verify_s": {"1": [0.1], "2": [0.2]}, "draft_s": []}},
        {"label": "tie", "measures": [], "parting": {"position": 3, "gap": 0.01, "noise": 0.04}},
    ]
    migrated = records.from_json(document)
    assert migrated.schema == 2
    short, drafted, costs, tie = migrated.rounds[0].turns
    assert (short.requested_tokens, short.completion_tokens) == (128, 90)
    assert drafted.speculation is not None
    assert drafted.speculation.steps == 2
    assert drafted.speculation.proposed_by_position == (2, 2)
    assert drafted.speculation.draft_s == pytest.approx(0.0125)
    assert costs.costs is not None
    assert costs.costs.verify_s == {1: (0.1,), 2: (0.2,)}
    assert tie.divergence == Divergence(3, 0.01, 0.04)
    assert records.from_json(records.to_json(migrated)) == migrated


def test_the_document_has_the_published_form() -> None:
    document = records.document([record(), record(status="failed", failure=Failure("x"))])
    SCHEMA.validate(document)
    one = document["records"][0]
    assert document["schema"] == 2
    assert list(one["trial"]) == ["device", "model", "engine", "backend", "scenario", "options"]
    assert {"value", "unit", "rounds", "low", "high"} <= set(one["metrics"]["decode_tps"])


def test_a_record_that_is_none_says_where() -> None:
    document = records.to_json(record())
    del document["trial"]["engine"]
    with pytest.raises(StoreError, match=r"trial\.engine: Field required"):
        records.from_json(document)
    with pytest.raises(StoreError, match="schema 99"):
        records.from_json({**records.to_json(record()), "schema": 99})


# --- finding -----------------------------------------------------------------------------------


def test_ids_sort_by_time_and_never_repeat() -> None:
    made = [ids.new_id() for _ in range(5000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert {len(id) for id in made} == {12}


def test_the_beginning_of_an_id_is_enough_where_it_is_clear(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        first, second = add(store, record()), add(store, record())
        assert store.find_id(first.id) == first.id
        common = first.id[: next(i for i in range(12) if first.id[i] != second.id[i])]
        assert store.find_id(second.id[: len(common) + 1]) == second.id
        with pytest.raises(UsageError, match="2 results have the ID prefix"):
            store.find_id(common)
        for nothing in ("zzz", "%", "_" * 12, "'"):
            with pytest.raises(UsageError, match="no result has the ID prefix"):
                store.find_id(nothing)


def test_filters(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        a = add(store, record(device="a", model="x", backend="cpu"), "nightly")
        b = add(store, record(device="b", model="x", backend="cuda"), "other")
        c = add(store, record(device="c", model="y'; DROP TABLE runs"), "nightly")

        def found(**where: object) -> list[str]:
            return [one.id for one in store.records(Filter(**where))]

        assert found() == [a.id, b.id, c.id]
        assert found(devices=["a", "b"]) == [a.id, b.id]
        assert found(models=["x"], backends=["cuda"]) == [b.id]
        assert found(models=["y'; DROP TABLE runs"]) == [c.id]
        assert found(runs=["nightly"]) == [a.id, c.id]
        assert found(runs=[b.run["id"]]) == [b.id]
        assert found(newest=2) == [b.id, c.id]
        assert found(runs=["nightly"], newest=1) == [c.id]
        assert found(since="2099-01-01") == []
        assert found(ids=[a.id, "nope"]) == [a.id]
        assert store.count(Filter(runs=["nightly"])) == 2
        assert [row.id for row in store.rows(Filter(newest=1))] == [c.id]


# --- what was begun and not ended --------------------------------------------------------------

BEGIN = """
import sys, time
from pathlib import Path
from edgebench.core import Facts, Round, Trial, Turn
from edgebench.store.results import Store
store = Store(Path(sys.argv[1]))
run = store.begin_run({"name": "killed"})
facts = Facts.from_document({"device": {"cpu": "x"}})
trial = store.begin_trial(run, Trial("local", "m", "llama.cpp", "cpu", "throughput", {}), facts)
for index in range(int(sys.argv[2])):
    store.add_round(trial, Round(index, "", {"decode_tps": 50.0 + index}))
    print(index, flush=True)
time.sleep(float(sys.argv[3]))
"""


def test_a_run_that_goes_on_shows_as_running_and_once_killed_as_interrupted(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    process = child(BEGIN, path, 3, 600)
    assert process.stdout
    for expected in range(3):
        assert int(process.stdout.readline()) == expected
    with Store(path, read_only=True) as store:
        (one,) = store.records()
        assert (one.status, one.failure) == ("running", None)
        process.kill()
        process.wait()
        (one,) = store.records()
    assert one.status == "interrupted"
    assert one.failure is not None
    assert one.metrics["decode_tps"].rounds == (50.0, 51.0, 52.0)
    assert one.run["name"] == "killed"
    assert one.facts.document() == {"device": {"cpu": "x"}}
    doubted = {doubt.id for doubt in one.doubts}
    assert "few-rounds" in doubted
    assert "backend-unknown" not in doubted  # the engine did say; the record was not written yet
    SCHEMA.validate(records.document([one]))


WRITE = """
import sys
from pathlib import Path
from edgebench.core import Facts, Record, Round, Sample, Trial, Turn
from edgebench.store.results import Store
from edgebench.judging import stats
from edgebench.judging.over_rounds import over_rounds
store = Store(Path(sys.argv[1]))
name, trials, kept = sys.argv[2], int(sys.argv[3]), 5
run = store.begin_run({"name": name})
for _ in range(trials):
    trial = Trial(name, "m", "llama.cpp", "cpu", "throughput", {})
    id = store.begin_trial(run, trial, Facts())
    rounds = []
    for index in range(kept):
        samples = tuple(Sample("rss_b", float(at), float(at), {}) for at in range(500))
        rounds.append(Round(index, "", {"decode_tps": 50.0 + index}, samples=samples))
        store.add_round(id, rounds[-1])
        print(f"round {id} {index}", flush=True)
    store.finish(Record(id, store.run(run), "ok", trial, Facts(), over_rounds(rounds), rounds=tuple(rounds)))
    print(f"record {id}", flush=True)
"""


def test_killed_at_any_instant_it_loses_at_most_the_round_in_flight(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    chance = random.Random(0)
    said: list[str] = []
    for attempt in range(8):
        process = child(WRITE, path, f"device{attempt}", 100_000)
        assert process.stdout
        # The first line says that it writes; the kill comes at a random instant after it.
        said.append(process.stdout.readline())
        time.sleep(chance.uniform(0, 0.2))
        os.kill(process.pid, signal.SIGKILL)
        said += process.stdout.read().splitlines(keepends=True)
        assert process.wait() == -signal.SIGKILL
    raw = sqlite3.connect(path)
    assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    raw.close()
    with Store(path) as store:
        found = {one.id: one for one in store.records()}
        for line in said:
            words = line.split()
            # A last line may be cut in half by the kill: then its round may be there or not.
            if not line.endswith("\n"):
                continue
            if words[0] == "record":
                assert found[words[1]].status == "ok"
            else:
                assert int(words[2]) in {one.index for one in found[words[1]].rounds}
        for one in found.values():
            assert one.status in ("ok", "interrupted")
            assert [each.index for each in one.rounds] == list(range(len(one.rounds)))
            assert one.status == "interrupted" or len(one.rounds) == 5
        # And it goes on being a store that one can write to.
        assert add(store, record()).id in {one.id for one in store.records()}


def test_several_processes_write_at_once_without_blocking_or_mixing(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "s.sqlite"  # nobody made it yet: they also race to make it
    processes = [child(WRITE, path, f"device{number}", 6) for number in range(4)]
    for process in processes:
        _, stderr = process.communicate(timeout=300)
        assert process.returncode == 0, stderr
    with Store(path, read_only=True) as store:
        found = list(store.records())
    assert len(found) == 24
    for one in found:
        assert one.run["name"] == one.trial.device
        assert one.metrics["decode_tps"].rounds == (50.0, 51.0, 52.0, 53.0, 54.0)


def test_a_reader_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with Store(path) as writer:
        done = add(writer, record())
        writer._db.execute("BEGIN IMMEDIATE")
        with Store(path, read_only=True) as reader:
            assert reader.record(done.id) == done
        writer._db.execute("ROLLBACK")


# --- nothing is ever changed -------------------------------------------------------------------


@pytest.mark.parametrize("table", ["runs", "trials", "rounds", "logs", "records", "documents"])
def test_rows_cannot_be_changed_or_deleted(tmp_path: Path, table: str) -> None:
    path = tmp_path / "s.sqlite"
    with Store(path) as store:
        done = add(store, record())
        store.add_log(done.id, "log")
    raw = sqlite3.connect(path)
    (column,) = (row[1] for row in raw.execute(f"PRAGMA table_info({table})") if row[0] == 0)
    for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET {column} = 'x'"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            raw.execute(statement)
    raw.close()


def test_a_trial_ends_once(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        done = add(store, record())
        with pytest.raises(StoreError):
            store.finish(replace(done, status="failed"))
        assert store.record(done.id).status == "ok"


def test_taking_in_a_record_twice_changes_nothing(tmp_path: Path) -> None:
    with Store(tmp_path / "a.sqlite") as one, Store(tmp_path / "b.sqlite") as other:
        done = add(one, record(samples=ordered(samples(2))), "nightly")
        assert other.add(done, ["log"]) is True
        assert other.add(done, ["log"]) is False
        assert other.record(done.id) == done
        assert other.logs(done.id) == ["log"]
        assert [row.run_name for row in other.rows()] == ["nightly"]


# --- files that are none, and disks that refuse ------------------------------------------------


def _newer(path: Path) -> None:
    with Store(path):
        pass
    raw = sqlite3.connect(path)
    raw.execute("PRAGMA user_version = 999")
    raw.close()


def _foreign(path: Path) -> None:
    raw = sqlite3.connect(path)
    raw.execute("CREATE TABLE friends (name)")
    raw.commit()
    raw.close()


def _truncated(path: Path) -> None:
    with Store(path) as store:
        for _ in range(20):
            add(store, record(samples=samples(5)))
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_newer, "made by a newer edgebench"),
        (_foreign, "not one of edgebench"),
        (_truncated, "is damaged"),
        (lambda path: path.write_text("name: value\n" * 500), "not a store"),
        (lambda path: path.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000), "not a store|damaged"),
        (lambda path: path.mkdir(), "cannot be opened"),
    ],
)
def test_a_file_that_is_no_store_is_refused_and_left_alone(
    tmp_path: Path, make: object, says: str, read_only: bool
) -> None:
    path = tmp_path / "s.sqlite"
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(StoreError, match=says) as caught, Store(path, read_only=read_only) as store:
        list(store.records(samples=True))
    assert str(path) in str(caught.value)
    assert caught.value.hint
    assert caught.value.exit_code == 2
    assert (path.read_bytes() if path.is_file() else None) == before


def test_a_missing_store_is_made_only_for_writing(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "s.sqlite"
    with pytest.raises(StoreError, match="does not exist"):
        Store(path, read_only=True)
    assert not path.parent.exists()
    with Store(path) as store:
        assert list(store.records()) == []


def test_reading_leaves_nothing_behind_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with Store(path) as store:
        done = add(store, record(samples=samples(2)))
    before, when = path.read_bytes(), path.stat().st_mtime_ns
    with Store(path, read_only=True) as store:
        assert store.record(done.id).id == done.id
        with pytest.raises(StoreError, match="cannot be written"):
            store.add_log(done.id, "log")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (before, when)


def test_the_tables_query_opens_no_document(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        add(store, record())
        asked: list[str] = []
        store._db.set_trace_callback(asked.append)
        store.rows(Filter(devices=["synthetic-laptop"]))
        store._db.set_trace_callback(None)
        (plan,) = ["\n".join(row[3] for row in store._db.execute(f"EXPLAIN QUERY PLAN {query}")) for query in asked]
    assert "trials USING COVERING INDEX trials_shown" in plan
    assert "documents" not in plan


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file/s.sqlite", Path("/proc/nowhere/s.sqlite")):
        with pytest.raises(StoreError, match="cannot be opened") as caught:
            Store(path)
        assert "Errno" not in str(caught.value)
        assert "--store" in caught.value.hint


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    path.touch()
    with Store(path) as store:
        assert store.rows() == []


def older(path: Path) -> Path:
    """The same store as its first version would have written it."""
    scripts = sorted((Path(edgebench.__file__).parent / "data/store").glob("*.sql"))
    old = sqlite3.connect(path.with_name("old.sqlite"))
    old.executescript(scripts[0].read_text("utf-8") + "PRAGMA user_version = 1; PRAGMA application_id = 1164198501;")
    old.execute("ATTACH ? AS new", (str(path),))
    for table in ("runs", "trials", "rounds", "logs", "records"):
        names = ", ".join(row[1] for row in old.execute(f"PRAGMA main.table_info({table})"))
        documents = " JOIN new.documents USING (trial)" if table == "records" else ""
        old.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM new.{table}{documents}")
    old.commit()
    old.close()
    return path.with_name("old.sqlite")


def test_an_older_store_is_migrated_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with Store(path) as store:
        done = add(store, record(doubts=["steal"]), "nightly")
        rows = store.rows()
        version = store._db.execute("PRAGMA user_version").fetchone()
    with Store(older(path), read_only=True) as store:
        assert store.record(done.id) == done
        assert store.rows() == rows
        assert store._db.execute("PRAGMA user_version").fetchone() == version
    with Store(tmp_path / "old.sqlite") as store:
        add(store, record())


def test_a_damaged_document_is_named_and_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with Store(path) as store:
        add(store, record())
    raw = sqlite3.connect(path)
    raw.execute("DROP TRIGGER documents_stay")
    raw.execute("UPDATE documents SET doc = x'00112233'")
    raw.commit()
    raw.close()
    with Store(path) as store, pytest.raises(StoreError, match="is damaged"):
        list(store.records())


# A file size limit is the kernel refusing to write on, as a full disk is; it needs no privileges.
FULL = """
import resource, sys
from pathlib import Path
from edgebench.core import Facts, Round, Sample, Trial, Turn
from edgebench.errors import StoreError
from edgebench.store.results import Store
store = Store(Path(sys.argv[1]))
run = store.begin_run({})
id = store.begin_trial(run, Trial("local", "m", "e", "cpu", "s", {}), Facts())
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
import random
chance = random.Random(0)
for index in range(1000):
    samples = tuple(Sample("rss_b", chance.random(), float(at), {}) for at in range(2000))
    try:
        store.add_round(id, Round(index, "", {"decode_tps": 1.0}, samples=samples))
    except StoreError as error:
        print("refused:", error, "|", error.hint)
        store.close()
        sys.exit(error.exit_code)
    print(index, flush=True)
"""


def test_a_full_disk_is_said_and_keeps_every_finished_round(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    process = child(FULL, path)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 2, stderr
    *written, refused = stdout.splitlines()
    assert "no space, or the disk failed" in refused
    assert "Every finished round before this is kept" in refused
    assert len(written) > 2
    with Store(path) as store:
        (one,) = store.records()
        assert [each.index for each in one.rounds] == list(range(len(written)))
        add(store, record())


READ = """
import sys
from pathlib import Path
from edgebench.errors import StoreError
from edgebench.store.results import Store
with Store(Path(sys.argv[1]), read_only=True) as store:
    print(len(store.rows()))
try:
    Store(Path(sys.argv[1]))
except StoreError as error:
    print(error)
"""


@pytest.mark.parametrize("make", [lambda path: path, older], ids=["this version's", "an older one's"])
def test_a_store_in_a_folder_one_may_not_write_is_still_read(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    folder = tmp_path / "ro"
    with Store(folder / "s.sqlite") as store:
        add(store, record())
    path = make(folder / "s.sqlite")
    before = path.read_bytes()
    path.chmod(0o444)
    folder.chmod(0o555)
    # Root may write anywhere unless that capability is taken from it.
    prefix = ["setpriv", "--bounding-set", "-all"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*prefix, sys.executable, "-c", READ, str(path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    folder.chmod(0o755)
    assert done.returncode == 0, done.stderr
    count, refusal = done.stdout.splitlines()
    assert count == "1"
    assert "cannot be written" in refusal
    assert path.read_bytes() == before
