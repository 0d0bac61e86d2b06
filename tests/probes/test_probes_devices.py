"""What named machines printed, read by the probes. Each text is a fact with its source beside it.

Sources are public: an issue of a repository, or a repository and a path. File contents are shown as the
loop prints them (``path:line``); of long outputs only the lines that the loop asks for are kept.
"""

from __future__ import annotations

import pytest

from edgebench.core import Sample
from edgebench.errors import Unreadable
from edgebench.probes.battery import Battery
from edgebench.probes.memory_windows import MemoryWindows
from edgebench.probes.nvidia import Nvidia
from edgebench.probes.phone_gpu import PhoneGpu
from edgebench.probes.rapl import Rapl
from edgebench.probes.throttling import Throttling

MIB = 1 << 20


def values(samples) -> dict[str, float]:
    """Name, with the first label where there is one → value."""
    return {" ".join([s.name, *list(s.labels.values())[:1]]): s.value for s in samples}


def lines(path: str, text: str) -> str:
    """The lines of a file as ``grep -H`` shows them."""
    return "\n".join(f"{path}:{line.strip()}" for line in text.strip().splitlines())


# --- NVIDIA ----------------------------------------------------------------------------------
# utkuozdemir/nvidia_gpu_exporter, internal/captures/: what nvidia-smi printed on named machines, at
# rest and under load; the fields that the probe asks for, in its order, without their units.

NVIDIA = {
    "linux-x86_64__nvidia-geforce-rtx-2080-super__595.71.05, load": (
        "0, 8, 819, 111.50, 45, 2055, 0x0000000000000000",
        {"gpu_util 0": 0.08, "gpu_used_b 0": 819 * MIB, "power_w gpu 0": 111.5, "temp_c gpu 0": 45},
    ),
    "linux-x86_64__nvidia-geforce-rtx-2080-super__595.71.05, idle, at its power limit": (
        "0, 0, 214, 39.32, 40, 765, 0x0000000000000004",
        {"gpu_clock_hz 0": 765e6, "gpu_power_capped 0": 1, "throttled gpu 0: hardware slowdown": 0},
    ),
    "linux-x86_64__nvidia-h100-80gb-hbm3__590.48.01, load": (
        "0, 100, 19818, 631.95, 59, 1980, 0x0000000000000000",
        {"gpu_util 0": 1.0, "gpu_used_b 0": 19818 * MIB, "power_w gpu 0": 631.95, "gpu_power_capped 0": 0},
    ),
    "linux-x86_64__nvidia-h200__590.48.01, idle": (
        "0, 0, 0, 77.71, 28, 345, 0x0000000000000001",
        {"gpu_util 0": 0, "gpu_used_b 0": 0, "power_w gpu 0": 77.71, "gpu_power_capped 0": 0},
    ),
    "windows-x86_64__nvidia-geforce-rtx-2080-super__610.62, load": (
        "0, 7, 1366, 97.99, 44, 2040, 0x0000000000000000",
        {"gpu_util 0": 0.07, "gpu_used_b 0": 1366 * MIB, "temp_c gpu 0": 44},
    ),
}


@pytest.mark.parametrize("machine", NVIDIA)
def test_nvidia_devices(machine):
    text, wanted = NVIDIA[machine]
    found = values(Nvidia().parse(1.0, text))
    assert found.items() >= wanted.items()
    assert not any(value for name, value in found.items() if name.startswith("throttled"))


def test_nvidia_with_slices_tells_no_use():
    """linux-x86_64__nvidia-h100-mig__590.48.01, load: utilization.gpu is [N/A]; three processes."""
    probe = Nvidia()
    found = values(probe.parse(1.0, "0, [N/A], 11125, 433.78, 53, 1980, 0x0000000000000000"))
    assert "gpu_util 0" not in found
    assert found["gpu_used_b 0"] == 11125 * MIB
    list(probe.parse(1.0, "pid 21198"))
    gpu = "GPU-00000000-0000-0000-0000-000000000000"
    rows = f"21180, {gpu}, 2296\n21181, {gpu}, 1272\n21198, {gpu}, 7484"
    assert values(probe.parse(1.0, rows)) == {f"gpu_memory_b {gpu}": 7484 * MIB}


