"""``edgebench run`` on other devices, end to end: real wires, the native llama.cpp, a real model."""

from __future__ import annotations

import hashlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import psutil
import pytest
import yaml
from lab.cli import Program, Ran
from lab.native import bin_folder
from lab.paths import LAB
from lab.place import Place
from lab.proxy import Proxy
from lab.sshd import Sshd

from edgebench import profiles
from edgebench.bench import reconnection
from edgebench.device import lock
from edgebench.device.session import Session

pytestmark = pytest.mark.lab

QUICK = ("--rounds", "1", "--prompt-tokens", "32", "--gen-tokens", "12", "--ctx", "512", "--threads", "2")
PLACES = ["linux", "termux", "android", "old_android"]


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Place:
    return request.getfixturevalue(request.param)


def profile(edgebench: Program, place: Place, name: str = "", env: dict[str, str] | None = None, **changes) -> str:
    """A profile of a place of the lab with the native engine; its name."""
    name = name or place.name
    engine = {"path": str(bin_folder() / "llama-server"), "env": {"LD_LIBRARY_PATH": str(bin_folder()), **(env or {})}}
    about = {
        "name": name,
        "system": place.system,
        "transport": dict(place.transport),
        "workspace": f"{place.folder}/work space",
        "engines": {"llama.cpp": engine},
        **changes,
    }
    edgebench.write(f"devices/{name}.yaml", yaml.safe_dump(about, allow_unicode=True))
    return name


def engines(place: Place) -> list[psutil.Process]:
    """The engines on the models of a place."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if any(word.startswith(place.folder) and word.endswith(".gguf") for word in words) and "-m" in words:
            found.append(process)
    return found


def until(condition, timeout: float = 120) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def left_behind(place: Place) -> list[str]:
    """What is on a device after a run, apart from the models and their notes."""
    until(lambda: not engines(place), 30)
    until(lambda: not (place.here / "work space" / "lock").exists(), 30)
    files = (f for f in (place.here / "work space").rglob("*") if f.is_file())
    return [f.name for f in files if f.suffix not in (".gguf", ".json")]


def test_a_device_from_nothing_to_a_result(edgebench: Program, place: Place, real_model: Path):
    name = profile(edgebench, place)
    ran = edgebench("run", "-d", name, "-m", str(real_model), *QUICK, "--json", "-")
    assert ran.status == 0, ran.stderr
    record = ran.record
    assert record["status"] == "ok"
    assert record["trial"]["device"] == name
    assert record["facts"]["engine"]["backend"] == "cpu"
    assert record["facts"]["engine"]["bundled"] is False
    program = (bin_folder() / "llama-server").read_bytes()
    assert record["facts"]["engine"]["sha256"] == hashlib.sha256(program).hexdigest()
    for metric in ("decode_tps", "prefill_tps", "load_s", "ttft_s", "peak_rss_b"):
        assert record["metrics"][metric]["value"] > 0
    assert record["metrics"]["peak_rss_b"]["value"] > 90e6
    assert "backend-mismatch" not in {doubt["id"] for doubt in record["doubts"]}
    assert left_behind(place) == []


def certificate(ran: Ran) -> tuple[dict, set[str]]:
    record = ran.record
    return record["facts"]["engine"], {doubt["id"] for doubt in record["doubts"]}


def test_layers_on_a_gpu_that_is_there(edgebench: Program, linux: Place, real_model: Path):
    """Two layers: lavapipe is a GPU in software, and all of them take it minutes."""
    name = profile(edgebench, linux, env={"GGML_VK_VISIBLE_DEVICES": "0"})
    asked = ("--backend", "vulkan", "--gpu-layers", "2", "--prompt-tokens", "4", "--gen-tokens", "4")
    ran = edgebench("run", "-d", name, "-m", str(real_model), *QUICK, *asked, "--json", "-")
    assert ran.status == 0, ran.stderr
    engine, doubts = certificate(ran)
    assert engine["backend"] == "vulkan"
    assert (engine["layers_offloaded"], engine["layers"]) == (2, 31)
    assert "backend-mismatch" not in doubts


def test_a_gpu_run_that_computes_on_the_cpu_is_marked(edgebench: Program, linux: Place, real_model: Path):
    """llama.cpp's Vulkan backend passes over devices that are CPUs, silently."""
    name = profile(edgebench, linux)
    asked = ("--backend", "vulkan", "--gpu-layers", "all")
    ran = edgebench("run", "-d", name, "-m", str(real_model), *QUICK, *asked, "--json", "-")
    assert ran.status == 0, ran.stderr
    engine, doubts = certificate(ran)
    assert engine["backend"] == "cpu"
    assert "backend-mismatch" in doubts


