"""Windows over SSH, by wine: the conformance of every wire and system, through its real cmd.exe.

Where wine 8 isn't Windows: exit codes have 8 bits, ``%NAME%`` expands whatever stands before it, what
``!NAME!`` puts in is read again, what taskkill ends has status 0.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lab.cli import Program, Ran
from lab.place import Place
from lab.tiny import tiny
from lab.windows import Windows

import edgebench.device.session
from edgebench.core import SILENCED, Command, Device, FileState, ModelFile
from edgebench.device import archives, lock, provision
from edgebench.device.session import Session
from edgebench.errors import DeviceRefused, TimedOut, UsageError

pytestmark = pytest.mark.lab

LONG = 240.0
"""Seconds until something counts as not happening: Wine on a busy machine takes its time."""
TELL = r"C:\lab\tell.exe"
HARD = "ünïcödé 文字 \U0001f984 'single' \"double\" back\\slash\\ $(id) `id` ^ & | < > * ? ~ ! ( ) ; , = @ #"


def device(place: Place, **changes: object) -> Device:
    return Device(place.name, place.system, {**place.transport, **changes}, workspace=f"{place.folder}\\work space")


@pytest.fixture
def session(windows: Place):
    with Session(device(windows)) as one:
        yield one


@pytest.fixture
def model(tmp_path: Path) -> ModelFile:
    file = tmp_path / "ein Modell's.gguf"
    file.write_bytes(random.Random(3).randbytes(3_000_000))
    sha = hashlib.sha256(file.read_bytes()).hexdigest()
    return ModelFile("m", file, sha, 3_000_000, "gguf", "Q4_0", "llama")


def running(words: str) -> list[psutil.Process]:
    """Programs of the lab's Windows, as Linux sees them."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if words in " ".join(process.info["cmdline"] or []) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def until(condition, timeout: float = LONG) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# --- the wire ---


def test_run_keeps_both_streams_and_the_status(session: Session):
    said = session.run("echo out&echo err>&2&exit 3")
    assert (said.stdout, said.stderr, said.status) == ("out\r\n", "err\r\n", 3)
    assert [session.run(f"exit {status}").status for status in (0, 1, 255)] == [0, 1, 255]


def test_stdin_arrives_and_ends(session: Session):
    data = b"first line\n$(id) `id` \\ '\"\n" * 2000
    assert session.run(f"{TELL} --in", stdin=data).stdout.encode() == data
    assert session.run("exit 4", stdin=b"x" * 1_000_000).status == 4


def test_a_late_command_times_out_and_the_wire_goes_on(session: Session):
    word = f"word{random.random()}"
    with pytest.raises(TimedOut, match="tell"):
        session.run(f"{TELL} {word} --wait", timeout=0.5)
    assert session.run("echo still here").stdout == "still here\r\n"
    until(lambda: running(f"{word} --wait"))
    for process in running(word):  # where a channel is closed Windows' sshd ends nothing
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def test_push_and_pull_keep_every_byte_under_any_name(session: Session, windows: Place, tmp_path: Path):
    source = tmp_path / "source"
    source.write_bytes(random.Random(1).randbytes(2_000_001))
    name = "mödel & ^ (x)! 'y' %TEMP% 文.gguf"
    session.push(source, f"{windows.folder}\\{name}")
    assert (windows.here / name).read_bytes() == source.read_bytes()
    session.transport.pull(f"{windows.folder}\\{name}", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == source.read_bytes()


def test_a_push_goes_on_where_it_stopped(session: Session, windows: Place, tmp_path: Path):
    source = tmp_path / "source"
    source.write_bytes(random.Random(1).randbytes(2_000_000))
    (windows.here / "part").write_bytes(source.read_bytes()[:1_500_000])
    seen: list[int] = []
    session.push(source, f"{windows.folder}\\part", lambda done, size: seen.append(done))
    assert (windows.here / "part").read_bytes() == source.read_bytes()
    assert seen[0] > 1_500_000
    with pytest.raises(DeviceRefused, match="missing"):
        session.transport.pull(f"{windows.folder}\\missing", tmp_path / "back")


def test_a_line_break_is_refused_not_run(session: Session):
    with pytest.raises(UsageError, match="takes no"):
        session.system.quote([TELL, "a\necho b"])
    with pytest.raises(UsageError, match="8150"):
        session.system.quote([TELL, "x" * 9000])


# --- quoting ---

hard = st.text(st.characters(exclude_characters="\0\n\r%", exclude_categories=["Cs"]), max_size=12)
spiced = st.text(st.sampled_from("""a b'"$()`\\^&|<>*?[]{}~!#;,=-@ä文🦄"""), max_size=12)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arguments=st.lists(hard | spiced, min_size=1, max_size=6))
def test_arguments_arrive_as_they_are(session: Session, arguments: list[str]):
    said = session.run(session.system.quote([TELL, *(f"-{word}" for word in arguments)]))
    assert said.stdout == "".join(f"<-{word}>\n" for word in arguments)