def test_nvidia_on_windows_hides_the_memory_of_a_process():
    """windows-x86_64__nvidia-geforce-rtx-2080-super__610.62: idle 797 MiB, under load 1366 MiB; every
    process has [N/A]."""
    probe = Nvidia()
    list(probe.parse(1.0, "0, 0, 797, 39.25, 40, 300, 0x0000000000000001"))
    list(probe.parse(1.0, "pid 2140"))
    gpu = "GPU-00000000-0000-0000-0000-000000000000"
    assert not list(probe.parse(1.5, f"2140, {gpu}, [N/A]\n13264, {gpu}, [N/A]"))
    grown = [s for s in probe.parse(2.0, NVIDIA[list(NVIDIA)[-1]][0]) if s.name == "gpu_memory_b"]
    assert [(s.value, s.labels["how"]) for s in grown] == [
        ((1366 - 797) * MIB, "growth of the memory in use on the whole GPU")
    ]


def test_a_driver_that_tells_almost_nothing():
    """github.com/plambe/zabbix-nvidia-smi-multi-gpu issue 17: an RTX 3080, 2021: use and power [N/A]."""
    assert values(Nvidia().parse(1.0, "0, [N/A], 9029, [N/A], 54, [N/A], [N/A]")) == {
        "gpu_used_b 0": 9029 * MIB,
        "temp_c gpu 0": 54,
    }


# --- batteries -------------------------------------------------------------------------------

BAT = "/sys/class/power_supply/{}/uevent"
# Old kernels' uevent files have no POWER_SUPPLY_TYPE.
BATTERIES = {
    "positive while it discharges: sebanc/brunch issue 117, a tablet": (
        "BATC",
        """POWER_SUPPLY_NAME=BATC
        POWER_SUPPLY_STATUS=Discharging
        POWER_SUPPLY_VOLTAGE_NOW=3942000
        POWER_SUPPLY_CURRENT_NOW=1560000""",
        3.942 * 1.56,
    ),
    "the same, charging: its gauge says 0": (
        "BATC",
        """POWER_SUPPLY_NAME=BATC
        POWER_SUPPLY_STATUS=Charging
        POWER_SUPPLY_VOLTAGE_NOW=4109000
        POWER_SUPPLY_CURRENT_NOW=0""",
        None,
    ),
    "positive while it discharges: mjkillough/cnx pull request 31, a Dell laptop": (
        "BAT0",
        """POWER_SUPPLY_NAME=BAT0
        POWER_SUPPLY_STATUS=Discharging
        POWER_SUPPLY_VOLTAGE_NOW=12600000
        POWER_SUPPLY_CURRENT_NOW=756000""",
        12.6 * 0.756,
    ),
    "positive while it charges: fastfetch-cli/fastfetch issue 118, a Dell laptop": (
        "BAT0",
        """POWER_SUPPLY_NAME=BAT0
        POWER_SUPPLY_TYPE=Battery
        POWER_SUPPLY_STATUS=Charging
        POWER_SUPPLY_VOLTAGE_NOW=12729000
        POWER_SUPPLY_CURRENT_NOW=413000""",
        None,
    ),
    "negative while it charges: MatteCarra/AccA issue 27, a Xiaomi Mi 8": (
        "battery",
        """POWER_SUPPLY_NAME=battery
        POWER_SUPPLY_STATUS=Charging
        POWER_SUPPLY_VOLTAGE_NOW=3888173
        POWER_SUPPLY_CURRENT_NOW=-326171""",
        None,
    ),
    "976 µA at its charger: MatteCarra/AccA issue 35, a Pixel 3a": (
        "battery",
        """POWER_SUPPLY_NAME=battery
        POWER_SUPPLY_STATUS=Not charging
        POWER_SUPPLY_VOLTAGE_NOW=3815175
        POWER_SUPPLY_CURRENT_NOW=976""",
        None,
    ),
}


