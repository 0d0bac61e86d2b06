"""Cores of real processors, the numbers of threads worth a try, pinning, and the verdict."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from lab.cli import Program
from lab.records import record as made
from lab.tiny import tiny

from edgebench.cli.threads import ThreadSweep, with_threads
from edgebench.core import Device
from edgebench.device import cores
from edgebench.device.session import Session
from edgebench.errors import Unreadable, UsageError
from edgebench.judging.threads import best_threads

pytestmark = pytest.mark.lab

BASE = "/sys/devices/system/cpu/cpu"


def processor(index: int, core: int, khz: int, package: int = 0) -> str:
    return (
        f"{BASE}{index}/topology/core_id:{core}\n{BASE}{index}/topology/physical_package_id:{package}\n"
        f"{BASE}{index}/cpufreq/cpuinfo_max_freq:{khz}\n"
    )


def laptop() -> cores.Cores:
    """A Core i9-13900H: six big cores with two threads each (two of them favoured), eight small ones."""
    big = [processor(2 * i + t, 4 * i, 5_400_000 if i in (2, 3) else 5_200_000) for i in range(6) for t in (0, 1)]
    small = [processor(12 + i, 24 + i, 4_100_000) for i in range(8)]
    found = cores.parse_cores("".join(big + small))
    assert found
    return found


def test_a_laptop_with_big_and_small_cores_and_two_threads_each():
    found = laptop()
    assert found.clusters == (6, 8)
    assert [cpu.index for cpu in found.order] == [0, 2, 4, 6, 8, 10, *range(12, 20), 1, 3, 5, 7, 9, 11]
    assert {5, 6, 7, 13, 14, 15, 19, 20} <= set(found.candidates())
    assert found.affinity(6) == "0,2,4,6,8,10"
    assert found.affinity(20) == "0-19"


def test_a_phone_with_three_clusters():
    """Snapdragon 8 Gen 2: three small, two and two middle, one big core; the big one is processor 7."""
    speeds = [2_016_000] * 3 + [2_803_200] * 4 + [3_187_200]
    found = cores.parse_cores("".join(processor(i, i, speed) for i, speed in enumerate(speeds)))
    assert found.affinity(1) == "7"
    assert found.affinity(5) == "3-7"
    assert found.candidates() == list(range(1, 9))


def test_what_says_nothing_of_cores():
    assert cores.parse_cores("") is None
    assert cores.parse_cores("grep: permission denied\n/sys/devices/system/cpu/cpufreq/policy0:3") is None
    assert cores.parse_cores(f"{BASE}0/cpu_capacity:1024\n{BASE}1/cpu_capacity:414").clusters == (1, 1)


def test_this_machine():
    with Session(Device("here", "linux", {"kind": "local"})) as session:
        found = cores.query_cores(session)
        assert len(found.order) == os.cpu_count()
        assert cores.query_affinity(session, os.getpid()) == {cores.format_cpus(os.sched_getaffinity(0))}


@given(st.sets(st.integers(0, 200), min_size=1))
def test_lists_of_processors_survive(numbers):
    text = cores.format_cpus(numbers)
    assert cores.parse_cpus(text) == numbers
    assert int(cores.affinity_mask(text), 16) == sum(1 << number for number in numbers)


@pytest.mark.parametrize("text", ["", "a", "1-", "3--4", "1,,2", "-1"])
def test_no_list_of_processors(text):
    with pytest.raises(Unreadable):
        cores.parse_cpus(text)


@pytest.mark.parametrize("taskset", [["taskset"], ["toybox", "taskset"]])
def test_both_tasksets_take_the_mask(taskset):
    last = max(os.sched_getaffinity(0))
    code = "import os; print(*sorted(os.sched_getaffinity(0)))"
    said = subprocess.check_output([*taskset, cores.affinity_mask(str(last)), sys.executable, "-c", code], text=True)
    assert said.split() == [str(last)]


def test_the_optimum_and_the_cliff_of_2023():
    rates = {1: 4.0, 6: 17.1, 12: 22.0, 13: 23.8, 14: 23.9, 15: 0.26, 20: 0.2}
    found = best_threads(rates)
    assert (found.best, found.cliff) == (13, (14, 23.9, 15, 0.26))
    assert best_threads({1: 5.0, 2: 9.0, 4: 8.5}).cliff is None
    assert best_threads({}) is None


profiles = st.sampled_from(
    [
        "name: a  # mine\nsystem: linux\ntransport: {kind: local}\n",
        "name: a\ndefaults: {threads: 4, ctx: 4096}  # tried\nsystem: linux\n",
        "name: a\ndefaults: {ctx: 4096}\n",
        "name: a\ndefaults: {}\n",
        "name: a\ndefaults:\n  # of 2023\n  ctx: 4096\n  threads: 14   # no more\n  batch: 16\nsystem: linux",
        "name: a\ndefaults:\n    ctx: 4096\nsystem: linux\n",
    ]
)


@given(profiles, st.integers(1, 256))
def test_only_the_threads_of_a_profile_change(text, threads):
    changed = with_threads(text, threads)
    before, after = yaml.safe_load(text), yaml.safe_load(changed)
    assert after["defaults"] == {**(before.get("defaults") or {}), "threads": threads}
    assert {**after, "defaults": 0} == {**before, "defaults": 0}
    assert [line for line in text.splitlines() if "#" in line and "threads" not in line] == [
        line for line in changed.splitlines() if "#" in line and "threads" not in line
    ]


def test_a_profile_that_cannot_be_changed_is_left_alone():
    with pytest.raises(UsageError, match="safely"):
        with_threads('name: a\n"defaults": {ctx: 1}\n', 4)


QUICK = ("--prompt-tokens", "16", "--gen-tokens", "8", "--ctx", "512", "--rounds", "1")


def test_threads_auto_pins_verifies_and_writes_the_profile(edgebench: Program):
    model = ("--model", str(tiny(edgebench.folder / "tiny.gguf")))
    ran = edgebench("run", *QUICK, *model, "--threads", "auto", "--write-profile", "--json", "r.json")
    records = json.loads((edgebench.folder / "r.json").read_text())["records"]
    tried = {record["trial"]["options"]["threads"]: record for record in records}
    assert sorted(tried) == list(range(1, os.cpu_count() + 1)) or os.cpu_count() > cores.EXHAUSTIVE_CPU_COUNT
    for record in records:
        assert record["facts"]["engine"]["affinity"] == [record["trial"]["options"]["affinity"]]
        assert "affinity" not in [doubt["id"] for doubt in record["doubts"]]
    assert "is fastest with" in ran.stderr
    assert "devices/local.yaml" in ran.stderr
    written = yaml.safe_load((edgebench.folder / "devices" / "local.yaml").read_text())
    assert written["defaults"]["threads"] in tried
    again = edgebench("run", *QUICK, *model, "--json", "-").record
    assert again["trial"]["options"]["threads"] == written["defaults"]["threads"]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ((), "is fastest with 1 thread on CPUs 0: 30 tokens/s"),
        (("few-rounds", "other-load", "steal"), "(doubts: steal, other-load; measure again on an idle device)"),
    ],
)
def test_a_verdict_on_threads_says_what_disturbed_it(found, said, monkeypatch):
    cpus = cores.parse_cores(f"{BASE}0/topology/core_id:0\n{BASE}1/topology/core_id:1")
    monkeypatch.setattr(ThreadSweep, "_read", lambda self, device: cpus)
    own = Device("here", "linux", {"kind": "local"})
    rows = [(1, 30.0), (2, 20.0)]
    records = [
        made(device="here", options={"threads": n}, metrics={"decode_tps": rate}, doubts=list(found))
        for n, rate in rows
    ]
    lines: list[str] = []
    ThreadSweep([own]).conclude(write=False, print_line=lines.append)(records)
    assert said in "\n".join(lines)


def test_write_profile_needs_something_to_write(edgebench: Program):
    ran = edgebench("run", *QUICK, "--write-profile")
    assert ran.status == 2
    assert "--threads auto" in ran.stderr
