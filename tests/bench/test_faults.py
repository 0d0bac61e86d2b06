"""A part that raises by mistake costs its own trial or reading, names itself, and keeps its traceback."""

from __future__ import annotations

import os
import sys

import pytest
from lab.cli import Program, Ran
from lab.tiny import TEMPLATE, tiny

from edgebench.servers import bundled

pytestmark = pytest.mark.lab

SHORT = ("--rounds", "1", "--ctx", "256", "--prompt-tokens", "8", "--gen-tokens", "4")

MISHAP = """
import os

from edgebench.core import ProbeSource, Quantity, Request, Sample, SampleMetric
from edgebench.engines.llamacpp import LlamaCpp

FAULT = os.environ.get("FAULT", "")


def trip(place):
    if place == FAULT:
        raise ZeroDivisionError(f"a mishap in {place}")


def tripping(method, function):
    def call(*args, **named):
        trip(f"engine.{method}")
        return function(*args, **named)
    return call


class Engine(LlamaCpp):
    def prepare(self): return {} if FAULT == "engine.prepare-returns" else super().prepare()
    def info(self, log): return {} if FAULT == "engine.info-returns" else super().info(log)
    def compiling(self, log): return None
    def verdict(self, log): return None
    # Only an engine that is still loading is sure to live until somebody asks for its verdict.
    def ready(self, client): return FAULT != "engine.verdict" and super().ready(client)
    def last_words(self, log): return None


for method in ("prepare", "command", "ready", "ready_line", "complete", "count_tokens", "info", "fallback",
               "compiling", "verdict", "last_words", "__init__"):
    setattr(Engine, method, tripping(method, getattr(Engine, method)))


class Scenario:
    options = {"letters": 3}

    def __init__(self): trip("scenario.__init__")

    def needs(self, options):
        trip("scenario.needs")
        return 32

    def turns(self, setting):
        trip("scenario.turns")
        setting.count_tokens("abc")
        reply = yield 7 if FAULT == "scenario.yields" else Request(messages=({"role": "user", "content": "a"},))
        trip("scenario.reply")
        return {"a": "b"} if FAULT == "scenario.returns" else None


class Probe:
    def __init__(self):
        trip("probe.__init__")

    quantities = 7 if FAULT == "probe.quantities" else {
        "mishaps": Quantity("1", "Mishaps.", {"mishaps_max": SampleMetric("max", "most mishaps")})
    }

    @property
    def sources(self):
        trip("probe.sources")
        return {"linux": (ProbeSource(files=("/proc/{pid}/status",), lines=("Threads:",)),)}

    def parse(self, at, text):
        trip("probe.parse")
        yield "sample" if FAULT == "probe.yields" else Sample("mishaps", 1.0, at)


class View:
    suffix = "txt"

    def __init__(self): trip("view.__init__")

    def render(self, records):
        trip("view.render")
        return 7 if FAULT == "view.returns" else "all well"
"""

ENTRIES = """[edgebench.engines]
mishap = mishap:Engine
[edgebench.scenarios]
mishap = mishap:Scenario
[edgebench.probes]
mishap = mishap:Probe
[edgebench.views]
mishap = mishap:View
"""


@pytest.fixture
def mishap(edgebench: Program) -> Program:
    """A package with a part of each kind, each of which raises where ``FAULT`` says; two devices."""
    edgebench.write("mishap_parts-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: mishap-parts\nVersion: 1.0\n")
    edgebench.write("mishap_parts-1.0.dist-info/entry_points.txt", ENTRIES)
    edgebench.write("mishap.py", MISHAP)
    tiny(edgebench.folder / "tiny.gguf", template=TEMPLATE)
    script = edgebench.write("server.sh", f'#!/bin/sh\nexec "{sys.executable}" "{bundled.__file__}" "$@"\n')
    dead = edgebench.write("dead.sh", '#!/bin/sh\ncase "$*" in *--port*) exit 3;; esac\nexec ./server.sh "$@"\n')
    for file in (script, dead):
        file.chmod(0o755)
    for name, path in (("bad", script), ("dead", dead)):
        edgebench.write(
            f"devices/{name}.yaml",
            f"name: {name}\nsystem: linux\ntransport: {{kind: local}}\n"
            f"engines: {{mishap: {{path: '{path}'}}}}\ndefaults: {{engine: mishap}}\n",
        )
    edgebench.env["PYTHONPATH"] = os.pathsep.join([str(edgebench.folder), os.environ.get("PYTHONPATH", "")])
    return edgebench


def measure(mishap: Program, fault: str, *args: str) -> Ran:
    mishap.env["FAULT"] = fault
    short = SHORT if "mishap" not in args or "throughput" in args else SHORT[:4]
    return mishap("run", "--model", "tiny.gguf", *short, *args, "--json", "-")


