"""Energy: a simulated battery of known draw through the real loop, parser and integrator."""

from __future__ import annotations

import math
import shlex
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgebench.bench import observe
from edgebench.bench.conditions import Idle
from edgebench.bench.sampler import Sampler
from edgebench.bench.series import SampleSeries
from edgebench.core import Cluster, Device, EnergyNotes, EngineStart, ModelFacts, RoundData, Sample, Throttling, Turn
from edgebench.device.session import Session
from edgebench.judging import energy, metrics
from edgebench.judging.energy import Energy
from edgebench.judging.metrics.bandwidth import utilisation_by_depth
from edgebench.probes.battery import Battery
from edgebench.probes.rapl import Rapl


class Says:
    """A system whose sampling loop prints what a device would."""

    def __init__(self, text: str) -> None:
        self.text = text

    def loop(self, sources, pid):
        return f"printf %s {shlex.quote(self.text)}; sleep 60"


def tick(at: float, *lines: str) -> str:
    clock = f"/proc/self/stat:9 (grep) R 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {round(at * 100)} 0 0"
    return "\n".join([clock, *lines, "% - x", ""])


def battery(at: float, watts: float, convention: str) -> str:
    volts = 3.85
    amperes = watts / volts
    current = {"negative": -amperes * 1e6, "positive": amperes * 1e6, "milliampere": amperes * 1e3}[convention]
    base = "/sys/class/power_supply/battery/uevent:POWER_SUPPLY_"
    rows = {"TYPE": "Battery", "STATUS": "Discharging", "CURRENT_NOW": round(current), "VOLTAGE_NOW": int(volts * 1e6)}
    return tick(at, *(f"{base}{name}={value}" for name, value in rows.items()))


def draw(at: float) -> float:
    """Watts: 1.5 idle, and 6 from 20 to 50 with a slow wave on it."""
    return 1.5 + (4.5 + math.sin(at / 3) if 20 <= at < 50 else 0.0)


@pytest.fixture
def session():
    with Session(Device("here", "linux", {"kind": "local"})) as opened:
        yield opened


@pytest.mark.parametrize("convention", ["negative", "positive", "milliampere"])
def test_a_battery_of_known_draw_within_one_per_cent(session, convention):
    session.system = Says("".join(battery(at, draw(at), convention) for at in range(81)))
    with Sampler(session, 0, {"battery": Battery()}) as sampler:
        assert sampler.wait(lambda s: sum(x.name == "power_w" for x in s.samples) == 81, 60)
    idle_span = sampler.local(1.0), sampler.local(19.0)
    idle = Idle(sampler.by_label("power_w", "of", *idle_span), 18.0)
    assert idle.watts["battery"] == pytest.approx(1.5, rel=0.01)
    begin, end = sampler.local(5.0), sampler.local(75.0)
    found = energy.energy_between(sampler.integral("power_w", "of", begin, end), end - begin, idle.watts)
    true = sum(draw(at / 1000) for at in range(5000, 75000)) / 1000
    assert found.gross_j == pytest.approx(true, rel=0.01)
    assert found.net_j == pytest.approx(true - 1.5 * 70, rel=0.01)
    assert found.covers_device


def test_phases_of_a_round_and_joules_per_token(session):
    session.system = Says("".join(battery(at, draw(at), "negative") for at in range(81)))
    with Sampler(session, 0, {"battery": Battery()}) as sampler:
        assert sampler.wait(lambda s: sum(x.name == "power_w" for x in s.samples) == 81, 60)
    sent = sampler.local(25.0)
    turn = Turn(
        measures=(
            "prefill",
            "decode",
            "ttft",
        ),
        sent_at=sent,
        ttft_s=5.0,
        total_s=20.0,
        completion_tokens=100,
    )
    data = RoundData(
        [turn],
        sampler.local(20.0),
        sampler.local(50.0),
        samples=sampler,
        start=EngineStart(sent - sampler.local(20.0), sampler.local(20.0)),
        idle_w={"battery": 1.5},
    )
    found, _ = metrics.compute(metrics.energy.METRICS, data)
    true = {
        "energy_load_j": sum(draw(20 + i / 100) - 1.5 for i in range(500)) / 100,
        "energy_prefill_j": sum(draw(25 + i / 100) - 1.5 for i in range(500)) / 100,
        "energy_decode_j": sum(draw(30 + i / 100) - 1.5 for i in range(1500)) / 100,
        "energy_j": sum(draw(20 + i / 100) - 1.5 for i in range(3000)) / 100,
    }
    for name, value in true.items():
        assert found[name] == pytest.approx(value, rel=0.08), name
    assert found["j_per_token"] == pytest.approx(found["energy_decode_j"] / 100)
    assert found["power_w"] == pytest.approx(found["energy_decode_j"] / 15 + 1.5, rel=0.01)
    assert observe.notes(sampler, data, ()).energy == EnergyNotes(("battery",), True)


def test_counters_are_exact_even_across_their_end(session):
    """RAPL at 40 W that wraps: the integral of mean powers is the counted energy itself."""
    zone, top = "/sys/class/powercap/intel-rapl:0", 262143328850
    head = tick(0, f"{zone}/name:package-0", f"{zone}/max_energy_range_uj:{top}")
    rows = (tick(at, f"{zone}/energy_uj:{(top - 100_000_000 + 40_000_000 * at) % (top + 1)}") for at in range(1, 31))
    session.system = Says(head + "".join(rows))
    with Sampler(session, 0, {"rapl": Rapl()}) as sampler:
        assert sampler.wait(lambda s: len(s.samples) == 29, 60)
    begin, end = sampler.local(3.0), sampler.local(23.0)
    found = energy.energy_between(sampler.integral("power_w", "of", begin, end), end - begin)
    assert found.gross_j == pytest.approx(800, rel=0.001)
    assert found.net_j is None
    assert not found.covers_device


