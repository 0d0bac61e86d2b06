"""A part is one file and one entry point, in this package or in anybody's (see lab/outside)."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys

import pytest
from lab.cli import Program
from lab.paths import LAB

from edgebench.servers import bundled

pytestmark = pytest.mark.lab

OUTSIDE = LAB / "outside"
CORE = {"edgebench.core"}
DERIVED = LAB / "derived"


@pytest.fixture
def extended(edgebench: Program) -> Program:
    """A device made of somebody else's parts alone."""
    script = edgebench.write("their server.sh", f'#!/bin/sh\nexec "{sys.executable}" "{bundled.__file__}" "$@"\n')
    script.chmod(0o755)
    edgebench.write(
        "devices/theirs.yaml",
        "name: theirs\nsystem: penguin\ntransport: {kind: elsewhere, street: Main, number: 7}\n"
        f"engines: {{another: {{path: '{script}'}}}}\ndefaults: {{engine: another}}\n",
    )
    edgebench.env["PYTHONPATH"] = os.pathsep.join([str(OUTSIDE), str(DERIVED), os.environ.get("PYTHONPATH", "")])
    return edgebench


def test_parts_from_outside_work_together(extended: Program) -> None:
    ran = extended(
        "run", "--device", "theirs", "--scenario", "one-word", "--letters", "4,7", "--ctx", "256", "--rounds", "1",
        "--json", "-",
    )  # fmt: skip
    assert ran.status == 0, ran.stderr
    assert {record["trial"]["options"]["letters"] for record in ran.records} == {4, 7}
    for record in ran.records:
        assert record["trial"]["engine"] == "another"
        assert record["facts"]["engine"]["flavour"] == "vanilla"
        assert record["metrics"]["threads_max"]["value"] >= 2
        assert record["rounds"][0]["turns"][-1]["label"] == "word"
    poem = extended("results", "export", "--format", "haiku")
    assert poem.stdout.startswith("2 results\nlie quietly")


def test_parts_from_outside_import_the_core_alone() -> None:
    for path in OUTSIDE.glob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        modules |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
        ours = {
            f"{node.module}.{name.name}"
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == "edgebench"
            for name in node.names
        }
        assert {m for m in modules if m and m.startswith("edgebench")} - {"edgebench"} | ours <= CORE, path


def test_their_metric_is_shown_wherever_metrics_are(extended: Program) -> None:
    word = ("run", "--device", "theirs", "--scenario", "one-word", "--ctx", "256", "--rounds", "1")
    ran = extended(*word, "--name", "first", "--json", "-")
    assert ran.status == 0, ran.stderr
    (record,) = ran.records
    (turn,) = (turn for turn in record["rounds"][0]["turns"] if turn["label"] == "word")
    stored = record["metrics"]["reply_rate"]
    assert (stored["unit"], stored["value"]) == ("replies/min", pytest.approx(60 / turn["total_s"]))
    assert ", replies " in ran.stderr, "the progress line"
    again = extended(*word, "--name", "second")
    assert "replies/min" in again.stdout
    assert re.search(r"^result .*replies", again.stdout, re.MULTILINE)
    compared = json.loads(extended("compare", "first", "second", "--json").stdout)
    assert compared["comparisons"][0]["metrics"]["reply_rate"]["unit"] == "replies/min"
    assert "rate of replies" in extended("compare", "first", "second", "--metric", "reply_rate").stdout
    csv = extended("results", "export", "--format", "csv").stdout
    assert "reply_rate [replies/min]" in csv.splitlines()[0]
    assert extended("report", "--format", "html", "-o", "page").status == 0
    page = next(extended.folder.glob("page/*.html")).read_text("utf-8")
    assert '<button type="button" title="rate of replies">Replies</button>' in page
    assert "<dt>rate of replies</dt><dd>replies ÷ the time they took, request sent to last token. Source" in page
    asked = [sys.executable, "-c", "from edgebench.judging import metrics; print(metrics.glossary())"]
    env = {**os.environ, **extended.env}
    glossary = subprocess.run(asked, capture_output=True, env=env, check=True, encoding="utf-8").stdout
    assert "| `reply_rate` ● | replies/min | higher | **rate of replies**: replies ÷ the time they took" in glossary


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ('"poems", "", "poems", "a number of poems"', "the metric poems {who} has no unit"),
        (
            '"decode_tps", "poems/s", "decoding", "poems"',
            "the metric decode_tps {who} has a name already in use",
        ),
    ],
)
def test_a_metric_at_fault_is_refused_with_its_package(edgebench: Program, entry: str, fault: str) -> None:
    edgebench.write("poetry-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: poetry\nVersion: 1.0\n")
    edgebench.write("poetry-1.0.dist-info/entry_points.txt", "[edgebench.metrics]\npoems = poetry_metrics:POEMS\n")
    edgebench.write(
        "poetry_metrics.py", f"from edgebench.core import MetricDefinition\nPOEMS = MetricDefinition({entry})\n"
    )
    edgebench.env["PYTHONPATH"] = os.pathsep.join([str(edgebench.folder), os.environ.get("PYTHONPATH", "")])
    ran = edgebench("run", "--rounds", "1")
    assert ran.status == 2
    assert ran.stderr.splitlines() == [
        f"edgebench: {fault.format(who='of the package poetry')}",
        "  Fix it, or remove it: pip uninstall poetry",
    ]


def test_their_options_stand_in_the_help(extended: Program) -> None:
    shown = extended("run", "--help").stdout
    assert re.search(r"--letters RANGE +Letters of the word\.  \[one-word: \d+\]", shown)


