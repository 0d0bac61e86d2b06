"""A model over several devices: ``--rpc`` with llama.cpp's own RPC server on real wires."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml
from lab.cli import Program
from lab.native import bin_folder
from lab.place import Place, free_port
from lab.proxy import Proxy
from lab.sshd import Sshd
from lab.tiny import tiny

from edgebench.engines.llamacpp import rpc_facts

pytestmark = pytest.mark.lab

QUICK = ("--rounds", "1", "--prompt-tokens", "16", "--gen-tokens", "8", "--ctx", "256", "--threads", "1")


def profile(edgebench: Program, place: Place, name: str, transport=None, engine=None) -> str:
    """A profile of a place with the native engine; its name."""
    native = {"path": str(bin_folder() / "llama-server"), "env": {"LD_LIBRARY_PATH": str(bin_folder())}}
    about = {
        "name": name,
        "system": place.system,
        "transport": dict(transport or place.transport),
        "workspace": f"{place.folder}/{name}",
        "engines": {"llama.cpp": {**native, **(engine or {})}},
    }
    edgebench.write(f"devices/{name}.yaml", yaml.safe_dump(about, allow_unicode=True))
    return name


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Place]:
    """Another Linux machine, with an sshd of its own."""
    server = Sshd(tmp_path / "sshd")
    folder = tmp_path / "second"
    folder.mkdir()
    yield Place("second", "linux", server.transport, str(folder), folder, server.port)
    server.stop()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Four layers of nearly nothing: what is computed doesn't matter here."""
    return tiny(tmp_path / "tiny.gguf", layers=4, letters_only=True)


def servers() -> list[psutil.Process]:
    """The RPC servers of the lab."""
    name = str(bin_folder() / "ggml-rpc-server")
    return [p for p in psutil.process_iter(["cmdline"]) if name in (p.info["cmdline"] or [])[:1]]


