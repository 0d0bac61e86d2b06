"""Nothing left behind: a program on a device dies with its controller and with its wire."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lab.here import Sleeper
from lab.place import Place

import edgebench.device.session
from edgebench.core import SILENCED, Command, Device
from edgebench.device.session import Session
from edgebench.errors import DeviceRefused
from edgebench.systems import posix

pytestmark = pytest.mark.lab

PLACES = ["local", "linux", "termux", "android", "old_android"]
REMOTE = PLACES[1:]
LONG = 60.0


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Place:
    return request.getfixturevalue(request.param)


def device(place: Place, **changes: object) -> Device:
    return Device(place.name, place.system, {**place.transport, **changes}, workspace=place.folder)


@pytest.fixture
def session(place: Place):
    with Session(device(place)) as one:
        yield one


def test_a_program_reports_its_pid_and_exit_status(session: Session):
    running = session.start(Command(["sh", "-c", "echo out; echo err >&2; exit 3"]))
    assert running.wait_started(LONG) > 0
    assert running.wait(LONG)
    assert running.status == 3
    assert sorted(running.log_text()) == ["err", "out"]


def test_the_pid_is_the_programs_own(session: Session):
    running = session.start(Command(["sh", "-c", "echo I am $$; exec sleep 1000"]))
    pid = running.wait_started(LONG)
    while not running.log_text():
        time.sleep(0.02)
    assert running.log_text() == [f"I am {pid}"]
    running.stop()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_death_by_a_signal_is_told(session: Session, number: int):
    running = session.start(Command(["sh", "-c", f"kill -{int(number)} $$"]))
    assert running.wait(LONG)
    assert running.status == 128 + number


def test_a_program_that_is_not_there(session: Session):
    running = session.start(Command(["/no such/program"]))
    assert running.wait(LONG)
    assert running.status == 127
    assert "/no such/program" in " ".join(running.log_text())


def test_stop_ends_it_and_tells_how(session: Session, sleeper: Sleeper):
    running = session.start(Command(sleeper.command.split()))
    running.wait_started(LONG)
    sleeper.wait_for(1)
    running.stop()
    sleeper.wait_for(0)
    assert running.status in (128 + signal.SIGINT, 128 + signal.SIGTERM)


def test_stop_lets_a_program_clean_up_on_sigint(session: Session):
    script = "import time\nprint('ready')\ntry: time.sleep(1000)\nexcept KeyboardInterrupt: print('cleaned up')"
    running = session.start(Command([sys.executable, "-u", "-c", script]))
    while not running.log_text():
        time.sleep(0.02)
    running.stop()
    assert running.log_text() == ["ready", "cleaned up"]
    assert running.status == 0


def test_what_ignores_every_polite_word_is_killed(session: Session):
    script = "trap '' INT TERM HUP; echo ready; while :; do sleep 0.1; done"
    running = session.start(Command(["sh", "-c", script]))
    while not running.log_text():
        time.sleep(0.02)
    running.stop(grace_s=0.5)
    assert running.status == 128 + signal.SIGKILL


def test_environment_secrets_and_folder(session: Session, place: Place):
    (place.here / "a folder's $(name)").mkdir()
    command = Command(
        ["sh", "-c", 'printf "%s\\n" "$PLAIN|$SECRET|$OTHER"; pwd; cat'],
        env={"PLAIN": "a 'b' \"c\" $d %e% ä"},
        cwd=f"{place.folder}/a folder's $(name)",
        secrets=("SECRET", "OTHER"),
    )
    running = session.start(command, ["s3cret \\n 'x'", "two"])
    assert running.wait(LONG)
    assert running.log_text() == ["a 'b' \"c\" $d %e% ä|s3cret \\n 'x'|two", f"{place.folder}/a folder's $(name)"]
    assert "s3cret" not in session.system.supervise(command, "tag")


hard = st.text(st.characters(exclude_characters="\0\n\r", exclude_categories=["Cs"]), max_size=12)
spiced = st.text(st.sampled_from("""a b'"$()`\\%^&|<>*?[]{}~!#;=-ä文🦄"""), max_size=12)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arguments=st.lists(hard | spiced, min_size=1, max_size=6))
def test_arguments_arrive_as_they_are(session: Session, arguments: list[str]):
    said = session.run(session.system.quote(["printf", "<%s>\n", *arguments]))
    assert said.stdout == "".join(f"<{a}>\n" for a in arguments)


def test_many_lines_of_a_megabyte_with_control_characters(session: Session):
    script = "import sys\nfor i in range(3): sys.stdout.write('\\x1b[2J' + 'x' * 1_000_000 + '\\0\\n')"
    running = session.start(Command([sys.executable, "-c", script]))
    assert running.wait(LONG)
    assert running.status == 0
    assert sum(line.count("x") for line in running.log_text()) == 3_000_000