def test_several_devices_at_once_and_one_of_them_missing(
    edgebench: Program, linux: Place, android: Place, termux: Place, real_model: Path
):
    names = [profile(edgebench, one) for one in (linux, android)]
    gone = profile(edgebench, termux, transport={**termux.transport, "port": 1})
    ran = edgebench("run", "-d", "all", "-m", str(real_model), *QUICK, "--json", "-")
    assert ran.status == 4
    assert {(r["trial"]["device"], r["status"]) for r in ran.records} == {(name, "ok") for name in names}
    told = f"{gone}: no response from 127.0.0.1:1"
    lines = ran.stderr.splitlines()
    first_result = next(number for number, line in enumerate(lines) if "round 1/1" in line)
    assert lines.index(told) < first_result < lines.index(f"edgebench: {told}")
    assert "Is the device on" in ran.stderr
    assert "waiting" not in ran.stderr
    spans = [(record["started"], record["finished"]) for record in ran.records]
    assert max(start for start, _ in spans) < min(finish for _, finish in spans), "at the same time"


def test_two_profiles_of_one_machine_take_turns(edgebench: Program, linux: Place, real_model: Path):
    """Side by side they would starve each other, and no lock of a workspace tells."""
    names = {profile(edgebench, linux, name, workspace=f"{linux.folder}/{name}") for name in ("first", "second")}
    ran = edgebench("run", "-d", "all", "-m", str(real_model), *QUICK, "--json", "-")
    assert ran.status == 0, ran.stderr
    one, other = sorted(ran.records, key=lambda record: record["started"])
    assert {one["trial"]["device"], other["trial"]["device"]} == names
    assert one["finished"] <= other["started"]
    assert one["facts"]["device"]["boot"] == other["facts"]["device"]["boot"]
    assert f"waiting: same machine as {one['trial']['device']}\n" in ran.stderr


def test_all_are_ones_own_profiles_not_the_examples(edgebench: Program):
    nowhere = {"system": "linux", "transport": {"kind": "ssh", "host": "nowhere.invalid"}, "engines": {"llama.cpp": {}}}
    for name in ("a", "b"):
        edgebench.write(f"devices/{name}.yaml", yaml.safe_dump({"name": name, **nowhere}))
    ran = edgebench("run", "-d", "all", "-d", "a")
    assert ran.status == 4
    said = [line for line in ran.stderr.splitlines() if line.startswith("edgebench: ")]
    assert [line.split(":")[1].strip() for line in said] == ["a", "b"]  # each named, though "a" is in the message


def test_a_second_run_says_who_has_the_device(edgebench: Program, android: Place, real_model: Path):
    name = profile(edgebench, android)
    first = edgebench.start("run", "-d", name, "-m", str(real_model), "--rounds", "50")
    until(lambda: engines(android))
    second = edgebench("run", "-d", name, "-m", str(real_model), *QUICK)
    assert second.status == 3
    assert f"in use by {psutil.Process().username()}" in second.stderr
    assert f"process {first.pid}" in second.stderr
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=120)
    assert first.returncode == 130
    assert left_behind(android) == []


def test_a_second_run_waits_until_the_device_is_free(edgebench: Program, linux: Place, real_model: Path):
    name = profile(edgebench, linux)
    first = edgebench.start("run", "-d", name, "-m", str(real_model), "--rounds", "50")
    until(lambda: engines(linux))
    second = edgebench.start("run", "-d", name, "-m", str(real_model), *QUICK, "--wait", "--json", "-")
    assert second.stderr is not None
    said = next(line for line in second.stderr if "waiting" in line)
    assert f"{name} is in use by {psutil.Process().username()}" in said
    assert f"process {first.pid}" in said
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=120)
    out, err = second.communicate(timeout=300)
    assert second.returncode == 0, err
    assert Ran(0, out, err).record["status"] == "ok"
    assert left_behind(linux) == []


