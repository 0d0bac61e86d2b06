"""The results: one append-only SQLite file, committed round by round.

A run that is killed loses at most the round in flight. Two processes may write at once: every
transaction is short, and each waits for the other's. Nothing is ever changed or deleted, triggers
see to that. A trial without a record either still runs or was killed; its record is then made of
the rounds it has.
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
from edgebench.store.where import EVERY, Row, Where, clause

INDEXED = ("peak_footprint_b", "load_s", "decode_tps", "ttft_s", "prefill_tps")
"""Metrics that the table of records has columns for, as its migrations make them."""
AT_ONCE = 200
"""Records that are read at once."""


def default_path() -> Path:
    """``$EDGEBENCH_STORE``, or ``reports/results.sqlite`` under the current folder."""
    return Path(os.environ.get("EDGEBENCH_STORE") or "reports/results.sqlite")


def now() -> str:
    """The time, ISO 8601, UTC, to the millisecond."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Store:
    """An open store. Use it as a context manager, from one thread.

    ``read_only`` never creates or changes the file (an older version is still migrated).
    Raises ``StoreError`` for a file that cannot be opened, isn't ours, or is newer than us.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._db = database.connect(path, read_only=read_only)

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # --- writing ---------------------------------------------------------------------------

    def begin_run(self, meta: Mapping[str, object]) -> str:
        """A new run; ``meta`` is what ``Record.run`` holds, its ``id`` and ``started`` are added."""
        import psutil

        me = psutil.Process()
        process = {"host": platform.node(), "pid": me.pid, "created": me.create_time()}
        run = {**meta, "id": ids.new(), "started": now()}
        with database.faults(self.path):
            self._put_run({**run, "process": process})
        return str(run["id"])

    def run(self, run: str) -> dict[str, object]:
        """What ``Record.run`` holds for a run: its meta with ``id`` and ``started``."""
        with database.faults(self.path):
            (meta,) = self._db.execute("SELECT meta FROM runs WHERE id = ?", (run,)).fetchone()
        return _public(json.loads(meta))

    def begin_trial(self, run: str, trial: Trial, facts: Facts, *, id: str | None = None) -> str:
        """A trial that is about to run; returns the id of its record, a new one where none is given."""
        id = id or ids.new()
        with database.faults(self.path):
            self._put_trial(id, run, now(), trial, facts)
        return id

    def add_round(self, trial: str, one: Round) -> None:
        """Commit a finished round."""
        with database.faults(self.path):
            self._put_round(trial, one)

    def add_log(self, trial: str, text: str) -> None:
        """Keep the engine's own log of one start."""
        with database.faults(self.path):
            self._put_log(trial, text)

    def finish(self, record: Record) -> None:
        """End a trial: its record, and those of its rounds that weren't added before."""
        with database.faults(self.path), database.transaction(self._db):
            self._put_record(record)

    def add(self, record: Record, logs: Sequence[str] = ()) -> bool:
        """Take in a record of another store, with its run. False: it is here already."""
        with database.faults(self.path), database.transaction(self._db):
            if self._db.execute("SELECT 1 FROM trials WHERE id = ?", (record.id,)).fetchone():
                return False
            if not self._db.execute("SELECT 1 FROM runs WHERE id = ?", (str(record.run["id"]),)).fetchone():
                self._put_run(record.run)
            self._put_trial(record.id, str(record.run["id"]), record.started, record.trial, record.facts)
            for text in logs:
                self._put_log(record.id, text)
            self._put_record(record)
        return True

    def among(self, wanted: Sequence[str]) -> list[str]:
        """Those of these ids that are here already."""
        with database.faults(self.path):
            query = "SELECT id FROM trials WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id"
            return [id for (id,) in self._db.execute(query, (json.dumps(list(wanted)),))]

    def check(self, record: Record) -> None:
        """Raise ``StoreError`` where another record has the same id."""
        for mine in self.records(Where(ids=[record.id]), samples=True):
            if records.to_json(mine) != records.to_json(record):
                raise StoreError(
                    f"{record.id} is in {self.path} already, and is not the same",
                    "One of the two was changed. Take it into another store: --store.",
                )

    def _put_run(self, meta: Mapping[str, object]) -> None:
        values = (str(meta["id"]), str(meta.get("name") or ""), str(meta.get("started") or ""), packing.dumps(meta))
        self._db.execute("INSERT INTO runs VALUES (?, ?, ?, ?)", values)

    def _put_trial(self, id: str, run: str, started: str, trial: Trial, facts: Facts) -> None:
        names = (trial.device, trial.model, trial.engine, trial.backend, trial.scenario)
        values = (id, run, started, *names, packing.dumps(trial.options), packing.pack(facts.document()))
        self._db.execute(f"INSERT INTO trials VALUES ({_marks(values)})", values)

    def _put_round(self, trial: str, one: Round) -> None:
        values = (
            trial,
            one.index,
            packing.pack(records.round_to_json(one, samples=False)),
            packing.pack(packing.columns(one.samples)),
        )
        self._db.execute(f"INSERT INTO rounds VALUES ({_marks(values)})", values)

    def _put_log(self, trial: str, text: str) -> None:
        self._db.execute(
            "INSERT INTO logs SELECT ?, count(*), ? FROM logs WHERE trial = ?",
            (trial, zlib.compress(text.encode("utf-8", "surrogateescape")), trial),
        )

    def _put_record(self, record: Record) -> None:
        there = {number for (number,) in self._db.execute("SELECT number FROM rounds WHERE trial = ?", (record.id,))}
        for one in record.rounds:
            if one.index not in there:
                self._put_round(record.id, one)
        doc = records.to_json(replace(record, rounds=()))
        lead: list[float | None] = []
        for name in INDEXED:
            metric = record.metrics.get(name)
            lead += [metric.value, metric.low, metric.high] if metric else [None] * 3
        names = " ".join(dict.fromkeys(doubt.id for doubt in record.doubts))
        failure = record.failure.message if record.failure else ""
        values = (record.id, record.status, names, failure, *lead)
        self._db.execute(f"INSERT INTO records VALUES ({_marks(values)})", values)
        self._db.execute("INSERT INTO documents VALUES (?, ?)", (record.id, packing.pack(doc)))

    # --- reading ---------------------------------------------------------------------------

    def records(self, where: Where = EVERY, *, samples: bool = False, rounds: bool = True) -> Iterator[Record]:
        """Records with their rounds, oldest first; with the raw samples where asked for.

        They are read a few at a time as one goes through them, so that no store is too large.
        Without rounds (their metrics keep what each round read) a large store is read much faster.
        A trial that has none yet gives one of status ``running`` or ``interrupted``.
        """
        found = self.chosen(where)
        with database.faults(self.path):
            for start in range(0, len(found), AT_ONCE):
                yield from self._read(found[start : start + AT_ONCE], samples, rounds)

    def _read(self, wanted: Sequence[str], samples: bool, rounds: bool) -> Iterator[Record]:
        """Records by their ids, oldest first."""
        query = (
            "SELECT trials.*, runs.meta, documents.doc FROM trials JOIN runs ON runs.id = trials.run "
            "LEFT JOIN documents ON documents.trial = trials.id "
            "WHERE trials.id IN (SELECT value FROM json_each(?)) ORDER BY trials.id"
        )
        for *trial, meta, doc in self._db.execute(query, [json.dumps(wanted)]).fetchall():
            if doc is None:
                yield _unfinished(trial, json.loads(meta), self._rounds(trial[0], samples))
                continue
            own = self._rounds(trial[0], samples) if rounds else ()
            yield replace(records.from_json(packing.unpack(doc)), rounds=own)

    def record(self, prefix: str) -> Record:
        """One record, samples and all, by the beginning of its id. Raises ``UsageError``."""
        (record,) = self.records(Where(ids=[self.find(prefix)]), samples=True)
        return record

    def find(self, prefix: str) -> str:
        """The id that begins so. Raises ``UsageError`` for none or several."""
        with database.faults(self.path):
            # The range lets the index answer; ids are ASCII.
            query = "SELECT id FROM trials WHERE id >= ? AND id < ? ORDER BY id"
            there = [id for (id,) in self._db.execute(query, (prefix, prefix + "\U0010ffff"))]
        if len(there) == 1 or prefix in there:
            return prefix if prefix in there else there[0]
        if not there:
            raise UsageError(f"no result begins with {prefix!r} in {self.path}", "See: edgebench results list")
        raise UsageError(
            f"{len(there)} results begin with {prefix!r}", f"Such as {', '.join(there[:3])}: write more of it."
        )

    def rows(self, where: Where = EVERY) -> list[Row]:
        """The lines of a table, oldest first, from columns alone."""
        condition, values = clause(where)
        shown = ", ".join(f"records.{name}" for name in Row._fields[Row._fields.index("status") :])
        query = (
            "SELECT trials.id, trials.run, runs.name, trials.started, device, model, engine, backend, scenario, "
            f"options, {shown} "
            f"FROM trials JOIN runs ON runs.id = trials.run LEFT JOIN records ON records.trial = trials.id {condition}"
        )
        with database.faults(self.path):
            return list(map(Row._make, self._db.execute(query, values)))

    def chosen(self, where: Where = EVERY) -> list[str]:
        """The ids of records, oldest first."""
        condition, values = clause(where)
        query = f"SELECT trials.id FROM trials JOIN runs ON runs.id = trials.run {condition}"
        with database.faults(self.path):
            return [id for (id,) in self._db.execute(query, values)]

    def count(self, where: Where = EVERY) -> int:
        """How many records there are."""
        condition, values = clause(where)
        with database.faults(self.path):
            query = f"SELECT count(*) FROM (SELECT 1 FROM trials JOIN runs ON runs.id = trials.run {condition})"
            return int(self._db.execute(query, values).fetchone()[0])

    def logs(self, id: str) -> list[str]:
        """The engine's own logs of a trial, one a start."""
        with database.faults(self.path):
            found = self._db.execute("SELECT text FROM logs WHERE trial = ? ORDER BY number", (id,))
            return [zlib.decompress(text).decode("utf-8", "surrogateescape") for (text,) in found]

    def _rounds(self, trial: str, samples: bool) -> tuple[Round, ...]:
        rounds = []
        query = f"SELECT data, {'samples' if samples else 'NULL'} FROM rounds WHERE trial = ? ORDER BY number"
        for data, packed in self._db.execute(query, (trial,)):
            one = records.round_from_json(packing.unpack(data))
            rounds.append(replace(one, samples=packing.samples(packing.unpack(packed))) if packed else one)
        return tuple(rounds)


def _unfinished(trial: Sequence[str], meta: dict[str, object], rounds: tuple[Round, ...]) -> Record:
    id, _, started, device, model, engine, backend, scenario, options, facts = trial
    running = _alive(Fields(meta.get("process")))
    record = Record(
        id=id,
        run=_public(meta),
        status="running" if running else "interrupted",
        trial=Trial(device, model, engine, backend, scenario, json.loads(options)),
        facts=Facts.from_document(packing.unpack(facts)),  # type: ignore[arg-type]  # the one blob among the texts
        metrics=over_rounds(rounds),
        rounds=rounds,
        failure=None if running else Failure("the run was ended before this trial was", "Run it again."),
        started=started,
    )
    # What still runs has neither all its rounds nor what its engine says of itself.
    return record if running else replace(record, doubts=judge.judge(record))


def _public(meta: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in meta.items() if key != "process"}


def _alive(process: Fields) -> bool:
    """Whether the process that began a run still runs, here."""
    import psutil

    pid, created = process.integer("pid"), process.number("created")
    if process.text("host") != platform.node() or pid is None or created is None:
        return False
    try:
        return bool(abs(psutil.Process(pid).create_time() - created) < 10)
    except psutil.Error:
        return False


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