def test_the_environment_arrives_as_it_is(session: Session):
    said = session.run(session.system.quote([TELL, "--env", "A", "--env", "B"], {"A": HARD, "B": "100 %"}))
    assert said.stdout == f"<{HARD}>\n<100 %>\n"


def test_text_arrives_as_it_was_sent(session: Session):
    assert session.run(session.system.echo(HARD)).stdout == f"{HARD}\r\n"


# --- the watcher ---


def test_a_program_reports_its_pid_its_streams_and_its_exit_status(session: Session, windows: Place):
    (windows.here / "a folder's $(name) & ä").mkdir()
    one = session.start(
        Command(
            [TELL, HARD, "--err", "e", "--env", "SECRET", "--env", "PLAIN", "--here", "--exit", "3"],
            {"PLAIN": HARD},
            f"{windows.folder}\\a folder's $(name) & ä",
            ("SECRET",),
        ),
        ["s3cret \\n 'x' & %TEMP%"],
    )
    assert one.wait(LONG)
    assert one.status == 3
    folder = f"{windows.folder}\\a folder's $(name) & ä"
    assert sorted(one.log_text()) == sorted(
        f"<{text}>" for text in (HARD, "e", "s3cret \\n 'x' & %TEMP%", HARD, folder)
    )


def test_the_pid_is_the_programs_own_beside_others_of_its_name(session: Session):
    first = session.start(Command([TELL, "first", "--wait"]))
    pid = first.wait_started(LONG)
    second = session.start(Command([TELL, "second", "--wait"]))
    assert second.wait_started(LONG) != pid
    first.stop()
    assert first.status == 0  # 1 on Windows
    assert running("second --wait")
    second.stop()
    assert not running("second --wait")


def test_a_program_that_is_not_there(session: Session):
    one = session.start(Command(["C:\\no such\\program.exe"]))
    assert one.wait(LONG)
    assert one.status not in (0, None)
    assert "program.exe" in " ".join(one.log_text())


def test_a_folder_that_is_not_there(session: Session):
    one = session.start(Command([TELL, "ran"], cwd="C:\\no such"))
    with pytest.raises(DeviceRefused, match="no such folder"):
        one.wait_started(LONG)


CONTROLLER = """
import sys, json, time
from edgebench.core import Command, Device
from edgebench.device.session import Session
device, command = json.loads(sys.argv[1])
with Session(Device(**device)) as session:
    running = session.start(Command(command))
    running.wait_started(60)
    print("started", flush=True)
    time.sleep(1000)
"""


def traces(windows_machine: Windows) -> set[Path]:
    """What watchers wrote down."""
    return {*windows_machine.drive.glob("users/*/Temp/@edgebench*")}


def test_the_program_dies_when_its_controller_is_killed(windows: Place, windows_machine: Windows):
    word, before = f"word{random.random()}", traces(windows_machine)
    about = {"name": "w", "system": "windows", "transport": dict(windows.transport)}
    text = json.dumps([about, [TELL, word, "--wait"]])
    controller = subprocess.Popen([sys.executable, "-c", CONTROLLER, text], stdout=subprocess.PIPE)
    assert controller.stdout is not None
    assert controller.stdout.readline()
    assert running(f"{word} --wait")
    os.kill(controller.pid, signal.SIGKILL)
    controller.wait(LONG)
    until(lambda: not running(word))
    until(lambda: not traces(windows_machine) - before)