def test_a_wait_has_an_end_and_can_be_interrupted(edgebench: Program, linux: Place):
    name = profile(edgebench, linux)
    device = profiles.load_device(str(edgebench.folder / f"devices/{name}.yaml"))
    with Session(device) as session, lock.hold_lock(session):
        ran = edgebench("run", "-d", name, *QUICK, "--wait", "5")
        assert ran.status == 3
        assert "waiting: lab-linux is in use by" in ran.stderr
        assert "in use by" in ran.stderr.splitlines()[-2]
        waiting = edgebench.start("run", "-d", name, *QUICK, "--wait")
        assert waiting.stderr is not None
        next(line for line in waiting.stderr if "waiting" in line)
        waiting.send_signal(signal.SIGINT)
        waiting.communicate(timeout=60)
        assert waiting.returncode == 130


@pytest.fixture
def days_ahead(tmp_path: Path) -> Iterator[Place]:
    """A Linux machine whose clock is ten days ahead."""
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    clock = f"SetEnv LD_PRELOAD={library} FAKETIME=+10d FAKETIME_DONT_FAKE_MONOTONIC=1\n"
    server = Sshd(tmp_path / "sshd", clock)
    folder = tmp_path / "ahead"
    folder.mkdir()
    yield Place("lab-ahead", "linux", server.transport, str(folder), folder, server.port)
    server.stop()


def test_a_clock_that_is_wrong_by_days_changes_nothing(edgebench: Program, days_ahead: Place, real_model: Path):
    """Times of the record are the controller's; leases and the timeline are differences."""
    name = profile(edgebench, days_ahead)
    device = profiles.load_device(str(edgebench.folder / f"devices/{name}.yaml"))
    began = datetime.now(timezone.utc)
    with Session(device) as session:
        there = float(session.run("date +%s").stdout)
        assert there - began.timestamp() > 9 * 86_400
        with (
            lock.hold_lock(session),
            Session(device) as second,
            pytest.raises(lock.DeviceInUse),
            lock.hold_lock(second),
        ):
            pass
    lock_folder = days_ahead.here / "work space" / "lock"
    until(lambda: not lock_folder.exists())
    lock_folder.mkdir()
    (lock_folder / "owner").write_text("somebody long gone\n")
    old = time.time() - lock.LEASE_S - 5
    os.utime(lock_folder / "owner", (old, old))
    ran = edgebench("run", "-d", name, "-m", str(real_model), *QUICK, "--json", "-")
    assert ran.status == 0, ran.stderr
    record = ran.record
    ended = datetime.now(timezone.utc)
    times = [record["started"], record["finished"], record["rounds"][0]["started"]]
    assert all(began <= datetime.fromisoformat(at.replace("Z", "+00:00")) <= ended for at in times)
    span = (ended - began).total_seconds()
    assert record["metrics"]["peak_rss_b"]["value"] > 90e6
    assert "lost-samples" not in {doubt["id"] for doubt in record["doubts"]}
    assert 0 < record["metrics"]["load_s"]["value"] < span
    assert left_behind(days_ahead) == []


def test_nothing_is_left_when_the_controller_is_killed(edgebench: Program, place: Place, real_model: Path):
    name = profile(edgebench, place)
    run = edgebench.start("run", "-d", name, "-m", str(real_model), "--rounds", "50")
    until(lambda: engines(place))
    run.kill()
    run.communicate(timeout=60)
    assert left_behind(place) == []


@pytest.fixture(params=["linux", "android"])
def either(request: pytest.FixtureRequest) -> Place:
    """One over each wire: what an engine's file may be like has nothing to do with the wire."""
    return request.getfixturevalue(request.param)


def broken(edgebench: Program, place: Place, path: str) -> Ran:
    engine = {"path": path}
    name = profile(edgebench, place, engines={"llama.cpp": engine})
    ran = edgebench("run", "-d", name, *QUICK)
    assert ran.status == 3, ran.stderr
    return ran