@pytest.mark.parametrize("device", BATTERIES)
def test_batteries_of_every_convention(device):
    name, text, watts = BATTERIES[device]
    found = values(Battery().parse(1.0, lines(BAT.format(name), text)))
    drawn = next((value for key, value in found.items() if key.startswith("power_w")), None)
    assert drawn == (None if watts is None else pytest.approx(watts))
    assert found[f"on_battery {name}"] == (1 if watts else 0)


def test_microamperes_stay_microamperes_when_little_is_drawn():
    """The Motorola in the logs of thaliproject (POWER_SUPPLY_CURRENT_NOW=-7011 and -17427 µA, within
    minutes; the status is put in): 7 mA at rest aren't 7 A once the unit is known."""

    def drawn(microamperes: int, probe: Battery) -> list[float]:
        text = f"""POWER_SUPPLY_NAME=battery
        POWER_SUPPLY_STATUS=Discharging
        POWER_SUPPLY_VOLTAGE_NOW=4311325
        POWER_SUPPLY_CURRENT_NOW={microamperes}"""
        return [s.value for s in probe.parse(1.0, lines(BAT.format("battery"), text)) if s.name == "power_w"]

    probe = Battery()
    assert drawn(-17427, probe) == [pytest.approx(0.017427 * 4.311325)]
    assert drawn(-7011, probe) == [pytest.approx(0.007011 * 4.311325)]


# --- processors' energy counters -------------------------------------------------------------


def zone(path: str, **fields: object) -> str:
    return "\n".join(f"/sys/class/powercap/{path}/{name}:{value}" for name, value in fields.items())


def test_a_haswell_desktop():
    """github.com/intel/thermal_daemon issue 45, an i7-4770S: the dram counter and its range."""
    probe = Rapl()
    begin = 2469474853
    list(probe.parse(1.0, zone("intel-rapl:0:2", name="dram", max_energy_range_uj=262143999938)))
    list(probe.parse(10.0, zone("intel-rapl:0:2", energy_uj=begin)))
    assert values(probe.parse(12.0, zone("intel-rapl:0:2", energy_uj=begin + 3_000_000))) == {"power_w dram-0": 1.5}


def test_parts_of_a_package_are_not_added_to_it():
    """github.com/flightlessmango/MangoHud issue 1776: package-0, and core and uncore inside of it."""
    probe, begin = Rapl(), {"package-0": 26963529117, "core": 7980278886, "uncore": 6564982278}
    for place, (name, energy) in zip(("0", "0:0", "0:1"), begin.items(), strict=True):
        list(probe.parse(1.0, zone(f"intel-rapl:{place}", name=name, max_energy_range_uj=262143328850)))
        list(probe.parse(2.0, zone(f"intel-rapl:{place}", energy_uj=energy)))
    later = [
        zone(f"intel-rapl:{p}", energy_uj=e + 10**7) for p, e in zip(("0", "0:0", "0:1"), begin.values(), strict=True)
    ]
    assert values(probe.parse(3.0, "\n".join(later))) == {"power_w package-0": 10.0}


def test_a_counter_beyond_its_range_is_read():
    """github.com/intel/powertelemetry issue 3: a machine whose intel-rapl:1 stands at 60293987000000 µJ."""
    probe = Rapl()
    list(probe.parse(1.0, zone("intel-rapl:1", name="package-1", max_energy_range_uj=262143328850)))
    list(probe.parse(2.0, zone("intel-rapl:1", energy_uj=60293987000000)))
    assert values(probe.parse(3.0, zone("intel-rapl:1", energy_uj=60294087000000))) == {"power_w package-1": 100.0}


# --- clocks and throttling -------------------------------------------------------------------