def test_their_profiles_are_checked_by_their_own_config(extended: Program) -> None:
    extended.write(
        "devices/theirs.yaml", "name: theirs\nsystem: penguin\ntransport: {kind: elsewhere, stret: Main, number: 7}\n"
    )
    ran = extended("devices", "show", "theirs")
    assert ran.status == 2
    assert "stret" in ran.stderr
    assert "street" in ran.stderr


def test_without_them_the_names_are_unknown(edgebench: Program) -> None:
    edgebench.write("devices/theirs.yaml", "name: theirs\nsystem: linux\ntransport: {kind: elsewhere}\n")
    ran = edgebench("run", "--device", "theirs")
    assert ran.status == 2
    assert "elsewhere" in ran.stderr
    assert json.loads(edgebench("results", "list", "--json").stdout)["records"] == []


def test_a_broken_part_is_named_with_its_package(edgebench: Program) -> None:
    edgebench.write("broken-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    edgebench.write(
        "broken-1.0.dist-info/entry_points.txt",
        "[edgebench.scenarios]\npoem = nowhere.at_all:Poem\n[edgebench.transports]\ncan = nowhere.at_all:Can\n",
    )
    edgebench.env["PYTHONPATH"] = os.pathsep.join([str(edgebench.folder), os.environ.get("PYTHONPATH", "")])
    ran = edgebench("run")
    assert ran.status == 2
    assert ran.stderr.splitlines() == [
        "edgebench: the scenario poem of the package broken cannot be loaded: "
        "ModuleNotFoundError: No module named 'nowhere'",
        "  Fix it, or remove it: pip uninstall broken",
    ]
    edgebench.write("devices/theirs.yaml", "name: theirs\nsystem: linux\ntransport: {kind: can}\n")
    shown = edgebench("devices", "show", "theirs")
    assert "theirs.yaml:3: transport.kind: the transport can of the package broken cannot be loaded" in shown.stderr
    assert edgebench("results", "list").status == 0


def install(edgebench: Program, package: str, entry_points: str, code: str) -> None:
    """A package with one module of its own name, on the program's path."""
    edgebench.write(f"{package}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    edgebench.write(f"{package}-1.0.dist-info/entry_points.txt", entry_points)
    edgebench.write(f"{package}.py", code)
    edgebench.env["PYTHONPATH"] = os.pathsep.join([str(edgebench.folder), os.environ.get("PYTHONPATH", "")])


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise RuntimeError('no licence')", "cannot be loaded: RuntimeError: no licence"),
        ("raise SystemExit(0)", "cannot be loaded: SystemExit: 0"),
        ("class Ode: pass", "cannot be loaded: AttributeError: it has no suffix"),
        (
            "class Ode:\n suffix = 'ode'\n def __init__(self): raise KeyError('muse')\n def render(self, records): ...",
            "cannot be created: KeyError: 'muse'",
        ),
        ("class Ode:\n suffix = 'ode'", "cannot be created: AttributeError: it has no render"),
    ],
)
def test_a_plugin_that_raises_is_named_with_its_package(edgebench: Program, code: str, message: str) -> None:
    install(edgebench, "verse", "[edgebench.views]\node = verse:Ode\n", code)
    ran = edgebench("results", "export", "--format", "ode")
    assert ran.status == 2
    assert ran.stderr.splitlines()[-2:] == [
        f"edgebench: the view ode of the package verse {message}",
        "  Fix it, or remove it: pip uninstall verse",
    ]


def test_a_name_that_two_packages_provide_is_refused_with_both(edgebench: Program) -> None:
    install(edgebench, "verse", "[edgebench.views]\njson = verse:Ode\n", "")
    ran = edgebench("results", "export", "--format", "json")
    assert ran.status == 2
    assert ran.stderr.splitlines()[-2:] == [
        "edgebench: the view json is provided by 2 packages: edgebench, verse",
        "  Keep one of them: pip uninstall verse",
    ]
    assert edgebench("results", "export", "--format", "csv").status == 0


def test_a_scenario_may_send_several_requests_at_once(extended: Program) -> None:
    ran = extended(
        "run", "--device", "theirs", "--scenario", "at-once", "--ctx", "256", "--rounds", "1", "--json", "-"
    )  # fmt: skip
    assert ran.status == 0, ran.stderr
    (one,) = ran.record["rounds"]
    left, right, first, second = (turn for turn in one["turns"] if turn["label"] != "warm-up")
    assert [turn["label"] for turn in (left, right, first, second)] == ["left", "right", "first", "second"]
    for earlier, later in ((left, right), (first, second)):
        assert max(earlier["sent_at"], later["sent_at"]) < min(
            earlier["sent_at"] + earlier["total_s"], later["sent_at"] + later["total_s"]
        )
    turns = (left, right, first, second)
    tokens = sum(turn["completion_tokens"] - 1 for turn in turns)
    longest = sum(turn["decode_s"] for turn in turns)
    begins = min(turn["sent_at"] for turn in turns)
    ends = max(turn["sent_at"] + turn["total_s"] for turn in turns)
    # The time the turns share counts once: never less than their own times together, never more than went by.
    assert tokens / longest * 0.999 <= one["metrics"]["decode_tps"]
    assert one["metrics"]["decode_tps"] >= tokens / (ends - begins)


def test_an_option_that_run_has_already_is_refused_with_its_package(edgebench: Program) -> None:
    code = (
        "class Ode:\n options = {'rounds': 3}\n def needs(self, options): return 1\n def turns(self, setting): yield\n"
    )
    install(edgebench, "verse", "[edgebench.scenarios]\node = verse:Ode\n", code)
    ran = edgebench("run")
    assert ran.status == 2
    assert ran.stderr.splitlines() == [
        "edgebench: the option --rounds of the scenario ode of the package verse is declared twice",
        "  edgebench run has an option of that name. Rename it, or remove it: pip uninstall verse",
    ]
    assert edgebench("results", "list").status == 0
