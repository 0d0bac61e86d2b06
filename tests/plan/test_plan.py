"""Options and profiles become trials; rounds put them in a fair order."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgebench.core import Device, ModelFacts, ModelFile
from edgebench.errors import UsageError
from edgebench.plan import Plan, trials

DEVICE = Device("d", "linux", {"kind": "local"}, defaults={"threads": 4, "batch": 16})


def model(name: str = "m", context: int = 8192) -> ModelFile:
    facts = ModelFacts(context_length=context, vocabulary=1000)
    return ModelFile(name, Path(f"{name}.gguf"), name * 64, 1, "gguf", "Q4_0", "llama", facts)


def of(found, **fields) -> Plan:
    """A plan for no device in particular."""
    return Plan(found[0].device, "llama.cpp", "cpu", tuple(found), **fields)


def planned(**asked):
    return trials(DEVICE, [model()], engine="llama.cpp", backend="cpu", scenarios=["throughput"], options=asked)


def test_the_devices_defaults_hold_unless_asked_otherwise() -> None:
    (one,) = planned(threads=[8])
    assert one.trial.options["threads"] == 8
    assert one.trial.options["batch"] == 16
    assert one.trial.options["ctx"] == 4096
    assert one.trial.options["gen_tokens"] == 128


def test_a_sweep_is_every_combination_once() -> None:
    found = planned(threads=[1, 2, 4], ctx=[1024, 2048])
    assert len({(one.trial.options["threads"], one.trial.options["ctx"]) for one in found}) == 6


def test_contexts_beyond_the_models_are_one_trial() -> None:
    found = planned(ctx=[8192, 16384, 32768])
    assert [one.trial.options["ctx"] for one in found] == [8192]


def test_layers_on_the_gpu_only_where_there_is_one() -> None:
    assert "gpu_layers" not in planned(gpu_layers=["all"])[0].trial.options
    (one,) = trials(DEVICE, [model()], engine="llama.cpp", backend="vulkan", scenarios=["throughput"], options={})
    assert one.trial.options["gpu_layers"] == "all"


def test_layers_asked_for_without_a_gpu_are_said_to_mean_nothing() -> None:
    (one,) = planned(gpu_layers=[27], draft_gpu_layers=["all"])
    assert one.notes == ("gpu_layers and draft_gpu_layers are ignored with --backend cpu",)
    assert planned(gpu_layers=[0])[0].notes == ()


def test_an_option_goes_to_the_scenario_that_has_it() -> None:
    found = trials(
        DEVICE,
        [model()],
        engine="llama.cpp",
        backend="cpu",
        scenarios=["throughput", "chat"],
        options={"gen_tokens": [8, 16]},
    )
    assert [(one.trial.scenario, one.trial.options.get("gen_tokens")) for one in found] == [
        ("throughput", 8),
        ("throughput", 16),
        ("chat", None),
    ]


def test_an_option_that_no_scenario_has_is_refused() -> None:
    with pytest.raises(UsageError, match="scenario throughput has no option --reply-tokens") as caught:
        planned(reply_tokens=[8])
    assert caught.value.hint == "It belongs to chat: use --scenario chat."


def test_more_conversations_than_there_are_are_refused() -> None:
    with pytest.raises(UsageError, match="--conversations must be between 1 and 4, not 9") as caught:
        trials(
            DEVICE, [model()], engine="llama.cpp", backend="cpu", scenarios=["chat"], options={"conversations": [1, 9]}
        )
    assert caught.value.hint == "Give 1..4."


@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 4), st.integers(1, 8))
def test_each_round_runs_each_trial_once_with_launches_together(
    seed: int, threads: int, gens: int, rounds: int
) -> None:
    found = planned(threads=list(range(1, threads + 1)), gen_tokens=list(range(1, gens + 1)))
    plan = of(found, rounds=rounds, seed=seed)
    for number in range(rounds):
        order = plan.order(number)
        assert sorted(order) == list(range(threads * gens))
        assert order == of(found, seed=seed).order(number)
        # An engine is started once a round: equal launches stand next to each other.
        launches = [found[index].trial.options["threads"] for index in order]
        starts = [a for a, b in zip(launches, [None, *launches], strict=False) if a != b]
        assert len(starts) == threads


def test_the_order_differs_from_round_to_round() -> None:
    plan = of(planned(threads=list(range(1, 9))), rounds=20, seed=3)
    firsts = {plan.order(number)[0] for number in range(20)}
    assert len(firsts) >= 5
