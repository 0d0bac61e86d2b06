-- The store's tables. Rows are only ever added: the triggers below refuse anything else.
CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    started TEXT NOT NULL,
    meta TEXT NOT NULL              -- JSON: Record.run, and the process that runs it
);
CREATE TABLE trials (
    id TEXT PRIMARY KEY,            -- also the record's id
    run TEXT NOT NULL REFERENCES runs (id),
    started TEXT NOT NULL,
    device TEXT NOT NULL,
    model TEXT NOT NULL,
    engine TEXT NOT NULL,
    backend TEXT NOT NULL,
    scenario TEXT NOT NULL,
    options TEXT NOT NULL,          -- JSON
    facts BLOB NOT NULL             -- zlib of JSON, as known when the trial began
);
CREATE INDEX trials_by_run ON trials (run);
CREATE INDEX trials_by_start ON trials (started);
CREATE TABLE rounds (
    trial TEXT NOT NULL REFERENCES trials (id),
    number INTEGER NOT NULL,
    data BLOB NOT NULL,             -- zlib of JSON: the round without its samples
    samples BLOB NOT NULL,          -- zlib of JSON: {name and labels: [times, values]}
    PRIMARY KEY (trial, number)
);
CREATE TABLE logs (
    trial TEXT NOT NULL REFERENCES trials (id),
    number INTEGER NOT NULL,        -- one log per start of the engine
    text BLOB NOT NULL,             -- zlib of UTF-8
    PRIMARY KEY (trial, number)
);
CREATE TABLE records (              -- one row when a trial has ended; none: it runs, or was killed
    trial TEXT PRIMARY KEY REFERENCES trials (id),
    status TEXT NOT NULL,
    doc BLOB NOT NULL,              -- zlib of JSON: the record without its rounds
    doubts TEXT NOT NULL,           -- ids, joined by spaces
    failure TEXT NOT NULL,
    -- What tables show first, so that they need not open every document.
    peak_footprint_b REAL, peak_footprint_b_low REAL, peak_footprint_b_high REAL,
    load_s REAL, load_s_low REAL, load_s_high REAL,
    decode_tps REAL, decode_tps_low REAL, decode_tps_high REAL,
    ttft_s REAL, ttft_s_low REAL, ttft_s_high REAL,
    prefill_tps REAL, prefill_tps_low REAL, prefill_tps_high REAL
);
CREATE TRIGGER runs_stay BEFORE UPDATE ON runs BEGIN SELECT RAISE(ABORT, 'the store is append-only'); END;
CREATE TRIGGER runs_kept BEFORE DELETE ON runs BEGIN SELECT RAISE(ABORT, 'the store is append-only'); END;
CREATE TRIGGER trials_stay BEFORE UPDATE ON trials BEGIN SELECT RAISE(ABORT, 'the store is append-only'); END;
CREATE TRIGGER trials_kept BEFORE DELETE ON trials BEGIN SELECT RAISE(ABORT, 'the store is append-only'); END;
CREATE TRIGGER rounds_stay BEFORE UPDATE ON rounds BEGIN SELECT RAISE(ABORT, 'the store is append-only'); END;
CREATE TRIGGER rounds_kept BEFORE DELETE ON rounds BEGIN SELECT RAISE(ABORT, 'the store is append-only'); END;
CREATE TRIGGER logs_stay BEFORE UPDATE ON logs BEGIN SELECT RAISE(ABORT, 'the store is append-only'); END;
CREATE TRIGGER logs_kept BEFORE DELETE ON logs BEGIN SELECT RAISE(ABORT, 'the store is append-only'); END;
CREATE TRIGGER records_stay BEFORE UPDATE ON records BEGIN SELECT RAISE(ABORT, 'the store is append-only'); END;
CREATE TRIGGER records_kept BEFORE DELETE ON records BEGIN SELECT RAISE(ABORT, 'the store is append-only'); END;
