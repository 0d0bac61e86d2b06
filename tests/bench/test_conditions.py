"""The gate, the canary and the bandwidth: on this machine, and on one that is acted out."""

from __future__ import annotations

import itertools
import re
import shlex
import sys
from pathlib import Path

import pytest

from edgebench.bench import conditions
from edgebench.bench.conditions import Conditions, DeviceState
from edgebench.core import Command, Device
from edgebench.device import bandwidth
from edgebench.device.session import Session
from edgebench.judging.metrics.bandwidth import bytes_per_token

pytestmark = pytest.mark.lab


@pytest.fixture
def session():
    with Session(Device("here", "linux", {"kind": "local"})) as opened:
        yield opened


class Stove:
    """A system that is as hot, as busy and as full as the numbers in a file say."""

    def __init__(self, real, state: Path) -> None:
        self._real = real
        self._state = state

    def __getattr__(self, name):
        return getattr(self._real, name)

    def set(self, **values: float) -> None:
        self._state.write_text("".join(f"{name}={value}\n" for name, value in values.items()))

    def loop(self, sources, pid):
        state = shlex.quote(str(self._state))
        zone = "/sys/class/thermal/thermal_zone0"
        return f"""exec sh -c {
            shlex.quote(f'''
now() {{ read u x </proc/uptime; at=${{u%.*}}${{u#*.}}; }}
busy=0 idle=0; now
echo "/proc/self/stat:9 (grep) R 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 $at 0 0"; echo "{zone}/type:cpu"; echo "% - x"
while :; do . {state}; busy=$((busy + load)); idle=$((idle + 100 - load)); now
echo "/proc/self/stat:9 (grep) R 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 $at 0 0"
echo "/proc/stat:cpu $busy 0 0 $idle 0 0 0 0 0 0"; echo "{zone}/temp:$temp"
echo "/proc/meminfo:MemAvailable:  $free kB"; echo "% - x" || exit; sleep 0.2; done''')
        }"""


@pytest.fixture
def stove(session, tmp_path, monkeypatch):
    monkeypatch.setattr(conditions, "STATE_WINDOW_S", 0.6)
    stove = Stove(session.system, tmp_path / "state")
    stove.set(temp=40000, load=5, free=4_000_000)
    session.system = stove
    return stove


def begun(session, settle: float) -> Conditions:
    found = Conditions(session, settle)
    found._measure_idle()
    return found


def test_a_ready_device_is_not_waited_for(session, stove):
    assert begun(session, 30).ready(need_b=1e9).unmet == ()


def test_a_hot_device_is_waited_for_until_it_is_cool(session, stove, monkeypatch):
    found = begun(session, 60)
    stove.set(temp=55000, load=5, free=4_000_000)
    looks = []
    real = conditions.Conditions._unmet

    def cooling(self, look, need, waited):
        looks.append(real(self, look, need, waited))
        if len(looks) == 3:
            stove.set(temp=42900, load=5, free=4_000_000)
        return looks[-1]

    monkeypatch.setattr(conditions.Conditions, "_unmet", cooling)
    gate = found.ready()
    assert gate.unmet == ()
    assert len(looks) > 3
    assert all(looks[:3])
    assert not looks[-1]
    assert gate.waited_s > 0


@pytest.mark.parametrize(
    ("state", "need", "word"),
    [
        ({"temp": 55000, "load": 5, "free": 4_000_000}, 0, "55 °C, at the start 40 °C"),
        ({"temp": 40000, "load": 90, "free": 4_000_000}, 0, "load, at the start"),
        ({"temp": 40000, "load": 5, "free": 1_000_000}, 2e9, "1.0 GiB of memory free, 1.9 needed"),
    ],
)
def test_the_time_out_is_a_named_doubt(session, stove, state, need, word):
    found = begun(session, 1.0)
    stove.set(**state)
    gate = found.ready(need_b=need)
    assert word in gate.doubt.detail
    assert gate.doubt.id == "not-ready"
    assert gate.notes().missed == gate.unmet


