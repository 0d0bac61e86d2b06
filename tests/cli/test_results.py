"""``edgebench results`` as it is typed."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import re
import shlex
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

import jsonschema
import pytest
from lab.paths import ROOT
from lab.records import conversation, record, samples
from lab.stores import DEFAULT, Call, fill

from edgebench.core import Failure, Record
from edgebench.errors import StoreError, UsageError
from edgebench.store.since import start_time

SCHEMA = jsonschema.Draft202012Validator(json.loads((ROOT / "docs/schemas/records.json").read_text("utf-8")))


def kept(*made: Record, name: str = "nightly") -> list[Record]:
    """Records in the store that is looked in."""
    log = "llama: loading\nllama: \x1b[2Jdone\n"
    return fill(DEFAULT, *made, name=name, command="edgebench run --threads 1,2", logs=[log])


def test_where_nobody_measured_yet_it_says_what_to_do(call: Call) -> None:
    for command in ("list", "export"):
        result = call("results", command)
        assert result.exit_code == 0
        assert "no results yet" in result.stderr
        assert "edgebench run" in result.stderr
    assert json.loads(call("results", "list", "--json").stdout) == {"schema": 2, "records": []}
    assert not DEFAULT.parent.exists()


def test_a_store_that_was_named_must_be_there(call: Call) -> None:
    with pytest.raises(StoreError, match=r"other\.sqlite does not exist"):
        call("results", "list", "--store", "other.sqlite")


def test_list_shows_the_newest_and_says_how_to_see_all(call: Call) -> None:
    kept(*(record(options={"threads": n}) for n in range(1, 25)))
    result = call("results", "list")
    assert result.stdout.count("MiB") == 20
    assert "the newest 20 of 24; show all with --newest 24" in result.stderr
    assert call("results", "list", "--newest", 24).stdout.count("MiB") == 24
    assert len(json.loads(call("results", "list", "--json").stdout)["records"]) == 24


def test_list_filters(call: Call, tmp_path: Path) -> None:
    one, other = kept(record(device="a"), record(device="b", backend="cuda"))
    kept(record(device="c"), name="weekly")

    def listed(*argv: str) -> list[str]:
        document = json.loads(call("results", "list", "--json", *argv).stdout)
        SCHEMA.validate(document)
        return [each["trial"]["device"] for each in document["records"]]

    assert listed("--device", "a", "--device", "b") == ["a", "b"]
    assert listed("--backend", "cuda") == ["b"]
    assert listed("--run", "weekly") == ["c"]
    assert listed("--run", one.run["id"]) == ["a", "b"]
    assert listed("--newest", "1") == ["c"]
    assert listed("--since", "1h") == ["a", "b", "c"]
    assert listed("--since", "2099-01-01") == []
    assert listed("--device", "$(nobody)") == []
    assert other.id


def test_the_store_by_environment(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "elsewhere.sqlite", record(device="there"))
    monkeypatch.setenv("EDGEBENCH_STORE", str(tmp_path / "elsewhere.sqlite"))
    assert "device there" in call("results", "list").stdout


def test_show_takes_the_beginning_of_an_id(call: Call) -> None:
    (one,) = kept(record(turns=conversation(2), samples=samples(2), doubts=["steal"]))
    shown = call("results", "show", one.id[:5]).stdout
    assert shown.startswith(f"{one.id}  ok")
    assert "(nightly)" in shown
    assert "conversation 1, turn 2" in shown
    assert "command: edgebench run --threads 1,2" in shown
    document = json.loads(call("results", "show", one.id, "--json").stdout)
    SCHEMA.validate(document)
    assert len(document["records"][0]["rounds"][0]["samples"]) == len(samples(2))


def test_show_log_prints_the_engines_log_and_nothing_that_steers_a_terminal(call: Call) -> None:
    (one,) = kept(record())
    assert call("results", "show", one.id, "--log").stdout == "llama: loading\nllama: \ufffd[2Jdone\n"


def test_show_of_nothing(call: Call) -> None:
    kept(record())
    with pytest.raises(UsageError, match="no result has the ID prefix 'zz'"):
        call("results", "show", "zz")


@pytest.mark.parametrize("form", ["csv", "json", "jsonl", "markdown", "table"])
def test_export_to_a_file_is_what_stdout_gets(call: Call, tmp_path: Path, form: str) -> None:
    kept(record(), record(status="failed", failure=Failure("died")))
    stdout = call("results", "export", "--format", form).stdout
    result = call("results", "export", "--format", form, "-o", "out dir/results.x")
    assert result.stdout == ""
    assert "wrote out dir/results.x" in result.stderr
    assert (tmp_path / "out dir/results.x").read_text("utf-8") == stdout
    assert [file.name for file in (tmp_path / "out dir").iterdir()] == ["results.x"]


@pytest.mark.parametrize("form", ["csv", "json", "jsonl", "markdown"])
def test_records_are_read_a_few_at_a_time_and_none_is_lost(
    call: Call, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    kept(*(record(options={f"option_{n}": n, "threads": n}) for n in range(7)))
    whole = call("results", "export", "--format", form).stdout
    monkeypatch.setattr("edgebench.store.results.BATCH_SIZE", 3)
    assert call("results", "export", "--format", form).stdout == whole
    assert all(f"option_{n}" in whole or f"option\\-{n}" in whole or f"option-{n}" in whole for n in range(7))


def test_exported_csv_is_tidy(call: Call) -> None:
    kept(record(options={"threads": 4}))
    rows = list(csv.DictReader(io.StringIO(call("results", "export", "--format", "csv").stdout)))
    assert [row["round"] for row in rows] == ["0", "1", "2", "3", "4"]
    assert all(float(row["decode_tps [tokens/s]"]) > 0 and row["option_threads"] == "4" for row in rows)


def test_parquet_holds_what_the_csv_holds(call: Call, tmp_path: Path) -> None:
    import polars

    made = [record(options={"threads": 4, "gpu_layers": 3}), record(options={"threads": 2, "gpu_layers": "all"})]
    kept(*made, record(status="failed", failure=Failure("died")))
    call("results", "export", "--format", "parquet", "-o", "results.parquet")
    frame = polars.read_parquet(tmp_path / "results.parquet")
    rows = list(csv.DictReader(io.StringIO(call("results", "export", "--format", "csv").stdout)))
    assert frame.columns == list(rows[0])
    assert frame.height == len(rows) == 11
    assert frame["decode_tps [tokens/s]"].drop_nulls().to_list() == [
        float(row["decode_tps [tokens/s]"]) for row in rows[:10]
    ]
    assert frame["option_threads"].to_list()[::5] == [4, 2, None]
    assert frame["option_gpu_layers"].to_list()[::5] == ["3", "all", None]


def test_without_a_library_for_parquet_it_says_which(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(record())
    monkeypatch.setattr("edgebench.views.parquet._LIBRARIES", ())
    with pytest.raises(UsageError, match="Parquet export requires polars, pyarrow or pandas") as caught:
        call("results", "export", "--format", "parquet", "-o", "results.parquet")
    assert "pip install polars" in caught.value.hint
    assert not Path("results.parquet").exists()


def test_parquet_of_nothing(call: Call, tmp_path: Path) -> None:
    call("results", "export", "--format", "parquet", "-o", "results.parquet")
    assert (tmp_path / "results.parquet").read_bytes().startswith(b"PAR1")


def test_an_output_that_cannot_be_written(call: Call, tmp_path: Path) -> None:
    kept(record())
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        call("results", "export", "-o", "file/x.json")


def test_unknown_words_are_refused_with_the_near_one(call: Call) -> None:
    result = call("results", "lits")
    assert result.exit_code == 2
    assert "Did you mean list?" in result.stderr
    assert call("results", "export", "--format", "xls").exit_code == 2


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("7d", "2026-01-03T12:00:00.000Z"),
        ("90m", "2026-01-10T10:30:00.000Z"),
        ("2w", "2025-12-27T12:00:00.000Z"),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000Z"),
        ("2026-01-01T01:30+02:00", "2025-12-31T23:30:00.000Z"),
    ],
)
def test_since(text: str, when: str) -> None:
    assert start_time(text, now=datetime(2026, 1, 10, 12, tzinfo=timezone.utc)) == when


@pytest.mark.parametrize("text", ["", "yesterday", "7 years", "2026-13-01", "999999w", "٣d"])
def test_a_time_that_is_none(text: str) -> None:
    with pytest.raises(UsageError, match="is not a valid date or duration"):
        start_time(text)


def test_the_option_is_named_and_a_store_in_memory_is_refused(call: Call) -> None:
    with pytest.raises(UsageError, match="--since: 'yesterday' is not a valid date"):
        call("results", "list", "--since", "yesterday")
    with pytest.raises(StoreError, match="a store is a file, and cannot be :memory:"):
        call("results", "list", "--store", ":memory:")


def test_help_names_every_command(call: Call) -> None:
    text = call("results", "--help").stdout
    assert all(re.search(rf"^  {command}\b", text, re.M) for command in ("list", "show", "export"))


# --- a real terminal, and a real pipe ----------------------------------------------------------


def in_terminal(columns: int, **environment: str) -> str:
    """What ``results list`` writes to a terminal that is so many columns wide."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    inherited = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS")}
    process = subprocess.Popen(
        [sys.executable, "-m", "edgebench", "results", "list"],
        stdout=slave,
        stderr=subprocess.PIPE,
        env={**inherited, "TERM": "xterm-256color", **environment},
    )
    os.close(slave)
    seen = b""
    # The kernel says EIO once the last writer has closed its side.
    with suppress(OSError):
        while piece := os.read(master, 65536):
            seen += piece
    os.close(master)
    assert process.stderr
    assert process.communicate(timeout=120)[1] == b""
    assert process.returncode == 0
    return seen.decode().replace("\r\n", "\n")


