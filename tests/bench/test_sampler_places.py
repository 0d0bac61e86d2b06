"""The sampler on every device of the lab: over SSH, over ADB with and without shell v2, in Termux."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from lab.place import Place

from edgebench.bench.conditions import Conditions
from edgebench.bench.sampler import Sampler
from edgebench.core import Command, Device
from edgebench.device.session import Session

pytestmark = pytest.mark.lab

PLACES = ["linux", "termux", "android", "old_android"]
MIB = 1 << 20


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Place:
    return request.getfixturevalue(request.param)


@pytest.fixture
def session(place: Place):
    with Session(Device(place.name, place.system, place.transport, workspace=place.folder)) as one:
        yield one


@pytest.fixture
def helper():
    """A process of this machine, which is what every device of the lab runs on."""
    code = "b = bytearray(64 << 20)\nfor i in range(0, len(b), 4096): b[i] = 1\nprint('ready', flush=True)\ninput()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.wait()


def seen(name: str, times: int):
    return lambda sampler: sum(sample.name == name for sample in list(sampler.samples)) >= times


def test_all_probes_run_there(session: Session, place: Place, helper):
    with Sampler(session, helper.pid) as sampler:
        start = time.monotonic()
        assert sampler.wait(seen("cpu_engine", 3), 120)
        assert sampler.wait(seen("available_b", 2), 120)
    metrics = sampler.between(start - 5, time.monotonic())
    assert metrics["peak_rss_b"] > 64 * MIB
    assert metrics["steady_anon_b"] > 64 * MIB
    assert sampler.clock is not None
    assert sampler.clock.uncertainty < 10
    assert sampler.cost is not None
    if place.system == "termux":
        assert sampler.absent["steal"] == "/proc/stat: Permission denied"
        assert "cpu_util" not in metrics
    else:
        assert 0 <= metrics["cpu_util"] <= 1


def test_the_device_clock_is_the_controllers_in_the_lab(session: Session, helper):
    """Both are one machine here, so the true offset between their clocks is known."""
    with Sampler(session, helper.pid, ["memory"]) as sampler:
        assert sampler.wait(seen("rss_b", 1), 120)
    true = time.clock_gettime(time.CLOCK_MONOTONIC) - time.clock_gettime(time.CLOCK_BOOTTIME)
    for clock in (sampler.clock, sampler.clock_at_end):
        assert abs(clock.offset - true) <= clock.uncertainty + 0.011


def test_nothing_of_it_stays_behind(session: Session, helper):
    with Sampler(session, helper.pid, ["memory", "cpu"]) as sampler:
        assert sampler.wait(seen("rss_b", 1), 120)
        pattern = f"p={helper.pid}; t={helper.pid}"
        assert loops(pattern)
    end = time.monotonic() + 60
    while loops(pattern) and time.monotonic() < end:
        time.sleep(0.1)
    assert not loops(pattern)


def loops(pattern: str) -> list[str]:
    """Command lines of sampling loops over this process."""
    lines = subprocess.check_output(["ps", "-eo", "args="], text=True).splitlines()
    return [line for line in lines if pattern in line and "sh -c" in line]


def test_the_gate_and_the_canary_work_there(session: Session):
    conditions = Conditions(session, 2)
    conditions._measure_idle()
    assert conditions.ready().waited_s > 0
    assert conditions._time_canary()


def test_an_engine_started_there_is_sampled(session: Session):
    running = session.start(Command(["sleep", "1000"]))
    with Sampler(session, running.wait_started(60), ["memory"]) as sampler:
        assert sampler.wait(seen("rss_b", 1), 120)
        running.stop()
        assert not sampler.wait(seen("rss_b", 10_000), 60)
