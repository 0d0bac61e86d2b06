"""The results: one append-only SQLite file, committed round by round.

A run that is killed loses at most the round in flight. Two processes may write at once: every
transaction is short, and each waits for the other's. Triggers reject
changes and deletions. A trial without a record is running or was killed; its record is then built from
its finished rounds.
"""

from __future__ import annotations

import json
import os
import platform
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType

from edgebench.core import Facts, Failure, Fields, Record, Round, Trial
from edgebench.errors import StoreError, UsageError
from edgebench.judging import judge
from edgebench.judging.over_rounds import over_rounds
from edgebench.store import database, ids, packing, records
from edgebench.store.filters import ALL_RECORDS, Filter, TrialRow, sql_clause

INDEXED_METRICS = ("peak_footprint_b", "load_s", "decode_tps", "ttft_s", "prefill_tps")
"""Metrics with columns in the table of records, in the order of its migrations."""
BATCH_SIZE = 200
"""Records per query."""


def default_path() -> Path:
    """``$EDGEBENCH_STORE``, or ``reports/results.sqlite`` under the current folder."""
    return Path(os.environ.get("EDGEBENCH_STORE") or "reports/results.sqlite")


def now() -> str:
    """The current time, ISO 8601, UTC, to the millisecond."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Store:
    """An open store. Use it as a context manager, from one thread.

    ``read_only`` never creates or changes the file (an older version is still migrated).
    Raises ``StoreError`` for a file that cannot be opened, is not a store, or has a newer version.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._db = database.connect(path, read_only=read_only)

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- writing ---------------------------------------------------------------------------

    def begin_run(self, meta: Mapping[str, object]) -> str:
        """Add a run and return its ID; ``meta`` becomes ``Record.run``, with ``id`` and ``started`` added."""
        import psutil

        controller = psutil.Process()
        process = {"host": platform.node(), "pid": controller.pid, "created": controller.create_time()}
        run = {**meta, "id": ids.new_id(), "started": now()}
        with database.translate_errors(self.path):
            self._put_run({**run, "process": process})
        return str(run["id"])

    def run(self, run: str) -> dict[str, object]:
        """The value of ``Record.run`` for a run: its metadata with ``id`` and ``started``."""
        with database.translate_errors(self.path):
            (meta,) = self._db.execute("SELECT meta FROM runs WHERE id = ?", (run,)).fetchone()
        return _public_meta(json.loads(meta))

    def begin_trial(self, run: str, trial: Trial, facts: Facts, *, id: str | None = None) -> str:
        """Add a trial that is about to run; returns the ID of its record, by default a new one."""
        id = id or ids.new_id()
        with database.translate_errors(self.path):
            self._put_trial(id, run, now(), trial, facts)
        return id

    def add_round(self, trial: str, one: Round) -> None:
        """Commit a finished round."""
        with database.translate_errors(self.path):
            self._put_round(trial, one)

    def add_log(self, trial: str, text: str) -> None:
        """Store the engine's own log of one start."""
        with database.translate_errors(self.path):
            self._put_log(trial, text)

    def finish(self, record: Record) -> None:
        """Finish a trial: add its record and those of its rounds that are not stored yet."""
        with database.translate_errors(self.path), database.transaction(self._db):
            self._put_record(record)

    def add(self, record: Record, logs: Sequence[str] = ()) -> bool:
        """Import a record of another store, with its run. False if it is stored already."""
        with database.translate_errors(self.path), database.transaction(self._db):
            if self._db.execute("SELECT 1 FROM trials WHERE id = ?", (record.id,)).fetchone():
                return False
            if not self._db.execute("SELECT 1 FROM runs WHERE id = ?", (str(record.run["id"]),)).fetchone():
                self._put_run(record.run)
            self._put_trial(record.id, str(record.run["id"]), record.started, record.trial, record.facts)
            for text in logs:
                self._put_log(record.id, text)
            self._put_record(record)
        return True

    def existing_ids(self, candidates: Sequence[str]) -> list[str]:
        """Those of these IDs that are stored already, sorted."""
        with database.translate_errors(self.path):
            query = "SELECT id FROM trials WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id"
            return [id for (id,) in self._db.execute(query, (json.dumps(list(candidates)),))]

    def check_conflict(self, record: Record) -> None:
        """Raise ``StoreError`` if a different record has the same ID."""
        for existing in self.records(Filter(ids=[record.id]), samples=True):
            if records.to_json(existing) != records.to_json(record):
                raise StoreError(
                    f"{record.id} differs from the record with the same ID in {self.path}",
                    "One of the two was modified. Import it into another store with --store.",
                )

    def _put_run(self, meta: Mapping[str, object]) -> None:
        values = (str(meta["id"]), str(meta.get("name") or ""), str(meta.get("started") or ""), packing.dumps(meta))
        self._db.execute("INSERT INTO runs VALUES (?, ?, ?, ?)", values)

    def _put_trial(self, id: str, run: str, started: str, trial: Trial, facts: Facts) -> None:
        names = (trial.device, trial.model, trial.engine, trial.backend, trial.scenario)
        values = (id, run, started, *names, packing.dumps(trial.options), packing.pack(facts.document()))
        self._db.execute(f"INSERT INTO trials VALUES ({_placeholders(values)})", values)

    def _put_round(self, trial: str, one: Round) -> None:
        values = (
            trial,
            one.index,
            packing.pack(records.round_to_json(one, samples=False)),
            packing.pack(packing.columns(one.samples)),
        )
        self._db.execute(f"INSERT INTO rounds VALUES ({_placeholders(values)})", values)

    def _put_log(self, trial: str, text: str) -> None:
        self._db.execute(
            "INSERT INTO logs SELECT ?, count(*), ? FROM logs WHERE trial = ?",
            (trial, zlib.compress(text.encode("utf-8", "surrogateescape")), trial),
        )

    def _put_record(self, record: Record) -> None:
        stored_rounds = {
            number for (number,) in self._db.execute("SELECT number FROM rounds WHERE trial = ?", (record.id,))
        }
        for round_ in record.rounds:
            if round_.index not in stored_rounds:
                self._put_round(record.id, round_)
        doc = records.to_json(replace(record, rounds=()))
        headline: list[float | None] = []
        for name in INDEXED_METRICS:
            metric = record.metrics.get(name)
            headline += [metric.value, metric.low, metric.high] if metric else [None] * 3
        doubt_ids = " ".join(dict.fromkeys(doubt.id for doubt in record.doubts))
        failure = record.failure.message if record.failure else ""
        values = (record.id, record.status, doubt_ids, failure, *headline)
        self._db.execute(f"INSERT INTO records VALUES ({_placeholders(values)})", values)
        self._db.execute("INSERT INTO documents VALUES (?, ?)", (record.id, packing.pack(doc)))

    # --- reading ---------------------------------------------------------------------------

    def records(
        self, record_filter: Filter = ALL_RECORDS, *, samples: bool = False, rounds: bool = True
    ) -> Iterator[Record]:
        """Records with their rounds, oldest first; with the raw samples on request.

        They are read in batches during iteration, so that a store of any size fits into memory.
        Without rounds (metrics keep the value of each round) a large store is read much faster.
        A trial without a record yields one of status ``running`` or ``interrupted``.
        """
        selected_ids = self.record_ids(record_filter)
        with database.translate_errors(self.path):
            for start in range(0, len(selected_ids), BATCH_SIZE):
                yield from self._read(selected_ids[start : start + BATCH_SIZE], samples, rounds)

    def _read(self, record_ids: Sequence[str], samples: bool, rounds: bool) -> Iterator[Record]:
        """Records by ID, oldest first."""
        query = (
            "SELECT trials.*, runs.meta, documents.doc FROM trials JOIN runs ON runs.id = trials.run "
            "LEFT JOIN documents ON documents.trial = trials.id "
            "WHERE trials.id IN (SELECT value FROM json_each(?)) ORDER BY trials.id"
        )
        for *trial, meta, doc in self._db.execute(query, [json.dumps(record_ids)]).fetchall():
            if doc is None:
                yield _unfinished(trial, json.loads(meta), self._rounds(trial[0], samples))
                continue
            loaded_rounds = self._rounds(trial[0], samples) if rounds else ()
            yield replace(records.from_json(packing.unpack(doc)), rounds=loaded_rounds)

    def record(self, prefix: str) -> Record:
        """One record with its samples, by a prefix of its ID. Raises ``UsageError``."""
        (record,) = self.records(Filter(ids=[self.find_id(prefix)]), samples=True)
        return record

    def find_id(self, prefix: str) -> str:
        """The ID with this prefix. Raises ``UsageError`` for none or several."""
        with database.translate_errors(self.path):
            # The range lets the index answer; ids are ASCII.
            query = "SELECT id FROM trials WHERE id >= ? AND id < ? ORDER BY id"
            matches = [id for (id,) in self._db.execute(query, (prefix, prefix + "\U0010ffff"))]
        if len(matches) == 1 or prefix in matches:
            return prefix if prefix in matches else matches[0]
        if not matches:
            raise UsageError(f"no result has the ID prefix {prefix!r} in {self.path}", "See: edgebench results list")
        raise UsageError(
            f"{len(matches)} results have the ID prefix {prefix!r}",
            f"For example {', '.join(matches[:3])}; use a longer prefix.",
        )

    def rows(self, record_filter: Filter = ALL_RECORDS) -> list[TrialRow]:
        """The rows of the table, oldest first, read without decoding documents."""
        condition, values = sql_clause(record_filter)
        columns = ", ".join(f"records.{name}" for name in TrialRow._fields[TrialRow._fields.index("status") :])
        query = (
            "SELECT trials.id, trials.run, runs.name, trials.started, device, model, engine, backend, scenario, "
            f"options, {columns} "
            f"FROM trials JOIN runs ON runs.id = trials.run LEFT JOIN records ON records.trial = trials.id {condition}"
        )
        with database.translate_errors(self.path):
            return list(map(TrialRow._make, self._db.execute(query, values)))

    def record_ids(self, record_filter: Filter = ALL_RECORDS) -> list[str]:
        """The IDs of records, oldest first."""
        condition, values = sql_clause(record_filter)
        query = f"SELECT trials.id FROM trials JOIN runs ON runs.id = trials.run {condition}"
        with database.translate_errors(self.path):
            return [id for (id,) in self._db.execute(query, values)]

    def count(self, record_filter: Filter = ALL_RECORDS) -> int:
        """Number of records."""
        condition, values = sql_clause(record_filter)
        with database.translate_errors(self.path):
            query = f"SELECT count(*) FROM (SELECT 1 FROM trials JOIN runs ON runs.id = trials.run {condition})"
            return int(self._db.execute(query, values).fetchone()[0])

    def logs(self, id: str) -> list[str]:
        """The engine's own logs of a trial, one per start."""
        with database.translate_errors(self.path):
            rows = self._db.execute("SELECT text FROM logs WHERE trial = ? ORDER BY number", (id,))
            return [zlib.decompress(text).decode("utf-8", "surrogateescape") for (text,) in rows]

    def _rounds(self, trial: str, samples: bool) -> tuple[Round, ...]:
        rounds = []
        query = f"SELECT data, {'samples' if samples else 'NULL'} FROM rounds WHERE trial = ? ORDER BY number"
        for data, packed in self._db.execute(query, (trial,)):
            one = records.round_from_json(packing.unpack(data))
            rounds.append(replace(one, samples=packing.samples(packing.unpack(packed))) if packed else one)
        return tuple(rounds)