@pytest.mark.parametrize("fault", ["cut", "hole"])
def test_the_program_dies_with_its_wire(windows: Place, fault: str, proxy):
    word = f"word{random.random()}"
    wire = proxy(windows.port)
    known = Path(windows.transport["known_hosts"])
    line = known.read_text().splitlines()[0].replace(str(windows.port), str(wire.port))
    known.write_text(f"{known.read_text()}{line}\n")
    session = Session(device(windows, port=wire.port))
    session.transport.keep_alive_s = 0.2
    with session:
        one = session.start(Command([TELL, word, "--wait"]))
        one.wait_started(LONG)
        session.transport.silence_s = 1.0  # not before: a busy machine is silent, too
        getattr(wire, fault)()
        until(lambda: not running(word))
        assert one.wait(LONG)
        assert one.loss is not None


def test_a_program_that_was_ended_by_silence_is_a_lost_device(session: Session, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(edgebench.device.session, "HEARTBEAT_S", 1000.0)
    word = f"word{random.random()}"
    one = session.start(Command([TELL, word, "--wait"]))
    assert one.wait(LONG)
    assert one.status == SILENCED
    assert "received no heartbeat" in str(one.loss)
    assert not running(word)


# --- files and the lock ---


def test_a_model_is_there_whole_and_is_not_sent_twice(session: Session, windows: Place, model: ModelFile, monkeypatch):
    path = provision.deploy_model(session, model)
    assert path == f"{windows.folder}\\work space\\models\\{model.sha256}.gguf"
    there = windows.here / "work space" / "models" / f"{model.sha256}.gguf"
    assert there.read_bytes() == model.path.read_bytes()
    pushed: list[Path] = []
    monkeypatch.setattr(session.transport, "push", lambda local, *_: pushed.append(local))
    assert provision.deploy_model(session, model) == path
    assert pushed == []
    assert sorted(file.name for file in there.parent.iterdir()) == [there.name, f"{there.name}.json"]


def test_models_by_their_names(session: Session, windows: Place, model: ModelFile):
    assert provision.list_deployed(session) == []
    provision.deploy_model(session, replace(model, name='Bär\'s "7b" ^ & (1) > 2'))
    (one,) = provision.list_deployed(session)
    assert (one.file, one.size_b, one.name) == (f"{model.sha256}.gguf", model.size, 'Bär\'s "7b" ^ & (1) > 2')
    provision.remove(session, [one])
    assert list((windows.here / "work space" / "models").iterdir()) == []


def test_a_model_that_was_damaged_on_the_device_is_sent_again(session: Session, windows: Place, model: ModelFile):
    provision.deploy_model(session, model)
    there = windows.here / "work space" / "models" / f"{model.sha256}.gguf"
    there.chmod(0o644)  # on Windows nobody writes to a read-only file
    there.write_bytes(bytes(model.size))
    provision.deploy_model(session, model)
    assert there.read_bytes() == model.path.read_bytes()


def test_files_under_hard_names(session: Session, windows: Place):
    files = session.system.files
    folder = f"{windows.folder}\\ä & (文) ^x 'z'"
    assert provision.query(session, files.make_folder(folder)).path == folder
    here = windows.here / "ä & (文) ^x 'z'"
    (here / "a b;=,.gguf").write_bytes(b"x" * 7)
    assert provision.query(session, files.state(f"{folder}\\a b;=,.gguf")) == FileState(7, False)
    assert provision.query(session, files.state(f"{folder}\\a")) is None
    provision.query(session, files.make_folder(f"{folder}\\a folder"))
    assert provision.query(session, files.state(f"{folder}\\a folder")) is not None
    provision.execute(session, files.remove([f"{folder}\\a folder"]))
    provision.execute(session, files.move(f"{folder}\\a b;=,.gguf", f"{folder}\\c & d"))
    provision.execute(session, files.seal(f"{folder}\\c & d"))
    assert provision.query(session, files.sizes(folder)) == {"c & d": 7}
    assert provision.query(session, files.state(f"{folder}\\c & d")).sealed
    provision.execute(session, files.remove([f"{folder}\\c & d", f"{folder}\\nothing"]))
    assert list(here.iterdir()) == []
    assert provision.query(session, files.sizes(f"{folder}\\nothing")) == {}


def test_no_space_and_a_workspace_that_cannot_be_written(session: Session, windows: Place, model: ModelFile):
    with pytest.raises(DeviceRefused, match="not enough space"):
        provision.deploy_model(session, replace(model, size=10**15))
    with Session(replace(device(windows), workspace="Q:\\none")) as other:
        with pytest.raises(DeviceRefused, match="not found"):
            provision.deploy_model(other, model)
        with pytest.raises(DeviceRefused), lock.hold_lock(other):
            pass


def test_a_device_has_one_user_at_a_time(session: Session, windows: Place):
    there = windows.here / "work space"
    with Session(device(windows)) as other:
        with (
            lock.hold_lock(session),
            pytest.raises(DeviceRefused, match=rf"in use by .*process {os.getpid()}"),
            lock.hold_lock(other),
        ):
            pass
        until(lambda: not list(there.iterdir()))
        with lock.hold_lock(other):
            pass
        until(lambda: not list(there.iterdir()))


def test_a_lock_that_nobody_holds_is_taken(session: Session, windows: Place):
    """What a machine that lost its power leaves behind."""
    there = windows.here / "work space"
    there.mkdir()
    (there / "lock").touch()
    (there / "lock.owner").write_text("held somebody long gone\n")
    with lock.hold_lock(session):
        assert "somebody long gone" not in (there / "lock.owner").read_text()


def test_the_same_owner_takes_its_lock_again_after_a_broken_wire(session: Session, windows: Place):
    with lock.hold_lock(session):
        session.reopen()
        assert (windows.here / "work space" / "lock").exists()
    until(lambda: not list((windows.here / "work space").iterdir()))


# --- facts ---


def test_facts_are_cmds_where_powershell_does_not_answer(session: Session):
    facts = session.facts()
    assert facts.threads == os.cpu_count()
    assert facts.architecture == "x86_64"
    assert facts.kernel.startswith("Windows NT 10.0")
    assert facts.os and facts.cpu
    assert facts.ram_b == pytest.approx(psutil.virtual_memory().total, rel=0.1)
    assert (facts.cores, facts.gpus, facts.power_source) == (None, (), None)
    absent = facts.absent
    assert {absent[name] for name in ("cpu", "os", "display", "power")} == {"PowerShell did not respond"}


# --- the whole program ---

QUICK = ("--rounds", "1", "--prompt-tokens", "32", "--gen-tokens", "12", "--ctx", "512", "--threads", "2")


def profile(edgebench: Program, place: Place, **changes: object) -> str:
    about = {
        "name": place.name,
        "system": place.system,
        "transport": dict(place.transport),
        "workspace": f"{place.folder}\\work space",
        **changes,
    }
    edgebench.write(f"devices/{about['name']}.yaml", yaml.safe_dump(about, allow_unicode=True))
    return str(about["name"])


@pytest.fixture
def engine(windows_machine: Windows) -> dict[str, dict[str, str]]:
    return {"llama.cpp": {"path": f"C:\\lab\\{windows_machine.llama.name}\\llama-server.exe"}}


def left_behind(place: Place) -> list[str]:
    there = place.here / "work space"
    until(lambda: not running(place.folder))
    until(lambda: not (there / "lock").exists())
    return [f.name for f in there.rglob("*") if f.is_file() and f.suffix not in (".gguf", ".json")]


def test_a_device_from_nothing_to_a_result(edgebench: Program, windows: Place, engine, real_model: Path):
    name = profile(edgebench, windows, engines=engine)
    ran: Ran = edgebench("run", "-d", name, "-m", str(real_model), *QUICK, "--json", "-")
    assert ran.status == 0, ran.stderr
    record = ran.record
    assert record["status"] == "ok"
    assert record["facts"]["engine"]["build"].startswith("b10605")
    assert record["facts"]["engine"]["backend"] == "cpu"
    for metric in ("decode_tps", "prefill_tps", "load_s", "ttft_s"):
        assert record["metrics"][metric]["value"] > 0
    assert not {"peak_rss_b", "cpu_util", "cpu_engine"} & record["metrics"].keys()
    assert left_behind(windows) == []


def test_nothing_is_left_when_the_controller_is_killed(
    edgebench: Program, windows: Place, windows_machine: Windows, engine, real_model: Path
):
    name, before = profile(edgebench, windows, engines=engine), traces(windows_machine)
    run = edgebench.start("run", "-d", name, "-m", str(real_model), "--rounds", "50")
    until(lambda: [p for p in running("--port") if windows.folder in " ".join(p.info["cmdline"])], 120)
    run.kill()
    run.communicate(timeout=60)
    assert left_behind(windows) == []
    until(lambda: not traces(windows_machine) - before)


def test_an_engine_that_is_not_there(edgebench: Program, windows: Place):
    name = profile(edgebench, windows, engines={"llama.cpp": {"path": "C:\\no\\llama-server.exe"}})
    ran = edgebench("run", "-d", name, *QUICK)
    assert ran.status == 3
    assert "C:\\no\\llama-server.exe" in ran.stderr


def test_init_writes_a_profile_and_check_says_what_works(edgebench: Program, windows: Place):
    wire = windows.transport
    how = ["--host", f"{wire['user']}@{wire['host']}:{wire['port']}"]
    how += ["--key", wire["key"], "--known-hosts", wire["known_hosts"]]
    ran = edgebench("devices", "init", "mine", *how)
    assert ran.status == 0, ran.stderr
    written = yaml.safe_load((edgebench.folder / "devices" / "mine.yaml").read_text())
    assert written["system"] == "windows"
    assert "Windows" in written["description"]
    name = profile(edgebench, windows, engines={"llama.cpp": {}})
    ran = edgebench("devices", "check", name, "--json")
    checks = {check["name"]: check for check in json.loads(ran.stdout)["checks"]}
    engine = checks.pop("engine llama.cpp")
    assert all(check["ok"] for check in checks.values() if check["needed"]), checks
    assert "`python -m pip install" in checks["engine mlc-llm"]["advice"]
    assert "PowerShell" not in checks["commands"]["said"]
    assert f"edgebench devices setup {name}" in engine["advice"]


def test_setup_puts_the_release_there_and_clean_removes_models(
    edgebench: Program, windows: Place, windows_machine: Windows, tmp_path: Path
):
    (archive,) = [
        a for a in archives.load_catalogue() if (a.system, a.machine, a.backend) == ("windows", "x86_64", "cpu")
    ]
    assert re.search(r"-bin-win-cpu-x64\.zip$", archive.file)
    keep = re.compile(
        r"(llama-server.*|llama|llama-common|ggml|ggml-base|ggml-cpu-x64|libomp|mtmd|msvcp.*|vcruntime.*)\."
    )
    with zipfile.ZipFile(tmp_path / archive.file, "w") as made:
        for file in sorted(windows_machine.llama.iterdir()):
            if keep.match(file.name):
                made.write(file, file.name)
    name = profile(edgebench, windows, engines={"llama.cpp": {}})
    ran = edgebench("devices", "setup", name, "--mirror", str(tmp_path))
    assert ran.status == 0, ran.stderr
    assert f"{name} runs llama.cpp: b10605" in ran.stderr
    models = windows.here / "work space" / "models"
    models.mkdir()
    (models / "a b.gguf").write_bytes(b"x" * 1000)
    ran = edgebench("devices", "clean", name, "--yes")
    assert "a b.gguf" in ran.stdout
    assert list(models.iterdir()) == []


def test_a_model_over_two_devices(edgebench: Program, windows: Place, engine, tmp_path: Path):
    """``ggml-rpc-server.exe`` of the release holds a part; the device that leads reaches it through here."""
    model = tiny(tmp_path / "tiny.gguf", layers=4, letters_only=True)
    lead, part = (
        profile(edgebench, windows, name=name, workspace=f"{windows.folder}\\{name}", engines=engine)
        for name in ("lead", "part")
    )
    ran = edgebench("run", "-d", lead, "-m", str(model), *QUICK, "--rpc", part, "--json", "-")
    assert ran.status == 0, ran.stderr
    record = ran.record
    assert record["facts"]["engine"]["buffers"]["RPC0[part] model"] > 0
    (helper,) = record["facts"]["rpc"]
    assert helper["program"].endswith("\\ggml-rpc-server.exe")
    assert helper["protocol"]
    until(lambda: not running("ggml-rpc-server"))
    until(lambda: not list(windows.here.glob("*/lock")))
