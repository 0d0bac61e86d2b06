"""What systems say of themselves, on texts that real devices printed; and in the lab."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab.place import Place

from edgebench.core import Cluster, Device, DeviceFacts, FileState, Folder, Gpu
from edgebench.device.session import Session
from edgebench.errors import Unreadable
from edgebench.systems import android, linux, macos, posix_files


def test_a_phone_by_its_properties():
    """getprop of a Motorola moto g75 5G, lines of a public dump of the whole list."""
    text = (
        "[ro.product.product.model]: [moto g75 5G]\n[ro.product.manufacturer]: [motorola]\n"
        "[ro.product.model]: [moto g75 5G]\n[ro.soc.manufacturer]: [QTI]\n[ro.soc.model]: [SM6475]\n"
        "[ro.build.version.release]: [14]\n[ro.zygote]: [zygote64_32]\n"
    )
    assert android.parse_getprop(text) == DeviceFacts(model="motorola moto g75 5G", cpu="QTI SM6475", os="Android 14")


def test_a_phone_without_the_chips_name_says_its_board():
    """Verbatim getprop excerpt of an XREAL X4000 over adb, without the lines that Android 11 lacks."""
    text = "[ro.product.manufacturer]: [XREAL]\n[ro.product.model]: [X4000]\n[ro.board.platform]: [parrot]\n"
    assert android.parse_getprop(text) == DeviceFacts(model="XREAL X4000", cpu="parrot")


def test_clusters_of_a_pc_whose_processors_have_a_policy_each():
    """An i7-12700H's clocks: two favoured cores at 4.7 GHz, more big ones at 4.6, small ones at 3.5."""
    text = "".join(f"{cpu}:{khz}\n" for cpu, khz in enumerate([4600000] * 4 + [4700000] * 2 + [3500000] * 2))
    assert linux.parse_clusters(text).clusters == (
        Cluster((0, 1, 2, 3, 4, 5), 4_700_000_000),
        Cluster((6, 7), 3_500_000_000),
    )
    assert linux.parse_clusters(":\n") == DeviceFacts()


def test_clusters_battery_and_gpu_of_a_phone():
    assert linux.parse_clusters("0 1 2:2016000\n3 4:2803200\n7:3187200\n").clusters == (
        Cluster((0, 1, 2), 2_016_000_000),
        Cluster((3, 4), 2_803_200_000),
        Cluster((7,), 3_187_200_000),
    )
    # BatteryService.java, dumpInternal
    head = "Current Battery Service state:\n  AC powered: false\n"
    assert android.parse_battery(f"{head}  USB powered: true\n  status: 2\n").power_source == "mains"
    assert android.parse_battery(f"{head}  USB powered: false\n").power_source == "battery"
    # SurfaceFlinger's RenderEngine dump
    gles = "GLES: Qualcomm, Adreno (TM) 740, OpenGL ES 3.2 V@0676.32 (GIT@1b1f5b7)"
    assert android.parse_gles(gles).gpus == (Gpu("Qualcomm Adreno (TM) 740", "OpenGL ES 3.2 V@0676.32 (GIT@1b1f5b7)"),)


def test_what_is_not_in_the_text_is_absent():
    for parse in (android.parse_getprop, linux.parse_clusters, android.parse_battery, android.parse_gles):
        assert parse("") == DeviceFacts()
        assert parse("sh: inaccessible or not found\n") == DeviceFacts()
    for parse in (macos.parse_sysctl, macos.parse_sw_vers, macos.parse_pmset):
        assert parse("") == DeviceFacts()


def test_a_mac_by_sysctl():
    """``sysctl -a | grep cpu`` of a MacBook Pro with an M1 Pro, from a public course's answer sheet."""
    text = (
        "hw.perflevel0.logicalcpu: 8\nhw.perflevel1.logicalcpu: 2\nhw.physicalcpu: 10\nhw.logicalcpu: 10\n"
        "hw.logicalcpu_max: 10\nmachdep.cpu.brand_string: Apple M1 Pro\n"
    )
    assert macos.parse_sysctl(text) == DeviceFacts(
        cpu="Apple M1 Pro", threads=10, cores=10, clusters=(Cluster(threads=8), Cluster(threads=2))
    )


def test_a_macs_version_and_power():
    """sw_vers of a Mac with macOS 12.6, from a public benchmark's page."""
    said = "ProductName:\tmacOS\nProductVersion:\t12.6\nBuildVersion:\t21G115\n"
    assert macos.parse_sw_vers(said) == DeviceFacts(os="macOS 12.6 (21G115)")
    assert macos.parse_pmset("Now drawing from 'AC Power'\n") == DeviceFacts(power_source="mains")
    assert macos.parse_pmset("Now drawing from 'Battery Power'\n -InternalBattery-0 …") == DeviceFacts(
        power_source="battery"
    )


def test_a_macs_gpu():
    text = '{"SPDisplaysDataType": [{"_name": "Apple M1 Pro", "sppci_cores": "16", "sppci_model": "Apple M1 Pro"}]}'
    assert macos.parse_displays(text) == DeviceFacts(gpus=(Gpu("Apple M1 Pro", cores=16),))
    with pytest.raises(Unreadable):
        macos.parse_displays("zsh: command not found")


def test_files_by_their_tools():
    assert posix_files.parse_folder(
        "/data/local/tmp/x y\nFilesystem\n/dev/block/dm-53 124000000 64000000 60000000  52% /data\n"
    ) == Folder("/data/local/tmp/x y", 60_000_000 * 1024)
    assert posix_files.parse_state("") is None
    assert posix_files.parse_state("12 946684800\n") == FileState(12, True, posix_files.SEAL)
    assert posix_files.parse_sha256("A" * 64 + "  -\n") == "a" * 64
    for parse, text in (
        (posix_files.parse_folder, "no such folder"),
        (posix_files.parse_state, "what?"),
        (posix_files.parse_sha256, "sha256sum: not found"),
    ):
        with pytest.raises(Unreadable):
            parse(text)


@pytest.mark.parametrize("name", ["linux", "termux", "android", "old_android"])
def test_the_labs_devices_tell_what_they_can(name: str, request: pytest.FixtureRequest):
    place: Place = request.getfixturevalue(name)
    with Session(Device(place.name, place.system, place.transport)) as session:
        facts = session.facts()
    assert facts.ram_b > 2**30
    assert facts.threads >= 1
    assert facts.kernel.startswith("Linux ")
    assert facts.boot not in ("", Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    if place.system != "linux":
        assert "not found" in facts.absent["power"]
        assert facts.power_source is None
