"""An engine and a launch option of somebody else's package: one file each, on ``edgebench.core`` alone.

Nothing here is a measurement: the stand-in for Ollama says that each token takes a second.
"""

from __future__ import annotations

import ast
import json
import os
import re
import sys

import pytest
from lab.cli import Program
from lab.paths import LAB

pytestmark = pytest.mark.lab

OUTSIDE = LAB / "outside"
CHAT = (
    "--device", "box", "--scenario", "chat", "--conversations", "1", "--reply-tokens", "8", "--ctx", "192",
    "--rounds", "1", "--json", "-",
)  # fmt: skip


@pytest.fixture
def theirs(edgebench: Program) -> Program:
    """With their package installed, and a device that has their engines."""
    server = edgebench.write("ollama", f'#!/bin/sh\nexec "{sys.executable}" "{LAB / "ollama_server.py"}" "$@"\n')
    server.chmod(0o755)
    edgebench.write("devices/box.yaml", profile(edgebench, "{engine: ollama}"))
    edgebench.env["PYTHONPATH"] = os.pathsep.join([str(OUTSIDE), os.environ.get("PYTHONPATH", "")])
    return edgebench


def profile(program: Program, defaults: str) -> str:
    engines = ", ".join(f"{name}: {{path: '{program.folder / 'ollama'}'}}" for name in ("ollama", "turbo"))
    return f"name: box\nsystem: linux\ntransport: {{kind: local}}\nengines: {{{engines}}}\ndefaults: {defaults}\n"