def test_an_engine_that_is_not_there(edgebench: Program, either: Place):
    assert "/no/llama-server" in broken(edgebench, either, "/no/llama-server").stderr


def test_an_engine_that_may_not_run(edgebench: Program, either: Place):
    file = either.here / "llama-server"
    file.write_text("#!/bin/sh\n")
    assert "ermission denied" in broken(edgebench, either, f"{either.folder}/llama-server").stderr


def test_an_engine_of_another_architecture(edgebench: Program, either: Place):
    """An ELF header of AArch64."""
    file = either.here / "llama-server"
    file.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xb7\x00\x01\x00\x00\x00" + bytes(40))
    file.chmod(0o755)
    said = broken(edgebench, either, f"{either.folder}/llama-server").stderr
    assert "cannot run on" in said
    assert "built for this device" in said


def test_an_engine_with_a_missing_library(edgebench: Program, either: Place):
    copy = either.here / "llama-server"
    copy.write_bytes((bin_folder() / "llama-server").read_bytes())
    copy.chmod(0o755)
    said = broken(edgebench, either, f"{either.folder}/llama-server").stderr
    assert "error while loading shared libraries: lib" in said
    assert "LD_LIBRARY_PATH" in said


FAULTY = LAB / "faulty_server.py"


def wrapped(place: Place, script: str) -> dict[str, object]:
    """An engine that is a shell script, as a profile names it."""
    file = place.here / "a server"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return {"llama.cpp": {"path": f"{place.folder}/a server", "env": {"PYTHONPATH": os.pathsep.join(sys.path)}}}


def test_an_engine_that_dies_while_loading(edgebench: Program, linux: Place, real_model: Path):
    script = f'exec {shlex.quote(sys.executable)} {shlex.quote(str(FAULTY))} dies-while-loading "$@"'
    name = profile(edgebench, linux, engines=wrapped(linux, script))
    ran = edgebench("run", "-d", name, "-m", str(real_model), *QUICK, "--json", "-")
    assert ran.status == 1
    assert ran.record["failure"]["message"] == "the engine exited with status 1 while it was loading"
    assert any("tensor 'output' has wrong shape" in line for line in ran.record["failure"]["log"])
    assert left_behind(linux) == []


def test_an_engine_that_floods_its_log(edgebench: Program, either: Place, real_model: Path):
    """Lines of a megabyte and control characters: kept, shown harmless, and the run goes on."""
    server = f"LD_LIBRARY_PATH={shlex.quote(str(bin_folder()))} exec {shlex.quote(str(bin_folder() / 'llama-server'))}"
    flood = "printf '\\033[2J\\033]0;owned\\007'; printf '%02000000d\\n' 0"
    script = f'case "$*" in *--port*) {flood};; esac\n{server} "$@"'
    name = profile(edgebench, either, engines=wrapped(either, script))
    ran = edgebench("run", "-d", name, "-m", str(real_model), *QUICK, "--json", "-")
    assert ran.status == 0, ran.stderr
    assert ran.record["facts"]["engine"]["backend"] == "cpu"
    assert "\x1b" not in ran.stderr
    shown = edgebench("results", "show", ran.record["id"], "--log")
    assert shown.stdout.count("0") >= 2_000_000
    assert "\x1b" not in shown.stdout
    assert "\x07" not in shown.stdout


def through(edgebench: Program, place: Place, wire: Proxy) -> str:
    """A profile of a place behind a wire that can be cut."""
    changes: dict[str, object] = {"port": wire.port}
    if place.transport["kind"] == "ssh":
        known = Path(place.transport["known_hosts"])
        line = known.read_text().splitlines()[0].replace(str(place.port), str(wire.port))
        known.write_text(f"{known.read_text()}{line}\n")
    else:
        changes = {"serial": f"127.0.0.1:{wire.port}"}
    return profile(edgebench, place, transport={**place.transport, **changes})


def measuring(edgebench: Program, name: str, model: Path, rounds: int) -> subprocess.Popen[str]:
    """A run after its first round."""
    run = edgebench.start("run", "-d", name, "-m", str(model), *QUICK, "--rounds", str(rounds), "--json", "-")
    assert run.stderr is not None
    for line in run.stderr:
        if f"round 1/{rounds}" in line:
            break
    return run


