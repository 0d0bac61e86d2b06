"""Models on a device: sent once, whole, only where there is room; and one user at a time."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

import psutil
import pytest
from lab.place import Place
from lab.proxy import Proxy

from edgebench.core import Device, FileState, ModelFile
from edgebench.device import lock, provision
from edgebench.device.session import Session
from edgebench.errors import DeviceLost, DeviceRefused
from edgebench.systems import posix_files

pytestmark = pytest.mark.lab

PLACES = ["linux", "termux", "android", "old_android"]


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Place:
    return request.getfixturevalue(request.param)


def device(place: Place, **changes: object) -> Device:
    return Device(place.name, place.system, {**place.transport, **changes}, workspace=f"{place.folder}/work space")


@pytest.fixture
def session(place: Place):
    with Session(device(place)) as one:
        yield one


@pytest.fixture
def model(tmp_path: Path) -> ModelFile:
    file = tmp_path / "ein Modell's.gguf"
    file.write_bytes(random.Random(3).randbytes(5_000_000))
    sha = hashlib.sha256(file.read_bytes()).hexdigest()
    return ModelFile("m", file, sha, 5_000_000, "gguf", "Q4_0", "llama")


def sent(monkeypatch: pytest.MonkeyPatch, session: Session) -> list[Path]:
    """What is pushed from now on."""
    pushed: list[Path] = []
    push = session.transport.push

    def watch(local, remote, progress=None):
        pushed.append(local)
        push(local, remote, progress)

    monkeypatch.setattr(session.transport, "push", watch)
    return pushed


def test_a_model_is_there_whole_and_is_not_sent_twice(session: Session, place: Place, model: ModelFile, monkeypatch):
    path = provision.deploy_model(session, model)
    assert path == f"{place.folder}/work space/models/{model.sha256}.gguf"
    assert Path(path).read_bytes() == model.path.read_bytes()
    pushed = sent(monkeypatch, session)
    assert provision.deploy_model(session, model) == path
    assert pushed == []
    about = [f"{model.sha256}.gguf", f"{model.sha256}.gguf.json"]
    assert sorted(file.name for file in Path(path).parent.iterdir()) == about


def test_a_device_tells_its_models_by_their_names(session: Session, place: Place, model: ModelFile):
    assert provision.list_deployed(session) == []
    began = f"{date.today()}"
    provision.deploy_model(session, replace(model, name='Bär\'s "7b" $(id)'))
    provision.deploy_model(session, replace(model, name="bär's %7b% `id`\n\\"))  # it bears the last run's name
    folder = place.here / "work space" / "models"
    (folder / "0f.gguf.part").write_bytes(b"x" * 10)
    for number, line in enumerate(("what?", "[]", '{"file": "0f.gguf.part", "size_b": null}')):
        (folder / f"foreign {number}.json").write_text(f"{line}\n")
    known = {one.file: one for one in provision.list_deployed(session)}
    one = known.pop(f"{model.sha256}.gguf")
    assert (one.name, one.size_b) == ("bär's %7b% `id`\n\\", model.size)
    assert one.used in (began, f"{date.today()}")
    assert known.pop("0f.gguf.part") == provision.DeployedModel("0f.gguf.part", 10, None, None)
    provision.remove(session, [one])
    assert {file.name for file in folder.iterdir()} == {"0f.gguf.part", *known}


def test_a_model_that_was_damaged_on_the_device_is_sent_again(session: Session, model: ModelFile):
    path = Path(provision.deploy_model(session, model))
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    provision.deploy_model(session, model)
    assert path.read_bytes() == model.path.read_bytes()


def test_a_model_that_was_only_touched_is_verified_not_sent(session: Session, model: ModelFile, monkeypatch):
    path = Path(provision.deploy_model(session, model))
    os.utime(path)
    pushed = sent(monkeypatch, session)
    provision.deploy_model(session, model)
    assert pushed == []
    state = provision.query(session, session.system.files.state(str(path)))
    assert state == FileState(model.size, True, posix_files.SEAL)


def test_the_rest_of_another_file_is_not_taken_for_the_beginning(session: Session, place: Place, model: ModelFile):
    folder = place.here / "work space" / "models"
    folder.mkdir(parents=True)
    (folder / f"{model.sha256}.gguf.part").write_bytes(b"something else" * 1000)
    path = provision.deploy_model(session, model)
    assert Path(path).read_bytes() == model.path.read_bytes()


def test_a_file_that_is_not_what_it_says_is_refused_and_leaves_nothing(session: Session, model: ModelFile):
    wrong = replace(model, sha256="0" * 64)
    with pytest.raises(DeviceRefused, match="corrupted during transfer"):
        provision.deploy_model(session, wrong)
    assert list(Path(session.workspace, "models").iterdir()) == []


def test_no_space_is_said_before_anything_is_sent(session: Session, model: ModelFile, monkeypatch):
    pushed = sent(monkeypatch, session)
    with pytest.raises(DeviceRefused, match="not enough space") as refused:
        provision.deploy_model(session, replace(model, size=10**15))
    assert "devices clean" in refused.value.hint
    assert pushed == []


def test_a_workspace_that_cannot_be_written(place: Place, model: ModelFile):
    with Session(replace(device(place), workspace="/proc/no/folder")) as session:
        with pytest.raises(DeviceRefused, match="/proc/no") as refused:
            provision.deploy_model(session, model)
        assert "workspace:" in refused.value.hint
        with pytest.raises(DeviceRefused, match="/proc/no"), lock.hold_lock(session):
            pass


def behind(place: Place, wire: Proxy) -> Device:
    """A device behind a wire that can break."""
    if place.transport["kind"] != "ssh":
        return device(place, serial=f"127.0.0.1:{wire.port}")
    known = Path(place.transport["known_hosts"])
    line = known.read_text().splitlines()[0].replace(str(place.port), str(wire.port))
    known.write_text(f"{known.read_text()}{line}\n")
    return device(place, port=wire.port)


def test_a_model_whose_push_was_cut_goes_on(place: Place, model: ModelFile, proxy, tmp_path: Path):
    wire = proxy(place.port)
    through = behind(place, wire)
    content = random.Random(4).randbytes(20_000_000)
    model.path.write_bytes(content)
    model = replace(model, sha256=hashlib.sha256(content).hexdigest(), size=len(content))
    with Session(through) as session:
        wire.cut_after(10_000_000)
        with pytest.raises(DeviceLost):
            provision.deploy_model(session, model)
    wire.cut_after(1 << 60)
    before = wire.sent
    with Session(through) as session:
        path = provision.deploy_model(session, model)
    assert Path(path).read_bytes() == model.path.read_bytes()
    assert wire.sent - before < 15_000_000


def test_one_user_at_a_time(session: Session, place: Place):
    with lock.hold_lock(session), Session(device(place)) as second:
        with pytest.raises(DeviceRefused, match="in use by") as refused, lock.hold_lock(second):
            pass
        assert f"process {os.getpid()}" in str(refused.value)
    with Session(device(place)) as second, lock.hold_lock(second):
        assert (place.here / "work space" / "lock").exists()


def until(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def gone(path: Path) -> bool:
    until(lambda: not path.exists())
    return True


def test_a_lock_is_gone_with_its_holder(session: Session, place: Place):
    path = place.here / "work space" / "lock"
    with lock.hold_lock(session):
        assert path.exists()
    assert gone(path)


HOLDER = """
import sys, json, time
from edgebench.device import lock
from edgebench.core import Device
from edgebench.device.session import Session
with Session(Device(**json.loads(sys.argv[1]))) as session, lock.hold_lock(session):
    print("held", flush=True)
    time.sleep(1000)