CONTROLLER = """
import sys, json, time
from edgebench.core import Command, Device
from edgebench.device.session import Session
device, command = json.loads(sys.argv[1])
with Session(Device(**device)) as session:
    running = session.start(Command(command))
    running.wait_started(60)
    with session.forward(9) as port:
        print(port, flush=True)
        time.sleep(1000)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_program_dies_when_its_controller_does(place: Place, sleeper: Sleeper, how: int):
    one = device(place)
    profile = {"name": one.name, "system": one.system, "transport": dict(one.transport)}
    controller = subprocess.Popen(
        [sys.executable, "-c", CONTROLLER, json.dumps([profile, sleeper.command.split()])], stdout=subprocess.PIPE
    )
    assert controller.stdout is not None
    assert controller.stdout.readline()
    sleeper.wait_for(1)
    os.kill(controller.pid, how)
    controller.wait(LONG)
    sleeper.wait_for(0)


STANDSTILL = """
import sys, json
from edgebench.core import Command, Device
from edgebench.device.session import Session
device, command = json.loads(sys.argv[1])
with Session(Device(**device)) as session:
    running = session.start(Command(command))
    running.wait_started(60)
    print("started", flush=True)
    running.wait(1000)
    print(running.loss, flush=True)
"""


@pytest.mark.parametrize("name", ["local", "linux", "old_android"])
def test_a_controller_that_stands_still_is_told_what_happened(
    name: str, request: pytest.FixtureRequest, sleeper: Sleeper
):
    """Asleep, or stopped by Ctrl-Z: the wire is whole, and nothing comes. It is not the program's fault."""
    one = device(request.getfixturevalue(name))
    about = {"name": one.name, "system": one.system, "transport": dict(one.transport)}
    text = json.dumps([about, sleeper.command.split()])
    controller = subprocess.Popen([sys.executable, "-c", STANDSTILL, text], stdout=subprocess.PIPE, text=True)
    assert controller.stdout is not None
    assert controller.stdout.readline() == "started\n"
    sleeper.wait_for(1)
    controller.send_signal(signal.SIGSTOP)
    sleeper.wait_for(0)
    controller.send_signal(signal.SIGCONT)
    said = controller.stdout.readline()
    controller.wait(LONG)
    # Where it stood still for long the wire is given up as well, whichever is seen first.
    assert "received no heartbeat" in said or "lost the connection" in said


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """No sign of life after the first."""
    monkeypatch.setattr(edgebench.device.session, "HEARTBEAT_S", 1000.0)
    monkeypatch.setattr(posix, "MAX_MISSED_BEATS", 2)


@pytest.mark.usefixtures("silent")
def test_what_ignores_the_end_by_silence_is_killed(session: Session):
    running = session.start(Command(["sh", "-c", "trap '' INT TERM HUP ALRM; echo $$; while :; do sleep 0.1; done"]))
    assert running.wait(LONG)
    assert running.status == 128 + signal.SIGKILL


@pytest.mark.usefixtures("silent")
def test_a_program_that_was_ended_by_silence_is_a_lost_device(session: Session):
    running = session.start(Command(["sleep", "1000"]))
    assert running.wait(LONG)
    assert running.status == SILENCED
    assert "received no heartbeat" in str(running.loss)
    assert "asleep" in running.loss.hint


@pytest.mark.parametrize("fault", ["cut", "close", "hole"])
@pytest.mark.parametrize("name", REMOTE)
def test_the_program_dies_with_its_wire(name: str, fault: str, request: pytest.FixtureRequest, sleeper: Sleeper, proxy):
    place: Place = request.getfixturevalue(name)
    wire = proxy(place.port)
    if place.transport["kind"] == "ssh":
        known = Path(place.transport["known_hosts"])
        known.write_text(
            known.read_text() + known.read_text().splitlines()[0].replace(str(place.port), str(wire.port)) + "\n"
        )
        through = device(place, port=wire.port)
    else:
        through = device(place, serial=f"127.0.0.1:{wire.port}")
    session = Session(through)
    session.transport.keep_alive_s = 0.2
    with session:
        running = session.start(Command(sleeper.command.split()))
        running.wait_started(LONG)
        sleeper.wait_for(1)
        session.transport.silence_s = 1.0  # not before: a busy machine is silent, too
        getattr(wire, fault)()
        sleeper.wait_for(0)
        assert running.wait(LONG)
        assert running.loss is not None
        assert running.status is None


def test_a_device_without_a_shell_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch):
    with Session(device(place)) as session:
        monkeypatch.setattr(type(session.system), "supervise", lambda *_: "echo no such thing >&2; exit 1")
        running = session.start(Command(["true"]))
        with pytest.raises(DeviceRefused, match="no such thing"):
            running.wait_started(LONG)