def test_a_device_that_stays_lost_ends_as_lost_with_what_was_measured(
    edgebench: Program, linux: Place, real_model: Path, proxy
):
    wire = proxy(linux.port)
    run = measuring(edgebench, through(edgebench, linux, wire), real_model, 50)
    wire.refuse()
    wire.cut()
    out, err = run.communicate(timeout=300)
    ran = Ran(run.returncode, out, err)
    assert ran.status == 4, err
    assert ran.record["status"] == "lost"
    assert len(ran.record["rounds"]) >= 1
    assert ran.record["metrics"]["decode_tps"]["value"] > 0
    assert left_behind(linux) == []


def test_a_push_that_breaks_off_goes_on_in_the_same_run(edgebench: Program, either: Place, real_model: Path, proxy):
    wire = proxy(either.port)
    wire.cut_after(40_000_000)
    size = real_model.stat().st_size
    ran = edgebench("run", "-d", through(edgebench, either, wire), "-m", str(real_model), *QUICK, "--json", "-")
    assert ran.status == 0, ran.stderr
    assert "device lost" in ran.stderr
    assert "trying again in 1 s" in ran.stderr
    assert wire.sent < size + 15_000_000
    assert left_behind(either) == []


KILLER = """#!/bin/sh
case " $* " in *" -m "*)
  p=$PPID
  until [ "$(cat /proc/$p/comm)" = sshd ]; do p=$(cut -d " " -f 4 /proc/$p/stat); done
  kill -9 $p ;;
esac
LD_LIBRARY_PATH={folder} exec {folder}/llama-server "$@"
"""


def test_a_device_that_every_start_of_the_engine_takes_away_is_given_up(
    edgebench: Program, linux: Place, real_model: Path
):
    """As a phone that reboots of it: it comes back each time."""
    server = linux.here / "llama-server"
    server.write_text(KILLER.replace("{folder}", str(bin_folder())))
    server.chmod(0o755)
    name = profile(edgebench, linux, engines={"llama.cpp": {"path": str(server)}})
    ran = edgebench("run", "-d", name, "-m", str(real_model), *QUICK, "--json", "-")
    assert ran.status == 4, ran.stderr
    assert ran.record["status"] == "lost"
    assert ran.stderr.count("trying again in 1 s") == reconnection.LOSSES
    assert left_behind(linux) == []


def test_a_device_that_comes_back_goes_on_where_it_was(edgebench: Program, place: Place, real_model: Path, proxy):
    wire = proxy(place.port)
    run = measuring(edgebench, through(edgebench, place, wire), real_model, 8)
    wire.cut()
    out, err = run.communicate(timeout=300)
    ran = Ran(run.returncode, out, err)
    assert ran.status == 0, err
    assert ran.record["status"] == "ok"
    assert [one["index"] for one in ran.record["rounds"]] == list(range(8))
    assert any("was lost in round" in note for note in ran.record["notes"])
    assert left_behind(place) == []


def test_an_unknown_host_is_refused_with_its_fingerprint(edgebench: Program, linux: Place, tmp_path: Path):
    name = profile(edgebench, linux, transport={**linux.transport, "known_hosts": str(tmp_path / "none")})
    ran = edgebench("run", "-d", name, *QUICK)
    assert ran.status == 3
    assert "SHA256:" in ran.stderr
    assert "edgebench devices trust" in ran.stderr


def test_no_password_and_no_key_is_in_an_argv_of_the_engine(edgebench: Program, linux: Place, real_model: Path):
    name = profile(edgebench, linux)
    run = edgebench.start("run", "-d", name, "-m", str(real_model), "--rounds", "50")
    until(lambda: engines(linux))
    words = subprocess.run(["ps", "axww", "-o", "args"], check=True, capture_output=True, text=True).stdout
    environment = engines(linux)[0].environ()
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=120)
    assert environment["LLAMA_API_KEY"]
    assert environment["LLAMA_API_KEY"] not in words
    assert os.environ.get("LLAMA_API_KEY") is None