def alive() -> list[psutil.Process]:
    return [one for one in servers() if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def until(condition, timeout: float = 120) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def nothing_left(*places: Place) -> None:
    until(lambda: not servers(), 30)
    for place in places:
        until(lambda place=place: not list(place.here.glob("*/lock")), 30)


def test_a_real_model_over_two_devices(edgebench: Program, linux: Place, second: Place, real_model: Path):
    lead, part = profile(edgebench, linux, "lead"), profile(edgebench, second, "part")
    ran = edgebench(
        "run", "-d", lead, "-m", str(real_model), *QUICK, "--rpc", part, "--gpu-layers", "16", "--json", "-"
    )
    assert ran.status == 0, ran.stderr
    record = ran.record
    engine = record["facts"]["engine"]
    # By the engine's own log: 16 of 31 layers' weights lie on the other device, the rest here.
    assert (engine["layers_offloaded"], engine["layers"], engine["backend"]) == (16, 31, "cpu")
    there = engine["buffers"]["RPC0[part] model"]
    assert 30e6 < there < 90e6
    assert engine["buffers"]["RPC0[part] KV"] > 0
    assert sum(size for name, size in engine["buffers"].items() if name.endswith(" model")) > 95e6
    assert "backend-mismatch" not in {doubt["id"] for doubt in record["doubts"]}
    (helper,) = record["facts"]["rpc"]
    assert helper["device"] == "part"
    assert helper["program"] == str(bin_folder() / "ggml-rpc-server")
    assert helper["facts"]["cpu"]
    assert helper["protocol"]
    assert helper["devices"][0].startswith("CPU: ")
    assert record["trial"]["options"]["rpc"] == "part"
    assert record["metrics"]["decode_tps"]["value"] > 0
    nothing_left(linux, second)


def test_three_devices_and_two_wires(edgebench: Program, linux: Place, second: Place, android: Place, model: Path):
    """A phone over ADB holds a part, too; it needs no way back."""
    names = profile(edgebench, linux, "lead"), profile(edgebench, second, "part"), profile(edgebench, android, "phone")
    ran = edgebench("run", "-d", names[0], "-m", str(model), *QUICK, "--rpc", f"{names[1]}, {names[2]}", "--json", "-")
    assert ran.status == 0, ran.stderr
    buffers = ran.record["facts"]["engine"]["buffers"]
    assert buffers["RPC0[part] model"] > 0
    assert buffers["RPC0[phone] model"] > 0
    nothing_left(linux, second, android)


@pytest.mark.parametrize("name", ["linux", "android"])
def test_a_server_that_runs_already_is_used_and_left_alone(
    edgebench: Program, name: str, request: pytest.FixtureRequest, model: Path
):
    """Whoever reaches it can lead, a phone too."""
    head: Place = request.getfixturevalue(name)
    port = free_port()
    program = [bin_folder() / "ggml-rpc-server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(program, env={"LD_LIBRARY_PATH": str(bin_folder())}, stdout=subprocess.DEVNULL)
    try:
        until(lambda: listens(port))
        lead = profile(edgebench, head, "lead")
        ran = edgebench("run", "-d", lead, "-m", str(model), *QUICK, "--rpc", f"127.0.0.1:{port}", "--json", "-")
        assert ran.status == 0, ran.stderr
        assert ran.record["facts"]["engine"]["buffers"][f"RPC0[127.0.0.1:{port}] model"] > 0
        assert ran.record["facts"]["rpc"] == [{"address": f"127.0.0.1:{port}"}]
        assert server.poll() is None
    finally:
        server.kill()
        server.wait()


def test_a_device_that_is_not_there(edgebench: Program, linux: Place, second: Place, model: Path):
    lead = profile(edgebench, linux, "lead")
    gone = profile(edgebench, second, "part", transport={**second.transport, "port": 1})
    ran = edgebench("run", "-d", lead, "-m", str(model), *QUICK, "--rpc", gone)
    assert ran.status == 4
    assert "no response from 127.0.0.1:1" in ran.stderr
    nothing_left(linux)


def test_a_device_without_an_rpc_server(edgebench: Program, linux: Place, second: Place, model: Path):
    lead = profile(edgebench, linux, "lead")
    lone = second.here / "llama-server"
    lone.write_text("#!/bin/sh\n")
    part = profile(edgebench, second, "part", engine={"path": str(lone)})
    ran = edgebench("run", "-d", lead, "-m", str(model), *QUICK, "--rpc", part)
    assert ran.status == 3
    assert f"no ggml-rpc-server in {second.folder}/ on part" in ran.stderr
    nothing_left(linux, second)


def test_a_server_that_dies_at_its_start_is_quoted(edgebench: Program, linux: Place, second: Place, model: Path):
    lead = profile(edgebench, linux, "lead")
    copy = second.here / "ggml-rpc-server"
    copy.write_bytes((bin_folder() / "ggml-rpc-server").read_bytes())
    copy.chmod(0o755)
    part = profile(edgebench, second, "part", engine={"rpc": str(copy), "env": {}})
    ran = edgebench("run", "-d", lead, "-m", str(model), *QUICK, "--rpc", part, "--json", "-")
    assert ran.status == 1
    assert "as an RPC server on part" in ran.record["failure"]["message"]
    assert any("error while loading shared libraries" in line for line in ran.record["failure"]["log"])
    nothing_left(linux, second)


OTHER_BUILD = """
import socket, sys
print("Starting RPC server v1.0.0", flush=True)
with socket.create_server(("127.0.0.1", int(sys.argv[sys.argv.index("-p") + 1]))) as server:
    while True:
        sock, _ = server.accept()
        with sock:
            while data := sock.recv(65536):
                sock.sendall((3).to_bytes(8, "little") + bytes([1, 0, 0]))
"""


def test_a_server_of_another_protocol(edgebench: Program, linux: Place, second: Place, model: Path):
    """It greets as version 1.0.0: what llama.cpp says to that is passed on."""
    lead = profile(edgebench, linux, "lead")
    other = second.here / "rpc server"
    other.write_text(f"#!{sys.executable}\n{OTHER_BUILD}")
    other.chmod(0o755)
    part = profile(edgebench, second, "part", engine={"rpc": str(other)})
    ran = edgebench("run", "-d", lead, "-m", str(model), *QUICK, "--rpc", part, "--json", "-")
    assert ran.status == 1
    failure = ran.record["failure"]
    assert "cannot use the RPC servers" in failure["message"] or "RPC" in " ".join(failure["log"])
    assert "same" in failure["hint"]
    nothing_left(linux, second)


def measuring(edgebench: Program, rounds: int, *args: str) -> subprocess.Popen[str]:
    """A run after its first round."""
    run = edgebench.start("run", *QUICK, "--gen-tokens", "64", *args, "--rounds", str(rounds), "--json", "-")
    assert run.stderr is not None
    for line in run.stderr:
        if f"round 1/{rounds}" in line:
            break
    return run


def test_a_server_that_dies_in_mid_decode(edgebench: Program, linux: Place, second: Place, tmp_path: Path):
    lead, part = profile(edgebench, linux, "lead"), profile(edgebench, second, "part")
    model = tiny(tmp_path / "tiny.gguf", layers=4, letters_only=True, context=32_768)
    long = ("--ctx", "32768", "--gen-tokens", "30000")
    run = edgebench.start("run", "-d", lead, "-m", str(model), *QUICK, *long, "--rpc", part, "--json", "-")
    until(lambda: any(one.cpu_times().user > 1 for one in alive()))
    for server in alive():
        server.send_signal(signal.SIGKILL)
    out, err = run.communicate(timeout=120)
    assert run.returncode == 1, err
    failure = yaml.safe_load(out)["records"][0]["failure"]
    assert failure["message"].startswith("the RPC server on part was terminated by SIGKILL, and then the engine")
    assert failure["message"].endswith("while it was measured")
    nothing_left(linux, second)


def test_a_helper_that_comes_back_goes_on(edgebench: Program, linux: Place, second: Place, model: Path, proxy):
    lead = profile(edgebench, linux, "lead")
    wire: Proxy = proxy(second.port)
    known = Path(second.transport["known_hosts"])
    known.write_text(known.read_text() + known.read_text().replace(str(second.port), str(wire.port)))
    part = profile(edgebench, second, "part", transport={**second.transport, "port": wire.port})
    run = measuring(edgebench, 4, "-d", lead, "-m", str(model), "--rpc", part)
    wire.cut()
    out, err = run.communicate(timeout=300)
    assert run.returncode == 0, err
    (record,) = yaml.safe_load(out)["records"]
    assert [one["index"] for one in record["rounds"]] == [0, 1, 2, 3]
    nothing_left(linux, second)


def test_nothing_is_left_when_the_controller_is_killed(edgebench: Program, linux: Place, second: Place, model: Path):
    lead, part = profile(edgebench, linux, "lead"), profile(edgebench, second, "part")
    run = measuring(edgebench, 200, "-d", lead, "-m", str(model), "--rpc", part)
    until(servers)
    assert list(second.here.glob("*/lock"))
    run.kill()
    run.communicate(timeout=60)
    nothing_left(linux, second)


def test_a_helper_that_is_in_use(edgebench: Program, linux: Place, second: Place, model: Path):
    lead, part = profile(edgebench, linux, "lead"), profile(edgebench, second, "part")
    run = measuring(edgebench, 200, "-d", lead, "-m", str(model), "--rpc", part)
    ran = edgebench("run", "-d", part, "-m", str(model), *QUICK)
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=60)
    assert ran.status == 3
    assert "part is in use by" in ran.stderr
    nothing_left(linux, second)


def test_a_phone_on_adb_cannot_lead(edgebench: Program, android: Place, linux: Place, model: Path):
    phone, part = profile(edgebench, android, "phone"), profile(edgebench, linux, "part")
    ran = edgebench("run", "-d", phone, "-m", str(model), *QUICK, "--rpc", part)
    assert ran.status == 3
    assert "phone cannot be the head: adb cannot forward its ports" in ran.stderr
    assert "Termux" in ran.stderr
    assert not list(android.here.rglob("*.gguf"))  # said before anything is sent
    nothing_left(linux, android)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("-d", "lead", "--rpc", "lead"), "repeats a device"),
        (("-d", "lead", "--rpc", "part,part"), "repeats a device"),
        (("-d", "lead", "-d", "part", "--rpc", "h:1"), "rpc requires a single device as the head, not 2"),
        (("-d", "lead", "--rpc", "nobody"), "no device named 'nobody'"),
        (("-d", "lead", "--rpc", "h:99999"), "must be between 1 and 65535"),
        (
            ("-d", "lead", "--rpc", "part", "--engine", "llama-cpp-python"),
            "rpc requires an engine with RPC servers, and",
        ),
    ],
)
def test_what_makes_no_sense_is_said_before_anything_is_touched(
    edgebench: Program, linux: Place, args: tuple[str, ...], said: str
):
    profile(edgebench, linux, "lead")
    profile(edgebench, linux, "part")
    ran = edgebench("run", *args)
    assert ran.status == 2
    assert said in ran.stderr


def test_what_a_server_says_of_itself():
    """ggml-rpc-server of b10434, as it printed in the lab."""
    log = ["Starting RPC server v5.0.0", "  endpoint       : 127.0.0.1:31999", "  local cache    : n/a", "Devices:"]
    log += ["  CPU: Intel(R) Xeon(R) Processor (24152 MiB, 24152 MiB free)", "  transport      : TCP"]
    assert rpc_facts(log)["protocol"] == "5.0.0"
    assert rpc_facts(log)["devices"] == ["CPU: Intel(R) Xeon(R) Processor (24152 MiB, 24152 MiB free)"]
    assert rpc_facts(["garbage"]) == {}
