"""Every published row of 2023 is one command: parsed, planned, and said to the engine, without its devices."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from test_llama_server import recorded

from edgebench import cli, plugins, profiles, references
from edgebench.core import ModelFile
from edgebench.engines.llamacpp import flags, help_flags
from edgebench.plan import Plan
from edgebench.references import Published

ROWS = references.load("edge-2023").rows
SIZES = {"codellama-34b-f16": (48, 67_500_000_000), "codellama-7b-q4_0": (32, 3_800_000_000)}
"""Layers and bytes of weights, as published by their makers."""


def model(name: str, form: str) -> ModelFile:
    """A model as its header would tell it, without having it."""
    assert name in profiles.names("models")
    layers, size = SIZES.get(name, (32, 3_800_000_000))
    facts = {
        "layers": layers,
        "weights_bytes": size,
        "context_length": 16384 if name.startswith("codellama") else 4096,
        "vocabulary": 32000,
        "embedding": 8192,
        "tokenizer": "llama",
    }
    return ModelFile(name, Path(f"{name}.gguf"), name.ljust(64, "0"), size, form, "", "llama", facts)


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command up to where it would open the device; its plan."""

    def models_of(names: Sequence[str], form: str) -> list[ModelFile]:
        return [model(name, form) for name in names]

    def run(*argv: str) -> Plan:
        caught: list[Plan] = []
        monkeypatch.setattr("edgebench.cli.measure.carry_out", lambda plans, *_, **__: caught.extend(plans) or 0)
        monkeypatch.setattr("edgebench.cli.run.models_of", models_of)
        monkeypatch.setattr("edgebench.cli.speculative.models_of", models_of)
        monkeypatch.setattr("edgebench.models.tokens", lambda path: [b"a"] * 10)
        # The machine of 2023: 64 cores, and less memory than the whole target takes.
        facts = {"ram_b": 64 * 2**30}
        monkeypatch.setattr(
            "edgebench.cli.speculative._look", lambda device, engine, *_: (engine or "llama.cpp", facts)
        )
        assert cli.cli.main([*argv], standalone_mode=False) == 0
        (plan,) = caught
        return plan

    return run


def words(row: Published, device: str) -> list[str]:
    """A row as somebody would type it."""
    if row.scenario == "speculative":
        return ["speculative", "-d", device, "--target", "codellama-34b-f16", "--draft", "codellama-7b-q4_0"]
    name = "llama-2-7b-chat-q4_0"
    found = ["run", "-d", device, "-m", name, "--scenario", "chat", "--backend", row.backend, "--engine", row.engine]
    return found + (["--threads", "14"] if row.options.get("threads") == 14 else [])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.what}, {row.engine} on {row.backend}, {row.scenario}")
def test_a_row_of_2023_is_one_command(row: Published, planned: Any) -> None:
    for device in row.profiles:
        trials = planned(*words(row, device)).trials
        alike = [one.trial for one in trials if one.trial.options.get("k") == row.options.get("k")]
        trial = alike[0]
        assert (trial.engine, trial.backend, trial.scenario) == (row.engine, row.backend, row.scenario)
        for name, value in row.options.items():
            if name == "draft":
                assert str(trial.options[name]).startswith(str(value))
            else:
                assert trial.options[name] == value, name


def test_the_sweep_of_2023_says_its_layers_to_both_models(planned: Any) -> None:
    plan = planned("speculative", "-d", "a6000-server", "--target", "codellama-34b-f16", "--draft", "codellama-7b-q4_0")
    assert [one.trial.options["k"] for one in plan.trials] == [0, *range(1, 17), 0]
    eight = next(one for one in plan.trials if one.trial.options["k"] == 8)
    argv = flags(eight.launch("/m/34b.gguf", "/m/7b.gguf"), help_flags(recorded("b10434-help.txt")))
    told = dict(itertools.pairwise(argv))
    wanted = {"-ngl": "27", "-ngld": "999", "-c": "4096", "-b": "16", "-t": "64", "-md": "/m/7b.gguf"}
    assert {name: told[name] for name in wanted} == wanted
    assert told["--spec-draft-n-max"] == "8"
    alone = plan.trials[-1]
    assert (alone.model.name, alone.trial.options["gpu_layers"]) == ("codellama-7b-q4_0", "all")


@pytest.mark.parametrize("scenario", ["kvcache", "decoding"])
def test_the_cache_and_the_strategies_of_2023_are_one_command_each(scenario: str, planned: Any) -> None:
    asked = ["-d", "a6000-server", "-m", "llama-2-7b-chat-q4_0", "--engine", "llama-cpp-python", "--gpu-layers", "all"]
    trials = planned("run", *asked, "--scenario", scenario).trials
    assert {(one.trial.backend, one.trial.options["gpu_layers"]) for one in trials} == {("cuda", "all")}
    if scenario == "decoding":
        told = {str(one.trial.options["strategy"]): one.trial.options for one in trials}
        assert list(told) == ["greedy", "beam", "temperature", "top-k", "top-p"]
        assert told["beam"]["beams"] == 2
    assert plugins.load("engines", "llama-cpp-python").format == "gguf"