def _unfinished(trial: Sequence[str], meta: dict[str, object], rounds: tuple[Round, ...]) -> Record:
    id, _, started, device, model, engine, backend, scenario, options, facts = trial
    is_running = _is_running(Fields(meta.get("process")))
    record = Record(
        id=id,
        run=_public_meta(meta),
        status="running" if is_running else "interrupted",
        trial=Trial(device, model, engine, backend, scenario, json.loads(options)),
        facts=Facts.from_document(packing.unpack(facts)),  # type: ignore[arg-type]  # the one blob among the texts
        metrics=over_rounds(rounds),
        rounds=rounds,
        failure=None if is_running else Failure("the run ended before this trial", "Run it again."),
        started=started,
    )
    # A running trial lacks rounds and engine facts, so it is not judged.
    return record if is_running else replace(record, doubts=judge.judge(record))


def _public_meta(meta: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in meta.items() if key != "process"}


def _is_running(process: Fields) -> bool:
    """Whether the process of a run is still running on this machine."""
    import psutil

    pid, created = process.integer("pid"), process.number("created")
    if process.text("host") != platform.node() or pid is None or created is None:
        return False
    try:
        return bool(abs(psutil.Process(pid).create_time() - created) < 10)
    except psutil.Error:
        return False


def _placeholders(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