def test_a_terminal_gets_colour_and_its_own_width(call: Call) -> None:
    kept(*(record(options={"threads": n}, doubts=["steal"]) for n in (1, 2)))
    text = in_terminal(64)
    assert "\x1b[" in text
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert max(map(len, plain.splitlines())) <= 64
    assert "\x1b[" not in in_terminal(64, NO_COLOR="1")


def test_a_pipe_gets_utf8_without_colour_whatever_the_locale(call: Call) -> None:
    kept(record(device="オネプラス"))
    ascii_only = {
        **os.environ,
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONIOENCODING": "ascii",
    }
    for words in (["list"], ["list", "--json"], ["export", "--format", "csv"]):
        command = [sys.executable, "-m", "edgebench", "results", *words]
        done = subprocess.run(command, check=False, capture_output=True, env=ascii_only, timeout=120)
        assert done.returncode == 0, done.stderr
        assert "オネプラス" in done.stdout.decode("utf-8")
        assert b"\x1b" not in done.stdout


@pytest.mark.parametrize("words", ["results export", "results list", "models list", "--help"])
def test_output_for_which_there_is_no_space_is_an_error_without_a_traceback(call: Call, words: str) -> None:
    kept(record())
    command = f"{shlex.quote(sys.executable)} -m edgebench {words} > /dev/full"
    done = subprocess.run(command, shell=True, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "edgebench: cannot write the output: No space left on device",
        "  Free some disk space and try again; finished rounds are in the store.",
    ]


def test_a_reader_that_leaves_early_is_no_error(call: Call) -> None:
    kept(*(record(options={"threads": n}, samples=samples(30)) for n in range(200)))
    command = f"{shlex.quote(sys.executable)} -m edgebench results export | head -c 100"
    done = subprocess.run(command, shell=True, check=False, capture_output=True, text=True, timeout=120)
    assert (done.stderr, len(done.stdout)) == ("", 100)