def test_charging_in_between_leaves_no_figure(session):
    text = "".join(battery(at, 5.0, "negative") for at in range(11))
    text += "".join(battery(at, 5.0, "negative").replace("Discharging", "Charging") for at in range(11, 31))
    text += "".join(battery(at, 5.0, "negative") for at in range(31, 41))
    session.system = Says(text)
    with Sampler(session, 0, {"battery": Battery()}) as sampler:
        assert sampler.wait(lambda s: sum(x.name == "on_battery" for x in s.samples) == 41, 60)
    begin, end = sampler.local(1.0), sampler.local(40.0)
    assert energy.energy_between(sampler.integral("power_w", "of", begin, end), end - begin) is None
    assert metrics.compute(metrics.energy.METRICS, RoundData([], begin, end, samples=sampler)) == ({}, [])


def test_nothing_is_counted_twice():
    assert energy.choose_sources({"battery": 1, "psys": 1, "package-0": 1, "gpu 0": 1}) == ("battery",)
    assert energy.choose_sources({"psys": 1, "package-0": 1}) == ("psys",)
    assert energy.choose_sources({"package-0": 1, "package-1": 1, "dram-0": 1, "gpu 0": 1, "core": 1}) == (
        "dram-0",
        "gpu 0",
        "package-0",
        "package-1",
    )
    assert energy.choose_sources({"something": 1}) == ()


@given(st.lists(st.tuples(st.floats(0.1, 100), st.floats(0.1, 50)), min_size=1, max_size=6))
def test_pieces_add_up(rows):
    idle = {"battery": 0.1}
    pieces = [energy.energy_between({"battery": (watts * seconds, seconds)}, seconds, idle) for watts, seconds in rows]
    whole = energy.total_energy(pieces)
    assert whole.gross_j == pytest.approx(sum(watts * seconds for watts, seconds in rows))
    assert whole.net_j == pytest.approx(whole.gross_j - 0.1 * whole.seconds)


def test_differently_metered_pieces_are_not_added():
    one, other = Energy(1, 1, 1, ("battery",)), Energy(1, 1, 1, ("package-0",))
    assert energy.total_energy([one, other]) is None
    assert energy.total_energy([]) is None


# --- beside energy ---------------------------------------------------------------------------


class Seen:
    """A sampler that has seen these samples, on the controller's own clock."""

    def __init__(self, *samples: Sample) -> None:
        self.samples = list(samples)

    def local(self, at: float) -> float:
        return at


def test_when_throttling_began_and_by_what():
    seen = Seen(
        Sample("throttled", 0, 10, {"by": "gpu 0: heat"}),
        Sample("throttled", 1, 14, {"by": "gpu 0: heat"}),
        Sample("throttled", 1, 15, {"by": "gpu 0: heat"}),
        Sample("throttled", 1, 12, {"by": "clock limit of cores 7"}),
        Sample("throttled", 1, 99, {"by": "later"}),
        Sample("temp_c", 1, 12, {"of": "cpu"}),
    )
    assert observe.throttling(seen, 10, 20) == (Throttling(2, "clock limit of cores 7"), Throttling(4, "gpu 0: heat"))


def test_bandwidth_use_per_depth():
    turn = Turn(measures=("decode",), decode_tps=50.0, prompt_tokens=900, completion_tokens=200)
    model = ModelFacts(weights_bytes=120e6, weights_read_bytes=100e6, kv_bytes_per_token=20e3)
    ((depth, use),) = utilisation_by_depth(RoundData([turn], model=model, bytes_per_s=12e9))
    assert depth == 1000
    assert use == pytest.approx((100e6 + 20e6) * 50 / 12e9)
    assert utilisation_by_depth(RoundData([replace(turn, draft_tokens=8)], model=model, bytes_per_s=12e9)) == []
    assert utilisation_by_depth(RoundData([turn], bytes_per_s=12e9)) == []


def test_phases_need_a_first_token():
    turn = Turn(measures=("prefill", "decode"), sent_at=time.monotonic(), total_s=2.0)
    assert RoundData([turn]).spans("decode") == []


def test_how_busy_each_processor_and_each_cluster_was():
    seen = SampleSeries({})
    seen.samples = [
        Sample("cpu_core_util", share, at, {"core": core})
        for at in (12.0, 14.0)
        for core, share in (("0", 0.9), ("1", 0.7), ("2", 0.1), ("10", 0.2))
    ]
    seen._last_reads = [sample.at - 2 for sample in seen.samples]
    turn = Turn(measures=("decode",), sent_at=9.0, ttft_s=1.0, total_s=5.0)
    clusters = [Cluster((0, 1), 3_000_000_000), Cluster((2, 10), 2_000_000_000)]
    by_core = {"0": 0.9, "1": 0.7, "2": 0.1, "10": 0.2}
    assert observe.processors(seen, RoundData([turn]), clusters) == (by_core, {"0-1": 0.8, "2,10": 0.15})
    assert observe.processors(seen, RoundData([turn]), clusters[:1]) == (by_core, {})
    assert observe.processors(seen, RoundData([]), clusters) == ({}, {})