def test_a_board_whose_clock_is_limited():
    """github.com/christianhaitian/arkos issue 3, an RG351P: its highest step is 1512000, its owner wrote 408000
    into scaling_max_freq. github.com/ThomasKaiser/sbc-bench issue 37: related_cpus is ``0 1``, with a space."""
    policy = "/sys/devices/system/cpu/cpufreq/policy0"
    probe = Throttling()
    list(probe.parse(1.0, f"{policy}/related_cpus:0 1\n{policy}/cpuinfo_max_freq:1512000"))
    found = values(probe.parse(2.0, f"{policy}/scaling_cur_freq:408000\n{policy}/scaling_max_freq:408000"))
    assert found == {"cpu_clock_hz 0 1": 408e6, "throttled clock limit of cores 0 1": 1}


def test_a_clock_above_its_nominal_highest():
    """github.com/HeinleinSupport/check_mk_extensions issue 151: a Dell server at 3392895 kHz of 2100000."""
    policy = "/sys/devices/system/cpu/cpufreq/policy0"
    probe = Throttling()
    list(probe.parse(1.0, f"{policy}/related_cpus:0\n{policy}/cpuinfo_max_freq:2100000"))
    found = values(probe.parse(2.0, f"{policy}/scaling_cur_freq:3392895\n{policy}/scaling_max_freq:2100000"))
    assert found == {"cpu_clock_hz 0": 3392.895e6, "throttled clock limit of cores 0": 0}


def test_a_phone_whose_cooling_has_begun():
    """linux-pm mailing list, 'cpuidle cooling' (a Librem 5, i.MX8M): types and states after heating up."""
    devices = {"thermal-cpufreq-0": 1, "thermal-idle-0": 0, "thermal-idle-1": 0, "thermal-idle-2": 0}
    probe, base = Throttling(), "/sys/class/thermal/cooling_device"
    list(probe.parse(1.0, "\n".join(f"{base}{i}/type:{name}" for i, name in enumerate(devices))))
    found = values(probe.parse(2.0, "\n".join(f"{base}{i}/cur_state:{s}" for i, s in enumerate(devices.values()))))
    assert found["throttled cooling device thermal-cpufreq-0"] == 1
    assert sum(found.values()) == 1


PMSET = {
    "prometheus/node_exporter issue 2031, an Intel MacBook": (
        """Note: No thermal warning level has been recorded
Note: No performance warning level has been recorded
2021-05-02 11:51:57 +0800 CPU Power notify
\tCPU_Scheduler_Limit \t= 100
\tCPU_Available_CPUs \t= 12
\tCPU_Speed_Limit \t= 100
""",
        [0],
    ),
    "yujitach/MenuMeters issue 158, an Intel Mac that throttles": (
        """2020-06-26 12:30:37 +0200 CPU Power notify
\tCPU_Scheduler_Limit \t= 40
\tCPU_Available_CPUs \t= 8
\tCPU_Speed_Limit \t= 28
""",
        [1],
    ),
    "exelban/stats issue 749, an M1 Pro: it tells nothing": (
        """Note: No thermal warning level has been recorded
Note: No performance warning level has been recorded
Note: No CPU power status has been recorded
""",
        [],
    ),
}


@pytest.mark.parametrize("mac", PMSET)
def test_macs_and_their_speed_limit(mac):
    text, wanted = PMSET[mac]
    assert [s.value for s in Throttling().parse(1.0, text) if s.name == "throttled"] == wanted


# --- phones' GPUs ----------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "share"), [("667051 1007167", 0.6623), ("531575 1002262", 0.5304)])
def test_adreno_of_a_galaxy_s4(text, share):
    """Qualcomm developer forum, 'GPU Load Calculation and Trace Alignment': gpubusy of an i9505 (APQ8064T)."""
    (sample,) = PhoneGpu().parse(1.0, f"/sys/class/kgsl/kgsl-3d0/gpubusy: {text}")
    assert sample.value == pytest.approx(share, abs=1e-4)


# --- Windows in other languages --------------------------------------------------------------


def test_an_error_in_any_language_is_a_reason():
    """github.com/PowerShell/PowerShell issue 16802: a Chinese Windows."""
    with pytest.raises(Unreadable, match="指定的类不存在。"):
        list[Sample](MemoryWindows().parse(1.0, "Get-CimInstance: 指定的类不存在。\n"))
