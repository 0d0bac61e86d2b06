"""Every published row of 2023 is one command: parsed, planned, and said to the engine, without its devices."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from lab.paths import recorded_llama_server

from edgebench import cli, profiles
from edgebench.core import DeviceFacts, ModelFacts, ModelFile
from edgebench.engines.llamacpp import flags, help_flags
from edgebench.plan import Plan
from edgebench.profiles import references
from edgebench.profiles.references import PublishedResult

ROWS = references.load("edge-2023").rows
SIZES = {"codellama-34b-f16": (48, 67_500_000_000), "codellama-7b-q4_0": (32, 3_800_000_000)}
"""Layers and bytes of weights, as published by their makers."""


def model(name: str, form: str) -> ModelFile:
    """A model as its header would tell it, without having it."""
    assert name in profiles.names("models")
    layers, size = SIZES.get(name, (32, 3_800_000_000))
    facts = ModelFacts(
        layers=layers,
        weights_bytes=size,
        context_length=16384 if name.startswith("codellama") else 4096,
        vocabulary=32000,
        embedding=8192,
        tokenizer="llama",
    )
    return ModelFile(name, Path(f"{name}.gguf"), name.ljust(64, "0"), size, form, "", "llama", facts)


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command up to where it would open the device; its plan."""

    def models_of(names: Sequence[str], form: str, transfer: object) -> list[ModelFile]:
        return [model(name, form) for name in names]

    def run(*argv: str) -> Plan:
        caught: list[Plan] = []
        monkeypatch.setattr("edgebench.cli.measure.execute", lambda plans, *_, **__: caught.extend(plans) or 0)
        monkeypatch.setattr("edgebench.api.planning.model_files", models_of)
        monkeypatch.setattr("edgebench.modelfiles.tokens", lambda path: [b"a"] * 10)
        # The machine of 2023: 64 cores, and less memory than the whole target takes.
        facts = DeviceFacts(ram_b=64 * 2**30)
        monkeypatch.setattr(
            "edgebench.api.drafting._select_engine", lambda device, engine, *_: (engine or "llama.cpp", facts, ())
        )
        assert cli.cli.main([*argv], standalone_mode=False) == 0
        (plan,) = caught
        return plan

    return run


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.what}, {row.engine} on {row.backend}, {row.scenario}")
def test_a_row_of_2023_is_one_command_that_plans_what_was_measured(row: PublishedResult, planned: Any) -> None:
    trials = [one.trial for one in planned(*shlex.split(row.repeat)[1:]).trials]
    trial = next(one for one in trials if one.options.get("k") == row.options.get("k"))
    assert trial.scenario == row.scenario
    assert trial.engine == (row.engine or trial.engine)
    assert trial.backend == (row.backend or trial.backend)
    for name, value in row.options.items():
        if name == "draft":
            assert str(trial.options[name]).startswith(str(value))
        else:
            assert trial.options[name] == value, name


def test_the_sweep_of_2023_says_its_layers_to_both_models(planned: Any) -> None:
    plan = planned("speculative", "-d", "a6000-server", "--target", "codellama-34b-f16", "--draft", "codellama-7b-q4_0")
    assert [one.trial.options["k"] for one in plan.trials] == [0, *range(1, 17), 0]
    eight = next(one for one in plan.trials if one.trial.options["k"] == 8)
    argv = flags(eight.launch("/m/34b.gguf", "/m/7b.gguf"), help_flags(recorded_llama_server("b10434-help.txt")))
    told = dict(itertools.pairwise(argv))
    wanted = {"-ngl": "27", "-ngld": "999", "-c": "4096", "-b": "16", "-t": "64", "-md": "/m/7b.gguf"}
    assert {name: told[name] for name in wanted} == wanted
    assert told["--spec-draft-n-max"] == "8"
    # A batch of 16 cannot hold the 17 tokens that K = 16 verifies: llama-server would abort.
    (note,) = [note for one in plan.trials for note in one.notes]
    assert note.endswith("for k = 16 the logical batch is 17")
    sixteen = next(one for one in plan.trials if one.trial.options["k"] == 16)
    argv = flags(sixteen.launch("/m/34b.gguf", "/m/7b.gguf"), help_flags(recorded_llama_server("b10434-help.txt")))
    told = dict(itertools.pairwise(argv))
    assert (told["-b"], told["-ub"]) == ("17", "16")
    alone = plan.trials[-1]
    assert (alone.model.name, alone.trial.options["gpu_layers"]) == ("codellama-7b-q4_0", "all")
