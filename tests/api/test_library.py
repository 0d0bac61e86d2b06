"""edgebench as a library: with the bundled engine, and every way in which a caller's own code can go wrong."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import fields, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_args
from xml.etree import ElementTree

import pytest
from lab.here import bundled_profile
from lab.paths import ROOT
from lab.records import record
from lab.tiny import tiny

import edgebench
from edgebench import modelfiles
from edgebench.api import results as results_module

QUICK = {"ctx": 256, "prompt_tokens": 8, "gen_tokens": 4, "rounds": 1, "settle": 0.0}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("models") / "small one.gguf")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGEBENCH_STORE", raising=False)
    return tmp_path


# --- what it costs and what it offers -----------------------------------------------------------


def test_the_import_brings_nothing_that_a_function_would_need() -> None:
    code = "import edgebench, sys; print(' '.join(sorted(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"click", "httpx", "numpy", "paramiko", "pydantic", "yaml", "rich", "altair", "asyncio", "edgebench.core"}
    assert heavy & set(loaded) == set()


def test_every_public_name_is_there_and_documented() -> None:
    page = (ROOT / "docs" / "python.md").read_text("utf-8")
    for name in edgebench.__all__:
        assert getattr(edgebench, name) is not None
        assert f"edgebench.{name}" in page, f"{name} is not in docs/python.md"
    exec("from edgebench import *", public := {})
    assert set(edgebench.__all__) <= set(public)
    assert set(dir(edgebench)) == set(edgebench.__all__)
    with pytest.raises(AttributeError, match="no attribute 'runn'"):
        _ = edgebench.runn  # type: ignore[attr-defined]


def test_what_a_caller_is_given_is_public(here: Path) -> None:
    events_documented = {event.__name__ for event in get_args(edgebench.Event)}
    assert events_documented <= set(edgebench.__all__)
    assert {type(device) for device in edgebench.devices()} == {edgebench.Device}
    assert {type(model) for model in edgebench.models()} == {edgebench.Model}
    one = record(turns=[edgebench.Turn(label="1")], doubts=["steal"])
    comparison = edgebench.compare([one], [replace(one, id="other")])
    (pair,) = comparison.pairs
    given = [comparison, pair, *pair.findings, pair.findings[0].change, one, one.trial, one.facts, one.rounds[0]]
    given += [one.rounds[0].turns[0], one.doubts[0], one.metrics["decode_tps"]]
    assert {type(value).__name__ for value in given} <= set(edgebench.__all__)


def test_a_page_of_the_documentation_names_the_fields_of_every_event() -> None:
    page = (ROOT / "docs" / "python.md").read_text("utf-8")
    for event in get_args(edgebench.Event):
        row = re.search(rf"^\| `edgebench\.{event.__name__}` \|.*$", page, re.MULTILINE)
        assert row
        for field in fields(event):
            assert f"`{field.name}`" in row[0], f"{event.__name__}.{field.name}"


def test_the_functions_are_not_hidden_by_what_they_import(here: Path) -> None:
    assert [device.name for device in edgebench.devices()].count("local") == 1
    assert "smollm2-135m-q4_1" in [model.name for model in edgebench.models()]
    assert callable(edgebench.models)


@pytest.mark.lab
def test_the_examples_of_the_documentation_run(here: Path) -> None:
    page = (ROOT / "docs" / "python.md").read_text("utf-8")
    examples = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(examples) >= 5
    script = here / "examples.py"
    script.write_text("\n".join(examples), encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Did you mean local?" in done.stdout
    assert (here / "report.html").stat().st_size > 10_000


# --- a run --------------------------------------------------------------------------------------


@pytest.mark.lab
def test_a_run_gives_what_the_store_keeps(here: Path, model: Path) -> None:
    seen: list[tuple[str, str]] = []
    results = edgebench.run(
        models=model, threads="1..2", on_event=lambda name, event: seen.append((name, type(event).__name__)), **QUICK
    )
    assert [one.trial.options["threads"] for one in results] == [1, 2]
    assert all(one.status == "ok" and one.id and one.run["id"] == results[0].run["id"] for one in results)
    assert seen[0] == ("local", "DeviceStarted")
    assert seen[-1] == ("local", "DeviceFinished")
    kinds = [kind for _, kind in seen]
    assert kinds.count("TrialPlanned") == kinds.count("RoundFinished") == kinds.count("TrialFinished") == 2
    assert (here / "reports" / "results.sqlite").is_file()
    assert _without_samples(edgebench.load()) == _without_samples(results)
    assert [one.id for one in edgebench.load(newest=1)] == [results[-1].id]


@pytest.mark.lab
def test_what_devices_and_models_return_can_be_run_and_so_can_paths(here: Path, model: Path) -> None:
    file = modelfiles.resolve(str(model))
    (here / "models").mkdir()
    (here / "models" / "mini.yaml").write_text(
        json.dumps({"name": "mini", "gguf": {"path": str(model), "quantization": file.quantization}}), encoding="utf-8"
    )
    mine = here / "my devices" / "mine.yaml"
    mine.parent.mkdir()
    mine.write_text("name: mine\nsystem: auto\ntransport: {kind: local}\n", encoding="utf-8")
    mini = [one for one in edgebench.models() if one.name == "mini"]
    local = [one for one in edgebench.devices() if one.name == "local"]
    results = edgebench.run((*local, mine), (one for one in (*mini, file)), **QUICK)
    configurations = {(one.trial.device, one.trial.model, one.status) for one in results}
    assert configurations == {(device, name, "ok") for device in ("local", "mine") for name in ("mini", "small one")}
    (single,) = edgebench.run(local[0], mini[0], **QUICK)
    assert (single.trial.device, single.trial.model) == ("local", "mini")
    with pytest.raises(edgebench.UsageError, match="two different models are called small one"):
        edgebench.run(models=[file, replace(file, sha256="0" * 64, path=here / "other.gguf")], **QUICK)


def _without_samples(results: edgebench.Results) -> list[edgebench.Record]:
    return [replace(one, rounds=tuple(replace(each, samples=()) for each in one.rounds)) for one in results]


@pytest.mark.lab
def test_a_model_that_cannot_be_loaded_is_a_failed_record_and_its_log_is_kept(here: Path, model: Path) -> None:
    broken = here / "broken.gguf"
    broken.write_bytes(model.read_bytes() + b"more")
    device = bundled_profile(here, "case $word in *broken*) echo 'tensor 7 is missing' >&2; exit 1;; esac")
    results = edgebench.run(device, [broken, model], **QUICK)
    assert {one.trial.model: one.status for one in results} == {"broken": "failed", "small one": "ok"}
    (failed,) = results.filter(status="failed")
    assert failed.failure is not None
    assert "tensor 7 is missing" in "\n".join(failed.failure.log)
    assert "tensor 7 is missing" in results.report(here / "report.html").read_text("utf-8")
    assert not results.errors


@pytest.mark.lab
def test_two_runs_of_one_process_share_a_store(here: Path, model: Path) -> None:
    done: list[edgebench.Results] = []
    threads = [
        threading.Thread(target=lambda: done.append(edgebench.run(models=model, name="shared", **QUICK)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert [len(one) for one in done] == [1, 1]
    assert len(edgebench.load(runs="shared")) == 2


@pytest.mark.lab
def test_what_a_callback_raises_ends_the_run_and_reaches_the_caller(here: Path, model: Path) -> None:
    class Mine(Exception):
        pass

    def stop(device: str, event: edgebench.Event) -> None:
        if isinstance(event, edgebench.RoundFinished):
            raise Mine

    with pytest.raises(Mine):
        edgebench.run(models=model, **{**QUICK, "rounds": 50}, on_event=stop)
    (kept,) = edgebench.load()
    assert len(kept.rounds) == 1


# --- bad input ----------------------------------------------------------------------------------


def test_names_and_options_that_make_no_sense_are_errors_with_a_hint(here: Path, model: Path) -> None:
    with pytest.raises(edgebench.ProfileError, match="no device named 'locl'") as typo:
        edgebench.run("locl")
    assert "Did you mean local" in typo.value.hint
    with pytest.raises(edgebench.UsageError, match="thraeds"):
        edgebench.run(models=model, **QUICK, thraeds=4)
    with pytest.raises(edgebench.UsageError, match=r"threads: '4\.\.1' is descending"):
        edgebench.run(models=model, **QUICK, threads="4..1")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"load": "colld"}, "load must be warm or cold, not 'colld'"),
        ({"rounds": 0}, "rounds must be between 1 and 1000, not 0"),
        ({"rounds": -1}, "rounds must be between 1 and 1000, not -1"),
        ({"rounds": "3"}, "rounds must be a whole number, not '3'"),
        ({"seed": -1}, "seed must be between 0 and 9223372036854775807, not -1"),
        ({"seed": "x"}, "seed must be a whole number, not 'x'"),
        ({"seed": 0.5}, "seed must be a whole number, not 0.5"),
        ({"settle": -1}, "settle must be at least 0, not -1"),
        ({"settle": float("nan")}, "settle must be at least 0, not nan"),
        ({"wait": "long"}, "wait must be a number, not 'long'"),
        ({"load_timeout": 0}, "load_timeout must be at least 0.001, not 0"),
        ({"target_ci": 5}, "target_ci must be between"),
        ({"threads": 0}, "threads must be at least 1, not 0"),
        ({"threads": -2}, "threads must be at least 1, not -2"),
        ({"threads": "many"}, "threads: 'many' is not a range"),
        ({"threads": 1.5}, "threads must be a whole number, not 1.5"),
        ({"threads": True}, "threads must be a whole number, not True"),
        ({"threads": [1, "2"]}, "threads must be a whole number, not '2'"),
        ({"threads": None}, "threads must be a value, a range such as '1..8' or a sequence"),
        ({"threads": []}, "threads must be a value"),
        ({"threads": [1, None]}, "threads must be a value"),
        ({"gen_tokens": 0}, "gen-tokens must be at least 1, not 0"),
        ({"gen_tokens": "few"}, "gen-tokens: 'few' is not a range"),
        ({"prompt_tokens": 1.5}, "prompt-tokens must be a whole number, not 1.5"),
        ({"depth": -1}, "depth must be at least 0, not -1"),
        ({"scenario": "decoding", "strategy": ["beem"]}, "strategy must be greedy or"),
        ({"affinity": "0-3"}, "no engine and no scenario has an option 'affinity'"),
        ({"devices": []}, "devices is empty"),
        ({"devices": ["local", 7]}, "devices must be a name or several of them, not 7"),
        ({"models": 7}, "models must be a name or several of them, not 7"),
        ({"scenario": b"chat"}, "scenario must be a name"),
        ({"engine": "llama-server"}, "no engine named 'llama-server'"),
        ({"engine": 7}, "engine must be text, not 7"),
        ({"backend": 7}, "backend must be text, not 7"),
        ({"backend": "CUDE"}, "llama.cpp has no backend 'cude'"),
        ({"name": None}, "name must be text, not None"),
        ({"on_event": 3}, "on_event must be a function"),
        ({"rpc": 7}, "rpc must be text, not 7"),
        ({"rpc": "10.0.0.7:0"}, "rpc: the port of 10.0.0.7:0 must be between 1 and 65535"),
        ({"rpc": "10.0.0.7:50052", "engine": "llama-cpp-python"}, "rpc requires an engine with RPC servers"),
    ],
)
def test_bad_values_are_usage_errors_before_anything_is_measured(
    here: Path, model: Path, wrong: dict[str, Any], words: str
) -> None:
    with pytest.raises(edgebench.UsageError, match=re.escape(words)):
        edgebench.run(**{"models": model, **QUICK, **wrong})
    assert not (here / "reports").exists()


def test_an_unknown_form_of_a_report_is_an_error(here: Path) -> None:
    with pytest.raises(edgebench.UsageError, match=r"unknown report format '\.docx'"):
        edgebench.Results([record()]).report("x.docx")
    assert not (here / "x.docx").exists()


# --- results ------------------------------------------------------------------------------------


def test_results_are_filtered_sliced_and_added() -> None:
    results = edgebench.Results([record(options={"threads": n}, device=f"d{n}") for n in (1, 2, 4)])
    assert [one.trial.device for one in results.filter(threads=[1, 4])] == ["d1", "d4"]
    assert [one.trial.device for one in results.filter(lambda one: one.trial.device != "d2", status="ok")] == [
        "d1",
        "d4",
    ]
    assert isinstance(results[:2], edgebench.Results)
    assert len(results[:2] + results[2:]) == 3
    assert repr(results) == "<Results: 3 records>"
    with pytest.raises(edgebench.UsageError, match="no record has 'thread'"):
        results.filter(thread=1)


def test_a_data_frame_has_a_row_for_each_record() -> None:
    frame = edgebench.Results([record(options={"threads": n}, doubts=["steal"]) for n in (1, 2)]).to_dataframe()
    assert list(frame["threads"]) == [1, 2]
    assert list(frame["decode_tps"]) == [40.0, 40.0]
    assert list(frame["doubts"]) == ["steal", "steal"]
    mixed = edgebench.Results([record(options={"gpu_layers": n}) for n in ("all", 4)]).to_dataframe()
    assert list(mixed["gpu_layers"]) == ["all", "4"]


def test_without_pandas_and_polars_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results_module, "find_spec", lambda name: None)
    with pytest.raises(edgebench.UsageError, match="requires pandas or Polars") as missing:
        edgebench.Results([record()]).to_dataframe()
    assert "pip install" in missing.value.hint


class TableReader(HTMLParser):
    """The tags of a page, and the texts of its table cells by row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1] and self.tags[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def test_a_notebook_gets_an_html_table_with_every_text_escaped() -> None:
    evil = "<script>alert(1)</script>"
    failed = record(device="lost", status="failed", failure=edgebench.Failure(f"no {evil}", evil), metrics={})
    results = edgebench.Results([record(device=evil, doubts=["steal"]), record(device="good"), failed])
    page = TableReader(results._repr_html_())
    assert page.tags.count("table") == 1
    assert "script" not in page.tags
    heads, *rows = page.rows
    assert heads[:2] == ["result", "device"]
    assert {"tokens/s", "doubts"} <= {word for head in heads for word in head.split()}
    assert [row[:2] for row in rows] == [[one.id, one.trial.device] for one in results]
    rate = heads.index(next(head for head in heads if "tokens/s" in head))
    assert [row[rate].strip() for row in rows] == ["40.0", "40.0", "–"]
    assert [row[-1].strip() for row in rows] == ["steal", "", "failed"]
    assert "no &lt;script&gt;" in results._repr_html_()


def test_a_notebook_shows_the_newest_of_many_and_says_so() -> None:
    results = edgebench.Results([record(options={"threads": n}) for n in range(1, 101)])
    page = TableReader(results._repr_html_())
    assert [row[0] for row in page.rows[1:]] == [one.id for one in results[-60:]]
    assert "40 earlier results not shown" in results._repr_html_()
    assert edgebench.Results([])._repr_html_() == "<p>No results.</p>"


def test_a_notebook_is_offered_a_table_as_text_and_html_and_a_chart() -> None:
    results = edgebench.Results([record(device="one"), record(device="two")])
    bundle = results._repr_mimebundle_()
    (vega,) = set(bundle) - {"text/plain", "text/html"}
    assert all(one.id in str(bundle["text/plain"]) for one in results)
    tables = [str(html).partition("<img")[0] for html in (bundle["text/html"], results._repr_html_())]
    assert tables[0] == tables[1]
    chart = json.dumps(bundle[vega])
    version = re.fullmatch(r"application/vnd\.vegalite\.(v\d)\+json", vega)
    assert version
    assert f"/vega-lite/{version[1]}." in chart
    assert all(f'"record": "{one.id}"' in chart for one in results)
    (picture,) = re.findall(r'<img alt="Decode rates" src="data:image/svg\+xml;base64,(.*?)">', results._repr_html_())
    drawn = ElementTree.fromstring(b64decode(picture))
    assert drawn.tag == "{http://www.w3.org/2000/svg}svg"
    assert {"one", "two"} <= {text.strip() for text in drawn.itertext()}
    without_rates = edgebench.Results([record(metrics={"load_s": 1.0})])._repr_mimebundle_()
    assert set(without_rates) == {"text/plain", "text/html"}


@pytest.mark.parametrize("suffix", sorted(results_module.FORMATS))
def test_reports_are_written_whole_in_every_form(tmp_path: Path, suffix: str) -> None:
    path = edgebench.Results([record()]).report(tmp_path / "deep" / f"report{suffix}")
    assert "synthetic-laptop" in path.read_text("utf-8")
    assert list(path.parent.iterdir()) == [path]