"""


def test_a_lock_of_a_killed_controller_is_gone(place: Place):
    one = device(place)
    profile = {"name": one.name, "system": one.system, "transport": dict(one.transport), "workspace": one.workspace}
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, json.dumps(profile)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline()
    holder.kill()
    holder.wait()
    assert gone(place.here / "work space" / "lock")


def test_the_lock_of_a_controller_that_stands_still_is_taken(place: Place, monkeypatch: pytest.MonkeyPatch):
    """Its wire is whole, its holder on the device lives, and nobody renews the lease."""
    one = device(place)
    profile = {"name": one.name, "system": one.system, "transport": dict(one.transport), "workspace": one.workspace}
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, json.dumps(profile)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline()
    holder.send_signal(signal.SIGSTOP)
    try:
        monkeypatch.setattr(lock, "LEASE_S", 2)
        with Session(one) as session, lock.hold_lock(session, lock.WaitPolicy(120)):
            assert f"process {os.getpid()}" in (place.here / "work space" / "lock" / "owner").read_text()
    finally:
        holder.kill()
        holder.wait()
    assert gone(place.here / "work space" / "lock")


@pytest.mark.parametrize("fault", ["cut", "close", "hole"])
def test_nothing_of_a_lock_is_left_when_its_wire_breaks(place: Place, fault: str, proxy, monkeypatch):
    monkeypatch.setattr(lock, "LEASE_S", 5)
    wire = proxy(place.port)
    session = Session(behind(place, wire))
    there = place.here / "work space" / "lock"
    with session, lock.hold_lock(session):
        assert holders(there)
        session.transport.keep_alive_s, session.transport.silence_s = 0.2, 1.0
        getattr(wire, fault)()
        assert gone(there)
        until(lambda: not holders(there))


def holders(there: Path) -> list[psutil.Process]:
    """The lock's processes on the device."""
    return [p for p in psutil.process_iter(["cmdline"]) if f"lock='{there}'" in " ".join(p.info["cmdline"] or [])]


def test_a_lease_that_ran_out_is_taken(session: Session, place: Place):
    path = place.here / "work space" / "lock"
    path.mkdir(parents=True)
    (path / "owner").write_text("somebody long gone\n")
    old = time.time() - lock.LEASE_S - 5
    os.utime(path / "owner", (old, old))
    with lock.hold_lock(session):
        assert "somebody long gone" not in (path / "owner").read_text()
    assert gone(path)


def test_a_lock_of_the_future_is_taken(session: Session, place: Place):
    """What is left where a clock that was days ahead has been put right."""
    path = place.here / "work space" / "lock"
    path.mkdir(parents=True)
    (path / "owner").write_text("somebody long gone\n")
    then = time.time() + 10 * 86_400
    os.utime(path / "owner", (then, then))
    with lock.hold_lock(session):
        assert "somebody long gone" not in (path / "owner").read_text()
    assert gone(path)


def test_a_lease_that_still_runs_names_its_owner(session: Session, place: Place):
    path = place.here / "work space" / "lock"
    path.mkdir(parents=True)
    (path / "owner").write_text("Käthe's laptop $(touch x)\n")
    with pytest.raises(DeviceRefused, match=r"in use by Käthe's laptop \$\(touch x\)"), lock.hold_lock(session):
        pass
    assert (path / "owner").exists()


def test_a_holder_that_lost_its_lease_leaves_the_next_ones_lock_alone(session: Session, place: Place):
    path = place.here / "work space" / "lock"
    with Session(device(place)) as second:
        with lock.hold_lock(session):
            old = time.time() - lock.LEASE_S - 5
            os.utime(path / "owner", (old, old))
            with lock.hold_lock(second):
                owner = (path / "owner").read_text()
                session.transport.close()
                time.sleep(0.5)
                assert (path / "owner").read_text() == owner
        assert gone(path)
