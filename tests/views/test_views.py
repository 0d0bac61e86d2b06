"""Plain views: what leads, what is honest, and text that stays text."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab.records import conversation, record
from rich.cells import cell_len

from edgebench import plugins
from edgebench.core import Failure, Metric, Record, Round, RoundNotes, View
from edgebench.judging import doubts
from edgebench.views.detail import detail
from edgebench.views.markdown import escape
from edgebench.views.table import draw
from edgebench.views.text import clean

LEAD = {
    "peak_footprint_b": 300.0 * 1024**2,
    "load_s": 0.8,
    "decode_tps": 40.0,
    "ttft_s": 0.25,
    "prefill_tps": 310.0,
}
EVIL = "\x1b[31m=cmd|' /C calc'!A0\u202e<script>alert(1)</script>|`[bold]x[/bold]\r\n\x00end"


def sweep() -> list[Record]:
    options = [{"threads": threads, "ctx": 2048} for threads in (1, 2, 4)]
    return [record(metrics=LEAD, options=one) for one in options]


@pytest.mark.parametrize("name", ["table", "markdown", "csv", "json", "jsonl"])
def test_every_view_takes_no_records_one_and_failed_ones(name: str) -> None:
    view = plugins.load("views", name)()
    assert isinstance(view, View)
    lost = record(status="lost", failure=Failure("the cable was pulled", "Plug it in."))
    for records in ([], [record()], [lost], [*sweep(), lost]):
        text = view.render(records)
        assert text.endswith("\n") or not text
        assert not re.search(r"\bnan\b", text)
        assert name == "json" or ("the cable was pulled" in text) == (lost in records)


# --- the table ---------------------------------------------------------------------------------


def test_the_lead_figures_come_in_their_order_with_intervals() -> None:
    lines = draw(sweep()).splitlines()
    first, second = lines[1], lines[2]
    assert re.findall(r"\S+", second) == [
        "result",
        "threads",
        "footprint",
        "time",
        "tokens/s",
        "token",
        "token",
        "tokens/s",
    ]
    assert re.findall(r"\S+", first) == ["memory", "load", "ms", "per", "first", "prefill"]
    assert re.search(r"300 MiB\s+800 ms\s+40\.0\s+25\.0\s+250 ms\s+310", lines[4])
    assert re.search(r"294–306\s+784–816\s+39\.2–40\.8\s+24\.5–25\.5\s+245–255\s+304–316", lines[5])


def test_only_what_differs_is_a_column() -> None:
    text = draw(sweep())
    assert "threads" in text.splitlines()[2]
    assert text.splitlines()[0].startswith("device synthetic-laptop · synthetic-1b · llama.cpp · cpu · throughput")
    assert "ctx 2048" in text.splitlines()[0]
    assert "synthetic-laptop" not in "".join(text.splitlines()[1:])


def test_doubts_and_failures_stand_under_the_table_with_what_to_do() -> None:
    failed = record(status="failed", failure=Failure("the engine died by SIGILL", "Give it --no-repack.", 132))
    text = draw([record(doubts=["steal"]), failed])
    assert "! steal: synthetic" in text
    assert "hypervisor" in text
    assert f"{failed.id} failed: the engine died by SIGILL\n  Give it --no-repack." in text
    assert text.endswith(f"Next: edgebench results show {failed.id}\n")


def test_a_figure_that_was_not_measured_is_a_dash_and_never_zero() -> None:
    text = draw([record(metrics={"decode_tps": 40.0}), record(metrics={"load_s": 1.0})])
    assert re.search(r"–\s+40\.0", text)
    assert not re.search(r"\s0(\.0+)?\s", text)


def test_one_round_has_no_interval() -> None:
    assert "–" not in "".join(draw([record(rounds=1, metrics={"decode_tps": 40.0})]).splitlines()[4:])


@pytest.mark.parametrize("width", [40, 60, 72, 80, 100, 160])
def test_it_fits_the_terminal_and_says_what_it_left_out(width: int) -> None:
    names = ["phone", "a-rather-long-name-of-a-device-in-a-lab"]
    records = [record(metrics=LEAD, device=name, id=f"2mz3a5wfscz{name[0]}") for name in names]
    text = draw(records, width=width)
    assert all(cell_len(line) <= width for line in text.splitlines())
    assert ("39.2–40.8  24.5–25.5" in text) == (width >= 72)
    assert "prefill" in text
    assert ("columns that do not fit" in text) == (width < 120)


def test_an_options_heading_stands_on_two_lines() -> None:
    made = [record(options={"ctx": 64, "prompt_tokens": n}) for n in (1, 2)]
    lines = draw(made, width=80).splitlines()
    assert "prompt " in lines[1]
    assert "tokens " in lines[2]


def test_colour_only_where_asked_for() -> None:
    assert "\x1b[" not in draw([record(doubts=["steal"])])
    assert "\x1b[" in draw([record(doubts=["steal"])], colour=True)


@given(st.text(max_size=40), st.integers(40, 200))
def test_no_name_can_steer_a_terminal_or_break_the_table(name: str, width: int) -> None:
    odd = record(
        device=name, model=EVIL, metrics=LEAD, options={"x": EVIL}, status="failed", failure=Failure(EVIL, EVIL)
    )
    for text in (draw([odd, record(metrics=LEAD)], width=width), detail(odd)):
        assert all(char.isprintable() or char in "\n\u200c\u200d" for char in text)


def test_markup_in_names_stays_text() -> None:
    assert "[bold]x[/bold]" in draw([record(model="[bold]x[/bold]", metrics=LEAD)])


# --- CSV ---------------------------------------------------------------------------------------


def _rows(records: list[Record]) -> list[dict[str, str]]:
    text = plugins.load("views", "csv")().render(records)
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_has_one_observation_a_row_and_units_in_the_header() -> None:
    records = sweep()
    rows = _rows(records)
    assert len(rows) == 15
    assert [row["round"] for row in rows[:5]] == ["0", "1", "2", "3", "4"]
    measured = [float(row["decode_tps [tokens/s]"]) for row in rows[:5]]
    assert measured == list(records[0].metrics["decode_tps"].rounds)
    assert {"load_s [s]", "peak_footprint_b [bytes]"} <= set(rows[0])
    assert [row["option_threads"] for row in rows[::5]] == ["1", "2", "4"]


def test_csv_leaves_a_missing_reading_empty_and_shows_failed_trials() -> None:
    one = record(metrics={"decode_tps": 40.0})
    gap = replace(one, metrics={"decode_tps": Metric(40.0, "tokens/s", (40.0, None, 40.0, 40.0, 40.0))})
    rows = _rows([gap, record(status="failed", failure=Failure("died"))])
    assert [row["decode_tps [tokens/s]"] for row in rows] == ["40.0", "", "40.0", "40.0", "40.0", ""]
    assert (rows[-1]["status"], rows[-1]["failure"], rows[-1]["round"]) == ("failed", "died", "")


@given(st.text(max_size=30))
def test_no_text_in_csv_is_a_formula_and_all_of_it_comes_back(name: str) -> None:
    (row, *_) = _rows([record(device=name, metrics={"ttft_s": 1.0}, options={"x": -1})])
    assert row["device"] in (clean(name), f"'{clean(name)}")
    assert not row["device"].startswith(tuple("=+-@\uff1d\uff0b\uff0d\uff20"))
    assert row["option_x"] == "-1"


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t=", "\r=", "\n=", " =", "\uff1d", "\u202e="])
def test_a_formula_is_text_however_it_begins(sign: str) -> None:
    (row, *_) = _rows([record(device=f"{sign}cmd|' /C calc'!A0", model=f"{sign}1+1")])
    for name in ("device", "model"):
        assert row[name].startswith(("'", "\ufffd"))


# --- Markdown ----------------------------------------------------------------------------------


def test_markdown_is_a_table_with_figures_and_intervals() -> None:
    lines = plugins.load("views", "markdown")().render(sweep()).splitlines()
    assert lines[2] == (
        "| threads | memory footprint | load time | tokens/s | ms per token | first token | prefill tokens/s | doubts |"
    )
    assert lines[4].startswith("| 1 | 300 MiB [294–306] | 800 ms [784–816] | 40.0 [39.2–40.8] | 25.0 [24.5–25.5] |")


def test_markdown_has_memory_by_kind_where_it_was_split() -> None:
    mib = 1024.0**2
    parts = {"peak_anon_b": 180 * mib, "peak_file_b": 100 * mib, "peak_gpu_b": 20 * mib}
    records = [record(metrics={**LEAD, **parts}, options={"threads": 1}), record(metrics=LEAD, options={"threads": 2})]
    lines = plugins.load("views", "markdown")().render(records).splitlines()
    at = lines.index("Peak memory by type:")
    assert lines[at + 2 : at + 6] == [
        r"| threads | memory footprint | anonymous | files (weights mapped) | GPU | resident, not split |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| 1 | 300 MiB | 180 MiB | 100 MiB | 20.0 MiB | – |",
        "| 2 | 300 MiB | – | – | – | 300 MiB |",
    ]
    assert "Peak memory by type:" not in plugins.load("views", "markdown")().render(sweep())


@given(st.text(max_size=30))
def test_every_row_of_a_markdown_table_has_the_same_cells(name: str) -> None:
    text = plugins.load("views", "markdown")().render([record(device=name), record(device=EVIL, doubts=["steal"])])
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 4
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1


def test_nothing_in_markdown_is_html() -> None:
    assert "<script" not in escape("<script>alert(1)</script>").replace("\\<", "")
    assert escape("a|b `c` [d](e) **f**") == r"a\|b \`c\` \[d\](e) \*\*f\*\*"


# --- JSON --------------------------------------------------------------------------------------


def test_json_lines_are_the_documents_records() -> None:
    records = sweep()
    document = json.loads(plugins.load("views", "json")().render(records))
    lines = plugins.load("views", "jsonl")().render(records).splitlines()
    assert [json.loads(line) for line in lines] == document["records"]


# --- one record --------------------------------------------------------------------------------


def test_one_record_in_full() -> None:
    one = record(metrics=LEAD, turns=conversation(3), doubts=["steal"], notes=["a note"])
    text = detail(one)
    assert re.search(r"decode_tps\s+40\.0 tokens/s\s+39\.2–40\.8", text)
    assert re.search(r"conversation 1, turn 2\s+500\s+250\s+–\s+400 ms", text)
    assert "! steal: synthetic\n  A hypervisor" in text
    twice = (doubts.new_doubt("spread", "load_s"), doubts.new_doubt("steal"), doubts.new_doubt("spread", "decode_tps"))
    assert "! spread: load_s\n! spread: decode_tps\n  The rounds" in detail(replace(one, doubts=twice))
    assert "device.cpu: Synthetic CPU" in text
    assert "note: a note" in text
    assert "command: edgebench run" in text


def test_a_failed_record_shows_its_last_log_lines() -> None:
    failure = Failure("the engine died", "Look.", 132, "SIGILL", ("loading\x1b[2J", "illegal instruction"))
    text = detail(record(status="failed", failure=failure))
    assert "why: the engine died (SIGILL)" in text
    assert "   | illegal instruction" in text
    assert "\x1b" not in text


def test_of_a_trial_that_never_ran_the_estimate_alone_is_shown() -> None:
    estimate = {"weights_b": 2.0**20, "kv_b": 2.0**20, "compute_b": 2.0**20, "total_b": 3 * 2.0**20}
    facts = {"model": {"estimate": estimate}}
    gone = Failure("the engine died by SIGKILL while it was loading", signal="SIGKILL")
    shown = detail(record(status="failed", failure=gone, facts=facts))
    assert "memory    estimated\nweights    1.00 MiB\n" in shown
    assert "not reported" not in shown
    assert shown.count("SIGKILL") == 1
    measured = detail(record(facts=facts))
    assert re.search(r"together +3\.00 MiB +300 MiB +100\.00 +measured", measured)


def test_facts_are_written_for_people() -> None:
    facts = {"device": {"ram_b": 2**34, "at_start": {"load": 0.15463917525773196}, "sets": ["AVX", "FMA"], "gpu": None}}
    shown = detail(record(facts=facts))
    assert "device.ram_b: 16.0 GiB\ndevice.at_start.load: 0.1546\ndevice.sets: AVX, FMA\n" in shown
    assert "gpu" not in shown


def test_a_note_names_the_results_it_is_about() -> None:
    view = plugins.load("views", "table")()
    ran = record(id="aaaa"), record(id="bbbb", notes=["memory ran out here"], options={"ctx": 4096})
    assert "note: memory ran out here  (bbbb)\n" in view.render(ran)
    assert "note: memory ran out here\n" in view.render(ran[1:])


def test_one_record_says_how_its_readings_were_had() -> None:
    notes = {
        "sampling_absent": {"power_w": "/sys/a: Permission denied", "gpu_util": "sh: 1: nvidia-smi: not found"},
        "sampling_cost": 0.0021,
        "clock_uncertainty_s": 0.0125,
        "cpu_by_core": {"0": 0.98, "1": 0.5},
        "cpu_by_cluster": {"0": 0.98, "1": 0.5},
        "mbu_by_depth": [[128.0, 0.61], [1024.0, 0.58]],
        "throttling": [{"at_s": 12.3, "by": "clock limit of cores 0-3"}],
        "energy": {"metered": ["dram-0", "package-0"], "whole_device": False},
        "gate": {"waited_s": 3.1, "missed": []},
    }
    there = {**notes, "sampling_absent": {"power_w": EVIL, "temp_c": "only in one round"}}
    rounds = (
        Round(0, "", {}, notes=RoundNotes.from_document(there)),
        Round(1, "", {}, notes=RoundNotes.from_document(notes)),
    )
    said = detail(replace(record(), rounds=rounds))
    for line in (
        "not sampled: power_w: /sys/a: Permission denied",
        "sampling took: 0.210 % of a core",
        "uncertainty of the device's clock: ± 12.5 ms",
        "CPUs in use: 0: 98.0 %, 1: 50.0 %",
        "clusters in use: 0: 98.0 %, 1: 50.0 %",
        "memory bandwidth in use: 61.0 % at 128 tokens, 58.0 % at 1024 tokens",
        "throttling began: round 2 at 12.3 s: clock limit of cores 0-3",
        "energy metered by: dram-0, package-0 (these parts only)",
        "waited for a cool and idle device: 6.2 s in 2 rounds",
    ):
        assert line in said.splitlines(), said
    assert "temp_c" not in said
    assert "gpu_util" not in said
    assert EVIL not in detail(replace(record(), rounds=(Round(0, "", {}, notes=RoundNotes.from_document(there)),)))