def test_the_power_source_that_the_profile_wants(session):
    found = Conditions(session, 60)
    found._initial_state = DeviceState(None, 0.0, None, None)
    on_battery = DeviceState(None, 0.0, None, on_battery=True)
    assert found._unmet(on_battery, 0, 1) == ()
    for wanted, missed in (("battery", ()), ("mains", ("runs on battery, the profile requires mains",))):
        session.device = Device("here", "linux", {"kind": "local"}, defaults={"power": wanted})
        assert found._unmet(on_battery, 0, 1) == missed
        assert found._unmet(DeviceState(None, 0.0, None, None), 0, 1) == ()


@pytest.mark.parametrize(("profile", "doubted"), [("low-power", True), ("balanced", False), ("", False)])
def test_a_battery_saver_is_a_doubt(session, monkeypatch, profile, doubted):
    monkeypatch.setitem(
        conditions.BATTERY_SAVER_QUERIES, "linux", (f"echo {profile}", conditions.BATTERY_SAVER_QUERIES["linux"][1])
    )
    found = Conditions(session, 1)
    found._battery_saver = found._detect_battery_saver()
    assert [doubt.id for doubt in found.end()] == (["battery-saver"] if doubted else [])


def test_load_alone_is_not_waited_for_for_ever(session):
    found = Conditions(session, 60)
    found._initial_state = DeviceState(None, 0.0, None, None)
    busy = DeviceState(None, 0.9, None, None)
    assert found._unmet(busy, 0, conditions.LOAD_S - 1)
    assert not found._unmet(busy, 0, conditions.LOAD_S + 1)


def test_without_settling_nothing_is_looked_at(session):
    found = Conditions(session, 0)
    assert found.begin() == {}
    assert found.ready().waited_s == 0
    assert found.drift() is None


def test_the_facts_of_the_idle_device(session):
    facts = Conditions(session, 1).begin()
    assert 0 <= facts["at_start"]["load"] <= 1
    assert facts["read_bandwidth"]["bytes_per_s"] > 1e8
    assert facts["read_bandwidth"]["method"]


def test_programs_that_come_and_go_are_no_drift(session, monkeypatch):
    """Most tries are slowed down by something; one that isn't is enough."""
    times = itertools.cycle([0.9, 0.52, 1.4, 0.7, 0.6, 0.8, 2.0])
    monkeypatch.setattr(Conditions, "_time_command", lambda self, command: 0.02 if command == ":" else next(times))
    found = Conditions(session)
    assert found._time_canary() == pytest.approx(0.5)
    found._canary = 0.49
    assert found.drift() is None


def test_drift_is_a_doubt_in_both_directions(session, monkeypatch):
    found = Conditions(session, 1)
    for again, doubted in ((1.04, False), (1.2, True), (0.8, True)):
        found._canary = 1.0
        monkeypatch.setattr(Conditions, "_time_canary", lambda self, again=again: again)
        assert bool(found.drift()) is doubted


def test_bandwidth_without_python_copies_a_file_and_says_so(session, tmp_path):
    file = tmp_path / "it's 8 MiB $(x)"
    file.write_bytes(bytes(8 << 20))
    found = bandwidth.measure(session, str(file), 8 << 20, python="no-such-python")
    assert "lower bound" in found.method
    assert found.bytes_per_s > 1e8
    assert "no-such-python" in bandwidth.measure(session, python="no-such-python")
    assert "memchr" in bandwidth.measure(session, python=sys.executable).method


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["no-such-python", "-"], "no-such-python"),
        ([sys.executable, "-", "/bin/ls"], "no shared libraries of ggml|finds no GPU"),
        ([sys.executable, "-c", "print(1)"], "printed no output"),
        ([sys.executable, "-c", "import sys; sys.exit('no driver')"], "no driver"),
    ],
)
def test_a_bandwidth_that_is_not_to_be_had_says_why(session, argv, why):
    assert re.search(why, bandwidth.measure_gpu(session, Command(argv)))
    facts = Conditions(session, 1).begin(gpu="this engine has none")
    assert facts["gpu_read_bandwidth"] == {"absent": "this engine has none"}


def test_bytes_per_token():
    assert bytes_per_token(100, 2, 1000) == 2100
