"""Every probe's parser on what real machines printed: the source of each text is beside it."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab.paths import RECORDED

from edgebench import plugins
from edgebench.core import Sample
from edgebench.errors import Unreadable
from edgebench.probes.apple_gpu import AppleGpu
from edgebench.probes.battery import Battery
from edgebench.probes.cpu_elsewhere import CpuElsewhere
from edgebench.probes.drm import Drm
from edgebench.probes.memory_macos import MemoryMacos
from edgebench.probes.memory_windows import MemoryWindows
from edgebench.probes.nvidia import Nvidia
from edgebench.probes.phone_gpu import PhoneGpu
from edgebench.probes.rapl import Rapl
from edgebench.probes.thermal import Thermal
from edgebench.probes.throttling import Throttling
from edgebench.probes.windows_gpu import WindowsGpu

MIB = 1 << 20


def recorded(name: str, path: str = "") -> str:
    """A recorded text; with ``path`` as the lines of that file on the device."""
    text = (RECORDED / f"{name}.txt").read_text()
    return "\n".join(f"{path}:{line}" for line in text.splitlines()) if path else text


def values(samples) -> dict[str, float]:
    """Name, with the first label where there is one → value."""
    return {" ".join([s.name, *list(s.labels.values())[:1]]): s.value for s in samples}


def test_every_recorded_text_says_where_it_is_from():
    texts = {path.stem for path in RECORDED.iterdir() if path.suffix in (".txt", ".json")}
    assert texts == {path.stem for path in RECORDED.glob("*.source")}


# --- GPUs ------------------------------------------------------------------------------------


def test_amd_and_intel_memory_by_region():
    amd = recorded("amdgpu-fdinfo", "/proc/2217/fdinfo/99")
    assert values(Drm().parse(1.0, amd)) == {"gpu_memory_b 0000:08:00.0": (2068 + 8192) * 1024}
    intel = recorded("i915-fdinfo", "/proc/9/fdinfo/3")
    assert values(Drm().parse(1.0, intel)) == {"gpu_memory_b 0000:00:02.0": 6044 * 1024}


def test_what_an_amd_card_had_to_give_away_is_told_apart():
    text = recorded("amdgpu-evicted-fdinfo", "/proc/3766769/fdinfo/8")
    card = "0000:83:00.0"
    assert values(Drm().parse(1.0, text)) == {f"gpu_memory_b {card}": 120 * 1024, f"gpu_shared_b {card}": 0}
    spilled = text.replace("evicted-vram:       0 KiB", "evicted-vram:       900 MiB")
    assert values(Drm().parse(1.0, spilled))[f"gpu_shared_b {card}"] == 900 * MIB


def test_one_client_with_two_descriptors_counts_once():
    text = recorded("amdgpu-fdinfo", "/proc/7/fdinfo/5") + "\n" + recorded("amdgpu-fdinfo", "/proc/7/fdinfo/6")
    assert values(Drm().parse(1.0, text)) == {"gpu_memory_b 0000:08:00.0": (2068 + 8192) * 1024}
    other = text.replace("fdinfo/6:drm-client-id:  217", "fdinfo/6:drm-client-id:  218")
    assert values(Drm().parse(1.0, other)) == {"gpu_memory_b 0000:08:00.0": 2 * (2068 + 8192) * 1024}


def test_gpu_time_of_a_client_becomes_use():
    drm = Drm()
    text = recorded("amdgpu-fdinfo", "/proc/7/fdinfo/5")
    list(drm.parse(10.0, text))
    later = values(drm.parse(12.0, text.replace("107322799", str(107322799 + 1_500_000_000))))
    assert later["gpu_util 0000:08:00.0 gfx"] == pytest.approx(0.75)


def test_a_device_that_tells_no_memory_is_absent_not_zero():
    assert values(Drm().parse(1.0, recorded("xdna-fdinfo", "/proc/7/fdinfo/4"))) == {}


def test_amd_card_files():
    card = "/sys/class/drm/card1/device"
    text = (
        f"{card}/gpu_busy_percent:62\n{card}/mem_info_vram_used:2048\n"
        f"{card}/hwmon/hwmon3/power1_average:41000000\n{card}/hwmon/hwmon3/power1_input:43000000\n"
        f"{card}/hwmon/hwmon3/temp1_input:54000\n{card}/hwmon/hwmon3/freq1_input:2400000000"
    )
    assert values(Drm().parse(1.0, text)) == {
        "gpu_util card1": 0.62,
        "gpu_used_b card1": 2048,
        "power_w card1": 41.0,
        "temp_c card1": 54.0,
        "gpu_clock_hz card1": 2.4e9,
    }


NVIDIA = "0, 97, 5321, 148.63, 74, 1590, 0x0000000000000004"


def test_nvidia_streams_devices_and_the_engines_process():
    nvidia = Nvidia()
    found = {}
    for line in ("pid 4711", "4711, GPU-d0180485-9584, 4962", "99, GPU-d0180485-9584, 300", NVIDIA):
        found.update(values(nvidia.parse(1.0, line)))
    assert found["gpu_memory_b GPU-d0180485-9584"] == 4962 * MIB
    assert found["gpu_used_b 0"] == 5321 * MIB
    assert (found["gpu_util 0"], found["power_w gpu 0"], found["temp_c gpu 0"]) == (0.97, 148.63, 74)
    assert found["gpu_clock_hz 0"] == 1590e6
    assert found["gpu_power_capped 0"] == 1
    assert not any(value for name, value in found.items() if name.startswith("throttled"))


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        ("0x0000000000000020", "software thermal slowdown"),
        ("0x0000000000000048", "hardware slowdown"),
        ("0x0000000000000080", "hardware power brake"),
    ],
)
def test_nvidia_throttling_has_its_reason(mask, reason):
    found = values(Nvidia().parse(1.0, NVIDIA.replace("0x0000000000000004", mask)))
    assert found[f"throttled gpu 0: {reason}"] == 1


def test_under_wddm_the_memory_is_the_growth_and_says_so():
    nvidia = Nvidia()
    for line in ("0, 0, 1000, 20, 40, 300, 0x1", "pid 4711", "4711, GPU-d0180485-9584, [N/A]"):
        list(nvidia.parse(1.0, line))
    grown = [s for s in nvidia.parse(2.0, "0, 50, 5000, 80, 60, 1500, 0x0") if s.name == "gpu_memory_b"]
    assert [(s.value, s.labels["how"]) for s in grown] == [(4000 * MIB, "growth of the memory in use on the whole GPU")]


def test_what_nvidia_does_not_tell_is_absent():
    text = "0, [N/A], 512, [Not Supported], [Unknown Error], -5, [N/A]"
    assert values(Nvidia().parse(1.0, text)) == {"gpu_used_b 0": 512 * MIB}
    for text in ("sh: 1: nvidia-smi: not found", "NVIDIA-SMI has failed because it couldn't communicate"):
        with pytest.raises(Unreadable, match=r"nvidia-smi|NVIDIA-SMI"):
            list(Nvidia().parse(1.0, text))
    assert not list(Nvidia().parse(1.0, 'Field "clocks_event_reasons.active" is not a valid field to query.'))


def test_adreno_says_what_the_kernel_says_before_dumpsys():
    phone = PhoneGpu()
    mtrack = "   EGL mtrack     1024     1024        0        0\n    GL mtrack   204800   204800        0        0"
    told = list(phone.parse(1.0, mtrack))
    assert [(s.value, s.labels["how"]) for s in told] == [(205824 * 1024, "dumpsys meminfo, GL and EGL mtrack")]
    # As AOSP's ActivityThread.dumpMemInfoTable prints it: the table's total, and the summary's below it.
    total = "        TOTAL   412345   401234      512       64   512345\n   TOTAL PSS:   412345   TOTAL RSS:   512345"
    assert values(PhoneGpu().parse(1.0, total)) == {"pss_b": 412345 * 1024}
    lines = [line for line in recorded("meminfo-mtrack").splitlines() if "mtrack" in line]
    assert [s.value for s in phone.parse(1.5, "\n".join(lines))] == [(27744 + 25240) * 1024]
    kernel = list(phone.parse(2.0, "/sys/class/kgsl/kgsl/proc/812/gpumem_unmapped:4831838208"))
    assert kernel[0].value == 4831838208
    assert not list(phone.parse(3.0, mtrack))


def test_adreno_busy_clock_and_heat():
    kgsl = "/sys/class/kgsl/kgsl-3d0"
    text = f"{kgsl}/gpubusy: 400000 1000000\n{kgsl}/gpuclk:680000000\n{kgsl}/temp:51200"
    assert values(PhoneGpu().parse(1.0, text)) == {"gpu_util": 0.4, "gpu_clock_hz": 680e6, "temp_c gpu": 51.2}
    assert values(PhoneGpu().parse(1.0, f"{kgsl}/gpubusy:       0       0")) == {}


def test_apple_gpu():
    found = values(AppleGpu().parse(1.0, recorded("ioaccelerator-m4")))
    assert found == {"gpu_util 0": 0.21, "gpu_used_b 0": 351141888}


def test_windows_gpu_keeps_dedicated_and_shared_apart():
    samples = list(WindowsGpu().parse(1.0, recorded("gpu-memory-windows")))
    totals = {name: sum(s.value for s in samples if s.name == name) for name in ("gpu_memory_b", "gpu_shared_b")}
    assert totals == {"gpu_memory_b": 6442450944, "gpu_shared_b": 943718400 + 1048576}


# --- power -----------------------------------------------------------------------------------


def supply(**fields: object) -> str:
    rows = {"NAME": "battery", "TYPE": "Battery", "STATUS": "Discharging", **fields}
    name = rows["NAME"]
    return "\n".join(f"/sys/class/power_supply/{name}/uevent:POWER_SUPPLY_{key}={value}" for key, value in rows.items())


def watts(text: str) -> float | None:
    return next((s.value for s in Battery().parse(1.0, text) if s.name == "power_w"), None)


def test_laptop_on_its_battery():
    text = recorded("uevent-thinkpad", "/sys/class/power_supply/BAT0/uevent")
    assert values(Battery().parse(1.0, text)) == {"on_battery BAT0": 1, "power_w battery BAT0": 19.195}


@pytest.mark.parametrize("current", [-1202147, 1202147])
def test_the_sign_of_the_current_is_not_used(current):
    """Phones that show discharging as negative, as positive, and without a sign."""
    assert watts(supply(CURRENT_NOW=current, VOLTAGE_NOW=4137440)) == pytest.approx(1.202147 * 4.13744)


@pytest.mark.parametrize("status", ["Charging", "Full", "Not charging", "Unknown"])
def test_while_it_charges_the_battery_does_not_know(status):
    assert watts(supply(STATUS=status, CURRENT_NOW=-1202147, VOLTAGE_NOW=4137440)) is None


def test_milliamperes_and_millivolts():
    assert watts(supply(CURRENT_NOW=-1202, VOLTAGE_NOW=4137)) == pytest.approx(1.202 * 4.137)
    assert watts(supply(CURRENT_NOW=-1202, VOLTAGE_NOW=4137440)) == pytest.approx(1.202 * 4.13744)


@pytest.mark.parametrize(
    "fields",
    [
        {"CURRENT_NOW": 0, "VOLTAGE_NOW": 4137440},
        {"CURRENT_NOW": "N/A", "VOLTAGE_NOW": 4137440},
        {"CURRENT_NOW": -1202147, "VOLTAGE_NOW": -1},
        {"CURRENT_NOW": 2147483647, "VOLTAGE_NOW": 4137440},
        {"CURRENT_NOW": "", "VOLTAGE_NOW": ""},
        {"POWER_NOW": 0},
    ],
)
def test_no_power_from_a_broken_gauge(fields):
    assert watts(supply(**fields)) is None


def test_a_charger_that_gives_only_a_part_leaves_no_figure():
    phone = supply(CURRENT_NOW=-1000000, VOLTAGE_NOW=4000000)
    usb = supply(NAME="usb", TYPE="USB", STATUS="", ONLINE=1)
    assert watts(f"{phone}\n{usb}") is None
    assert watts(f"{phone}\n{usb.replace('ONLINE=1', 'ONLINE=0')}") == 4.0
    assert watts('{"Discharging":true,"DischargeRate":14250,"PowerOnline":true}') is None


def test_a_mouse_and_a_second_name_of_the_same_battery_do_not_count():
    phone = supply(CURRENT_NOW=-1000000, VOLTAGE_NOW=4000000)
    twin = supply(NAME="bms", CURRENT_NOW=-1000000, VOLTAGE_NOW=4000000)
    mouse = supply(NAME="hid-1", SCOPE="Device", CURRENT_NOW=-100000, VOLTAGE_NOW=1500000)
    powers = [s.value for s in Battery().parse(1.0, "\n".join([twin, mouse, phone])) if s.name == "power_w"]
    assert powers == [4.0]


def test_mac_on_battery_and_at_its_charger():
    found = values(Battery().parse(1.0, recorded("smartbattery-2017")))
    assert found["power_w battery"] == pytest.approx(1.092 * 11.974)
    assert values(Battery().parse(1.0, recorded("smartbattery-charging"))) == {"on_battery battery": 0}


def test_windows_battery():
    text = '{"Discharging":true,"DischargeRate":14250,"PowerOnline":false}'
    assert values(Battery().parse(1.0, text)) == {"on_battery battery": 1, "power_w battery": 14.25}
    plugged = '{"Discharging":false,"DischargeRate":0,"PowerOnline":true}'
    assert values(Battery().parse(1.0, plugged)) == {"on_battery battery": 0}
    unknown = '{"Discharging":true,"DischargeRate":-2147483648}'
    assert values(Battery().parse(1.0, unknown)) == {"on_battery battery": 1}


def test_windows_battery_at_its_charger():
    said = dict(re.findall(r"^(\w+) +: (\w+)$", recorded("battery-windows"), re.MULTILINE))
    row = {name: said[name] for name in ("Discharging", "DischargeRate", "PowerOnline")}
    text = json.dumps({k: v == "True" if v in ("True", "False") else int(v) for k, v in row.items()})
    assert values(Battery().parse(1.0, text)) == {"on_battery battery": 0}


def test_windows_energy_meter_of_a_real_machine():
    assert values(Rapl().parse(1.0, recorded("energy-meter-windows"))) == {"power_w package-0": 19.835}


def rapl(zone: str, field: str, value: object) -> str:
    return f"/sys/class/powercap/{zone}/{field}:{value}"


def test_energy_counters_wrap():
    probe = Rapl()
    start = "\n".join(
        rapl(zone, field, value)
        for zone, name in (("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "core"), ("intel-rapl:1", "psys"))
        for field, value in (("name", name), ("max_energy_range_uj", 262143328850))
    )
    assert not list(probe.parse(1.0, start))
    near = 262143328850 - 5_000_000 + 1
    assert not list(probe.parse(10.0, "\n".join(rapl(z, "energy_uj", near) for z in ("intel-rapl:0", "intel-rapl:1"))))
    after = [rapl("intel-rapl:0", "energy_uj", 15_000_000), rapl("intel-rapl:1", "energy_uj", near + 4_000_000)]
    found = values(probe.parse(12.0, "\n".join(after)))
    assert found == {"power_w package-0": pytest.approx(10.0), "power_w psys": pytest.approx(2.0)}


def test_a_wrap_of_unknown_range_is_no_reading():
    probe = Rapl()
    list(probe.parse(1.0, rapl("intel-rapl:0", "name", "package-0")))
    list(probe.parse(2.0, rapl("intel-rapl:0", "energy_uj", 900)))
    assert not list(probe.parse(3.0, rapl("intel-rapl:0", "energy_uj", 5)))


# --- heat ------------------------------------------------------------------------------------


def test_android_current_temperatures_not_the_cached_ones():
    found = values(Thermal().parse(1.0, recorded("thermalservice-current")))
    assert found == {"temp_c cpu CPU0": 62.500004, "temp_c cpu CPU1": 62.500004, "temp_c gpu GPU": 61.000004}
    cached = recorded("thermalservice-shield")
    assert values(Thermal().parse(1.0, cached)) == {}
    assert "temp_c cpu CPU0" in values(Thermal().parse(1.0, cached + recorded("thermalservice-current")))


def test_absurd_temperatures_are_no_readings():
    thermal = Thermal()
    zones = {"zone-a": 45123, "zone-b": 47, "zone-c": 0, "zone-d": -273200, "zone-e": 6553500, "zone-f": 127}
    base = "/sys/class/thermal/thermal_zone"
    list(thermal.parse(1.0, "\n".join(f"{base}{i}/type:{name}" for i, name in enumerate(zones))))
    text = "\n".join(f"{base}{i}/temp:{value}" for i, value in enumerate(zones.values())) + f"\n{base}9/temp:N/A"
    assert values(thermal.parse(2.0, text)) == {"temp_c zone-a": 45.123, "temp_c zone-b": 47.0, "temp_c zone-f": 127.0}


def test_processor_sensors_only_of_known_chips():
    thermal = Thermal()
    base = "/sys/class/hwmon/hwmon"
    list(thermal.parse(1.0, f"{base}0/name:k10temp\n{base}1/name:nvme"))
    assert values(thermal.parse(2.0, f"{base}0/temp1_input:61250\n{base}1/temp1_input:44850")) == {
        "temp_c k10temp": 61.25
    }


def test_windows_thermal_zones():
    found = values(Thermal().parse(1.0, recorded("thermal-zones-windows")))
    assert found == {"temp_c \\_TZ.TZ01": pytest.approx(66.05), "temp_c \\_SB.ECTZ": pytest.approx(66.05)}


def test_limited_clocks_and_who_limits_them():
    probe = Throttling()
    policy, device = "/sys/devices/system/cpu/cpufreq/policy", "/sys/class/thermal/cooling_device"
    list(
        probe.parse(
            1.0,
            f"{policy}0/related_cpus:0 1 2 3\n{policy}0/cpuinfo_max_freq:1785600\n{policy}7/related_cpus:7\n"
            f"{policy}7/cpuinfo_max_freq:2841600\n{device}0/type:Fan\n{device}1/type:thermal-cpufreq-7",
        )
    )
    found = values(
        probe.parse(
            2.0,
            f"{policy}0/scaling_max_freq:1785600\n{policy}7/scaling_max_freq:2016000\n{policy}7/scaling_cur_freq:2016000\n"
            f"{device}0/cur_state:3\n{device}1/cur_state:4",
        )
    )
    assert found == {
        "throttled clock limit of cores 0 1 2 3": 0,
        "throttled clock limit of cores 7": 1,
        "cpu_clock_hz 7": 2.016e9,
        "throttled cooling device thermal-cpufreq-7": 1,
    }


def test_throttle_counts_matter_when_they_rise():
    probe = Throttling()
    path = "/sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count"
    assert not list(probe.parse(1.0, f"{path}:1200"))
    assert [s.value for s in probe.parse(2.0, f"{path}:1200")] == [0]
    assert [s.value for s in probe.parse(3.0, f"{path}:1207")] == [1]


def test_throttling_elsewhere():
    assert [s.value for s in Throttling().parse(1.0, recorded("thermalservice-shield"))] == [0]
    pmset = "Note: No thermal warning level has been recorded\n CPU_Scheduler_Limit \t= 100\n CPU_Speed_Limit \t= 71\n"
    assert [s.value for s in Throttling().parse(1.0, pmset)] == [1]
    zone = '{"Name":"\\\\_TZ.THRM","PercentPassiveLimit":75,"ThrottleReasons":1}'
    assert [s.value for s in Throttling().parse(1.0, zone)] == [1]


# --- memory and processor time on macOS and Windows ------------------------------------------


def test_macos_footprint_and_tree():
    assert values(MemoryMacos().parse(1.0, recorded("footprint"))) == {
        "footprint_b": 13 * MIB,
        "footprint_peak_b": 13 * MIB,
    }
    assert values(MemoryMacos().parse(1.0, recorded("footprint-bytes"))) == {
        "footprint_b": 15517760,
        "footprint_peak_b": 15616064,
    }
    table = "pid 40\n    1     0   9000\n   40     1   1000\n   41    40    500\n   42    41     24\n   50     1    777"
    assert values(MemoryMacos().parse(1.0, table))["rss_b"] == 1524 * 1024
    assert values(MemoryMacos().parse(1.0, table.replace("pid 40", "pid 99"))) == {}


def test_windows_memory_in_any_language():
    text = '{"WorkingSet64":1048576,"PeakWorkingSet64":2097152,"PrivateMemorySize64":524288}'
    assert values(MemoryWindows().parse(1.0, text)) == {"rss_b": MIB, "peak_rss_b": 2 * MIB, "private_b": MIB / 2}
    german = "Get-Process : Es kann kein Prozess mit der Prozess-ID 4711 gefunden werden."
    with pytest.raises(Unreadable, match="Prozess-ID"):
        list(MemoryWindows().parse(1.0, german))
    assert not list(MemoryWindows().parse(1.0, "\ufeff"))


def test_windows_memory_of_a_real_process():
    assert values(MemoryWindows().parse(1.0, recorded("get-process-windows"))) == {
        "rss_b": 2789376,
        "peak_rss_b": 8204288,
        "private_b": 2920448,
    }


def test_macos_processor_time():
    probe = CpuElsewhere()
    assert not list(probe.parse(10.0, "pid 40\n 40 1 0:01.50\n 41 40 1:02:03.00\n 50 1 9:00.00"))
    assert values(probe.parse(12.0, "pid 40\n 40 1 0:02.50\n 41 40 1:02:04.00\n 50 1 9:30.00")) == {"cpu_engine": 1.0}
    frame = "CPU usage: 5.26% user, 10.52% sys, 84.21% idle "
    assert not list(probe.parse(1.0, frame))
    assert values(probe.parse(2.0, frame)) == {"cpu_util": pytest.approx(0.1578)}
    seen = [values(probe.parse(3.0, line)) for line in recorded("top-macos").splitlines()]
    assert [found for found in seen if found] == [{"cpu_util": pytest.approx(0.3208 + 0.1268)}]


def test_windows_processor_time():
    probe = CpuElsewhere()
    list(probe.parse(1.0, '{"Ticks":10000000}'))
    assert values(probe.parse(2.0, '{"Ticks":25000000}')) == {"cpu_engine": 1.5}
    rows = '[{"Name":"0","PercentProcessorTime":62},{"Name":"1","PercentProcessorTime":12},{"Name":"_Total",'
    assert values(probe.parse(2.0, rows + '"PercentProcessorTime":37}]')) == {
        "cpu_core_util 0": 0.62,
        "cpu_core_util 1": 0.12,
        "cpu_util": 0.37,
    }


# --- all of them -----------------------------------------------------------------------------

PROBES = plugins.names("probes")


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_defines_all_it_gives_and_reads(name):
    probe = plugins.load("probes", name)()
    assert probe.quantities
    assert all(quantity.text and quantity.unit for quantity in probe.quantities.values())
    for system, sources in probe.sources.items():
        assert system in ("linux", "android", "termux", "macos", "windows")
        for source in sources:
            assert bool(source.files) != bool(source.command)
            assert source.interval >= 0


@pytest.mark.parametrize("name", PROBES)
@given(data=st.data())
def test_no_probe_breaks_on_half_of_a_real_text(name, data):
    """Any recorded text, cut anywhere: a sample of a defined quantity, Unreadable, or nothing."""
    probe = plugins.load("probes", name)()
    text = data.draw(st.sampled_from(sorted(path.name for path in RECORDED.glob("*.txt"))))
    whole = (RECORDED / text).read_text()
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    try:
        samples = list(probe.parse(1.0, cut))
    except (Unreadable, ValueError):
        return
    assert all(isinstance(sample, Sample) and sample.name in probe.quantities for sample in samples)