def imported(text: str) -> set[str]:
    """Every module and every part of edgebench that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "edgebench":
            names |= {f"edgebench.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
    return {name for name in names if name.split(".")[0] == "edgebench"}


def test_an_engine_is_one_small_file_on_core_alone() -> None:
    for name, most in (("ollama.py", 80), ("turbo.py", 30)):
        text = (OUTSIDE / name).read_text()
        assert len(text.splitlines()) <= most
        assert imported(text) == {"edgebench.core"}


def test_an_engine_with_a_dialect_of_its_own_is_measured(theirs: Program) -> None:
    ran = theirs("run", *CHAT, "--threads", "2")
    assert ran.status == 0, ran.stderr
    record = ran.record
    engine = record["facts"]["engine"]
    assert (engine["name"], engine["build"], engine["backend"]) == ("ollama", "0.0.0-stand-in", "cpu")
    assert record["trial"]["options"]["threads"] == 2
    warm_up, *turns = record["rounds"][0]["turns"]
    assert (warm_up["label"], warm_up["measures"]) == ("warm-up", [])
    assert len(turns) > 2
    for turn in turns:
        assert (turn["completion_tokens"], turn["decode_s"], turn["finish"]) == (8, 8.0, "length")
        assert turn["prefill_s"] == turn["prompt_tokens"] > 0
        assert turn["text"].startswith("synthetic answer of a stand-in")


def test_what_it_cannot_do_is_a_failed_trial_with_its_own_words(theirs: Program) -> None:
    ran = theirs("run", "--device", "box", "--rounds", "1", "--json", "-")
    assert ran.status == 1
    assert "Ollama takes text, and this scenario sends token ids" in ran.record["failure"]["message"]
    assert ran.record["failure"]["hint"] == "Use --scenario chat."
    refused = theirs("speculative", "--device", "box", "--k", "1", "--engine", "ollama")
    assert (refused.status, "ollama does not decode speculatively" in refused.stderr) == (2, True)
    refused = theirs("run", "--device", "box", "--rpc", "10.0.0.7:50052")
    assert refused.status == 2
    assert "Engines with RPC servers: llama.cpp." in refused.stderr, refused.stderr


def test_a_launch_option_is_one_declaration(theirs: Program) -> None:
    shown = theirs("run", "--help").stdout
    assert re.search(r"--turbo RANGE +How hard to try\.  \[default: 0; turbo only\]", shown)
    ran = theirs("run", *CHAT, "--engine", "turbo", "--turbo", "1..3+2")
    assert ran.status == 0, ran.stderr
    low, high = sorted(ran.records, key=lambda record: int(record["trial"]["options"]["turbo"]))
    assert [record["trial"]["options"]["turbo"] for record in (low, high)] == [1, 3]
    assert [record["facts"]["engine"]["options_used"] for record in (low, high)] == [{"turbo": 1}, {"turbo": 2}]
    doubts = [[doubt for doubt in one["doubts"] if doubt["id"] == "option-not-applied"] for one in (low, high)]
    assert doubts == [[], [{"id": "option-not-applied", "detail": "--turbo 3 requested, 2 used"}]]
    more = [record["facts"]["model"]["estimate"]["compute_b"] for record in (low, high)]
    assert more == [2**20, 3 * 2**20]
    compared = theirs("compare", low["id"], high["id"])
    assert compared.status == 0, compared.stderr
    assert "turbo 1" in compared.stdout
    assert "turbo 3" in compared.stdout
    assert "decode rate" in compared.stdout


def test_a_launch_option_is_a_default_of_a_profile(theirs: Program) -> None:
    theirs.write("devices/box.yaml", profile(theirs, "{engine: turbo, turbo: 2}"))
    assert theirs("run", *CHAT).record["trial"]["options"]["turbo"] == 2
    schema = json.loads(theirs("devices", "schema").stdout)["properties"]["defaults"]["properties"]
    assert schema["turbo"]["anyOf"][0] == {"type": "integer", "minimum": 0, "maximum": 3}
    assert schema["turbo"]["description"] == "How hard to try"
    assert "hexagon" in schema["backend"]["enum"]
    for value, said in (("4", "turbo must be at most 3, not 4"), ("much", "must be a whole number, not 'much'")):
        theirs.write("devices/box.yaml", profile(theirs, f"{{engine: turbo, turbo: {value}}}"))
        ran = theirs("devices", "show", "box")
        assert ran.status == 2
        assert said in ran.stderr


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("--engine", "turbo", "--turbo", "4"), ("--turbo must be at most 3, not 4", "")),
        (("--engine", "turbo", "--turbo", "much"), ("--turbo: 'much' is not a range", "Write 4")),
        (("--engine", "ollama", "--turbo", "1"), ("--turbo is not an option of ollama", "Engines with it: turbo.")),
        (("--batch", "8"), ("--batch is not an option of ollama", "Engines with it: ")),
        (("--backend", "hexagon"), ("ollama has no backend 'hexagon'", "Backends of ollama: cpu, cuda, rocm, metal.")),
        (("--engine", "turbo", "--backend", "hexagn"), ("turbo has no backend 'hexagn'", "Did you mean hexagon?")),
    ],
)
def test_what_an_engine_does_not_have_is_refused_by_name(
    theirs: Program, asked: tuple[str, ...], said: tuple[str, str]
) -> None:
    ran = theirs("run", *CHAT, *asked)
    assert ran.status == 2
    assert all(words in ran.stderr for words in said), ran.stderr


def test_a_backend_needs_no_change_in_a_profiles_schema(theirs: Program) -> None:
    theirs.write("devices/box.yaml", profile(theirs, "{engine: turbo, backend: hexagon}"))
    record = theirs("run", *CHAT).record
    assert record["trial"]["backend"] == "hexagon"
    assert "backend-mismatch" in {doubt["id"] for doubt in record["doubts"]}


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ("threads: str | None = option('Threads')", "the launch option --threads has two types: .* package clash"),
        ("speed: list | None = option('Speed')", "of the package clash has an invalid declaration of launch options"),
        ("speed: int = 3", "the launch option speed is not declared by option"),
    ],
)
def test_a_wrong_declaration_is_named_with_its_package(edgebench: Program, declared: str, message: str) -> None:
    edgebench.write("clash-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: clash\nVersion: 1.0\n")
    edgebench.write("clash-1.0.dist-info/entry_points.txt", "[edgebench.engines]\nclash = clash:Clash\n")
    edgebench.write(
        "clash.py",
        "from dataclasses import dataclass\nfrom edgebench.core import Engine, option\n"
        f"@dataclass(frozen=True)\nclass Options:\n    {declared}\n"
        "class Clash(Engine):\n    Config, Options, formats, backends = Options, Options, ('gguf',), ('cpu',)\n",
    )
    edgebench.env["PYTHONPATH"] = os.pathsep.join([str(edgebench.folder), os.environ.get("PYTHONPATH", "")])
    ran = edgebench("run", "--rounds", "1")
    assert ran.status == 2
    assert re.search(message, ran.stderr), ran.stderr
    assert edgebench("results", "list").status == 0
