-- What a table shows lies by itself, so that its query reads a fifth of the pages: the documents, which
-- only whole records need, get a table of their own, and an index holds what is shown of a trial.
CREATE TABLE documents (
    trial TEXT PRIMARY KEY REFERENCES trials (id),
    doc BLOB NOT NULL               -- zlib of JSON: the record without its rounds
);
INSERT INTO documents SELECT trial, doc FROM records ORDER BY trial;
ALTER TABLE records RENAME TO records_2;
CREATE TABLE records (
    trial TEXT PRIMARY KEY REFERENCES trials (id),
    status TEXT NOT NULL,
    doubts TEXT NOT NULL,           -- ids, joined by spaces
    failure TEXT NOT NULL,
    peak_footprint_b REAL, peak_footprint_b_low REAL, peak_footprint_b_high REAL,
    load_s REAL, load_s_low REAL, load_s_high REAL,
    decode_tps REAL, decode_tps_low REAL, decode_tps_high REAL,
    ttft_s REAL, ttft_s_low REAL, ttft_s_high REAL,
    prefill_tps REAL, prefill_tps_low REAL, prefill_tps_high REAL
) WITHOUT ROWID;
INSERT INTO records SELECT
    trial, status, doubts, failure,
    peak_footprint_b, peak_footprint_b_low, peak_footprint_b_high,
    load_s, load_s_low, load_s_high,
    decode_tps, decode_tps_low, decode_tps_high,
    ttft_s, ttft_s_low, ttft_s_high,
    prefill_tps, prefill_tps_low, prefill_tps_high
FROM records_2 ORDER BY trial;
DROP TABLE records_2;
CREATE INDEX trials_shown ON trials (id, run, started, device, model, engine, backend, scenario, options);
CREATE TRIGGER records_stay BEFORE UPDATE ON records BEGIN SELECT RAISE(ABORT, 'the store is append-only'); END;
CREATE TRIGGER records_kept BEFORE DELETE ON records BEGIN SELECT RAISE(ABORT, 'the store is append-only'); END;
CREATE TRIGGER documents_stay BEFORE UPDATE ON documents BEGIN SELECT RAISE(ABORT, 'the store is append-only'); END;
CREATE TRIGGER documents_kept BEFORE DELETE ON documents BEGIN SELECT RAISE(ABORT, 'the store is append-only'); END;