@pytest.mark.parametrize(
    ("method", "device", "scenario"),
    [
        *((method, "bad", "throughput") for method in ("__init__", "prepare", "command", "ready", "ready_line")),
        *((method, "bad", "throughput") for method in ("complete", "info", "compiling", "verdict")),
        ("count_tokens", "bad", "mishap"),
        ("fallback", "dead", "throughput"),
        ("last_words", "dead", "throughput"),
    ],
)
def test_an_engine_that_raises_fails_its_trial_and_no_other_device(
    mishap: Program, method: str, device: str, scenario: str
) -> None:
    ran = measure(mishap, f"engine.{method}", "--device", device, "--device", "local", "--scenario", scenario)
    assert ran.status == 1, ran.stderr
    status = {record["trial"]["device"]: record["status"] for record in ran.records}
    assert status == {device: "failed", "local": "ok"}
    (failed,) = (record for record in ran.records if record["status"] == "failed")
    assert "the engine mishap of the package mishap-parts" in failed["failure"]["message"]
    assert f"ZeroDivisionError: a mishap in engine.{method}" in failed["failure"]["message"]
    assert failed["failure"]["hint"] == f"Traceback: edgebench results show {failed['id']} --log"
    log = mishap("results", "show", failed["id"], "--log").stdout
    assert "Traceback (most recent call last)" in log
    assert "mishap.py" in log


@pytest.mark.parametrize("method", ["prepare", "info"])
def test_an_engine_that_returns_something_else_is_named(mishap: Program, method: str) -> None:
    ran = measure(mishap, f"engine.{method}-returns", "--device", "bad", "--scenario", "throughput")
    assert ran.status == 1, ran.stderr
    message = ran.record["failure"]["message"]
    assert "the engine mishap of the package mishap-parts" in message
    assert f"TypeError: {method} returned dict, not EngineFacts" in message


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("__init__", "ZeroDivisionError: a mishap in scenario.__init__"),
        ("needs", "ZeroDivisionError: a mishap in scenario.needs"),
        ("turns", "ZeroDivisionError: a mishap in scenario.turns"),
        ("reply", "ZeroDivisionError: a mishap in scenario.reply"),
        ("yields", "TypeError: turns yielded int, not Request, Query, Batch or Arrivals"),
        ("returns", "TypeError: turns returned {'a': 'b'}, not numbers by name"),
    ],
)
def test_a_scenario_that_raises_fails_its_trial_and_no_other(mishap: Program, place: str, words: str) -> None:
    ran = measure(mishap, f"scenario.{place}", "--scenario", "mishap", "--scenario", "throughput")
    assert ran.status == 1, ran.stderr
    status = {record["trial"]["scenario"]: record["status"] for record in ran.records}
    assert status == {"mishap": "failed", "throughput": "ok"}
    (failed,) = (record for record in ran.records if record["status"] == "failed")
    assert "the scenario mishap of the package mishap-parts" in failed["failure"]["message"]
    assert words in failed["failure"]["message"]
    assert words in mishap("results", "show", failed["id"], "--log").stdout


@pytest.mark.parametrize(
    ("place", "absent", "words"),
    [
        ("__init__", "probe mishap", "ZeroDivisionError: a mishap in probe.__init__"),
        ("quantities", "probe mishap", "TypeError: 'int' object is not iterable"),
        ("sources", "mishaps", "ZeroDivisionError: a mishap in probe.sources"),
        ("parse", "mishaps", "ZeroDivisionError: a mishap in probe.parse"),
        ("yields", "mishaps", "TypeError: parse returned str, not Sample"),
    ],
)
def test_a_probe_that_raises_costs_its_own_readings(mishap: Program, place: str, absent: str, words: str) -> None:
    record = measure(mishap, f"probe.{place}").record
    assert record["status"] == "ok"
    assert record["metrics"]["peak_rss_b"]["value"] > 0
    reason = record["rounds"][0]["notes"]["sampling_absent"][absent]
    assert "the probe mishap of the package mishap-parts" in reason
    assert words in reason
    log = mishap("results", "show", record["id"], "--log").stdout
    assert "Traceback (most recent call last)" in log
    assert words in log


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("__init__", "cannot be created: ZeroDivisionError: a mishap in view.__init__"),
        ("render", "raised ZeroDivisionError: a mishap in view.render"),
        ("returns", "raised TypeError: render gave int, not str"),
    ],
)
def test_a_view_that_raises_is_named(mishap: Program, place: str, words: str) -> None:
    mishap.env["FAULT"] = f"view.{place}"
    ran = mishap("results", "export", "--format", "mishap", traced=place != "__init__")
    assert ran.status == 2
    assert f"the view mishap of the package mishap-parts {words}" in ran.stderr
    mishap.env["FAULT"] = ""
    assert mishap("results", "export", "--format", "mishap").stdout == "all well"


def test_a_defect_of_a_device_ends_no_other(mishap: Program) -> None:
    """What a transport raises is an error of its device that names the transport, with the traceback."""
    mishap.write(
        "mishap.py",
        f"{MISHAP}\nfrom edgebench.transports.local import Local\n"
        "class Wire(Local):\n    def open(self): raise KeyError('w')\n",
    )
    mishap.write(
        "mishap_parts-1.0.dist-info/entry_points.txt", ENTRIES + "[edgebench.transports]\nmishap = mishap:Wire\n"
    )
    mishap.write("devices/wired.yaml", "name: wired\nsystem: linux\ntransport: {kind: mishap}\n")
    mishap.env["FAULT"] = ""
    ran = mishap(
        "run", "--model", "tiny.gguf", *SHORT, "--device", "wired", "--device", "local", "--json", "-", traced=True
    )
    assert ran.status == 1
    assert [record["status"] for record in ran.records] == ["ok"]
    assert "wired: the transport mishap of the package mishap-parts raised KeyError: 'w' (mishap.py:" in ran.stderr
    assert "Traceback (most recent call last)" in ran.stderr
