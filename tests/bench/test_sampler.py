"""The sampler on this machine: by Perl, and without one in dash, in bash, and in mksh with toybox (Android's shell)."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from edgebench.bench.sampler import Sampler
from edgebench.core import Device, ProbeSource, Quantity, Sample, SampleMetric
from edgebench.device.session import Session
from edgebench.probes.cpu import Cpu
from edgebench.probes.memory import Memory
from edgebench.systems import loops

pytestmark = pytest.mark.lab

MIB = 1 << 20
HOLD = "import sys, time; print('ready', flush=True); sys.stdin.read()"


@pytest.fixture(params=["perl", "dash", "bash", "mksh"])
def shell(request, tmp_path, monkeypatch):
    """``sh`` is another shell, and there is no Perl; with mksh the programs are toybox's, as on Android."""
    folder = tmp_path / "bin"
    folder.mkdir()
    if request.param == "perl":
        return request.param
    (folder / "perl").write_text("#!/bin/sh\nexit 127\n")
    (folder / "perl").chmod(0o755)
    (folder / "sh").symlink_to(shutil.which(request.param))
    if request.param == "mksh":
        toybox = shutil.which("toybox")
        for name in subprocess.run([toybox], capture_output=True, text=True, check=True).stdout.split():
            if not (folder / name).exists():
                (folder / name).symlink_to(toybox)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return request.param


@pytest.fixture
def session():
    with Session(Device("here", "linux", {"kind": "local"})) as opened:
        yield opened


@pytest.fixture
def helper():
    """Start a Python program and wait until it says it is ready."""
    started = []

    def start(code: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def seen(name: str, times: int):
    return lambda sampler: sum(sample.name == name for sample in list(sampler.samples)) >= times


def rss(session, pid: int) -> dict[str, float]:
    """What the process's memory is now."""
    with Sampler(session, pid, {"memory": Memory()}) as sampler:
        assert sampler.wait(seen("rss_b", 1), 60)
    return sampler.between(0, time.monotonic())


def test_memory_and_cpu_are_read_in_every_shell(shell, session, helper):
    process = helper(HOLD)
    with Sampler(session, process.pid, {"memory": Memory(), "cpu": Cpu()}) as sampler:
        start = time.monotonic()
        assert sampler.wait(seen("cpu_engine", 3), 60)
        assert sampler.wait(seen("swap_in_b", 1), 60)
        assert sampler.wait(seen("cpu_core_util", 1), 60)
    metrics = sampler.between(start, time.monotonic())
    assert metrics["peak_rss_b"] >= metrics["steady_rss_b"] > MIB
    assert metrics["steady_anon_b"] + metrics["steady_file_b"] + metrics["steady_shmem_b"] == metrics["steady_rss_b"]
    assert 0 <= metrics["cpu_util"] <= 1
    assert 0 <= metrics["cpu_engine"] <= 0.5
    assert len(sampler.by_label("cpu_core_util", "core", start, time.monotonic())) == os.cpu_count()
    assert sampler.absent == {}
    assert sampler.clock.uncertainty < 5
    assert 0 <= sampler.cost.cpu_s < sampler.cost.wall_s


GROW = """
import mmap, subprocess, sys, time
size, kind, path = int(sys.argv[1]), sys.argv[2], sys.argv[3]
def touch(area):
    for at in range(0, size, 4096):
        area[at]
def fill(area):
    for at in range(0, size, 4096):
        area[at] = 1
if kind == 'child':
    child = subprocess.Popen([sys.executable, __file__, str(size), 'anonymous', path], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)
    child.stdout.readline()
print('ready', flush=True)
for word in sys.stdin:
    if kind == 'child':
        child.stdin.write(word)
        child.stdin.flush()
        child.stdout.readline()
    elif kind == 'mapped':
        file = open(path, 'rb')
        area = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
        touch(area)
    else:
        area = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        fill(area)
        if kind == 'freed':
            area.close()
        if kind == 'swapped':
            area.madvise(21)  # MADV_PAGEOUT
    print('done', flush=True)
"""


@pytest.fixture
def grower(tmp_path):
    """A program that takes a known amount of memory when told to."""
    started = []
    script, data = tmp_path / "grow.py", tmp_path / "weights"
    script.write_text(GROW)

    def start(size: int, kind: str) -> subprocess.Popen:
        if kind == "mapped":
            data.write_bytes(os.urandom(MIB) * (size // MIB))
        process = subprocess.Popen(
            [sys.executable, script, str(size), kind, data], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.stdin.close()
        process.wait(30)


def grow(process: subprocess.Popen) -> None:
    process.stdin.write("go\n")
    process.stdin.flush()
    assert process.stdout.readline() == "done\n"


@pytest.mark.parametrize(
    ("kind", "part"),
    [("anonymous", "steady_anon_b"), ("mapped", "steady_file_b"), ("child", "steady_anon_b"), ("freed", None)],
)
def test_peak_of_a_known_amount(session, grower, kind, part):
    size = 200 * MIB
    process = grower(size, kind)
    before = rss(session, process.pid)
    grow(process)
    after = rss(session, process.pid)
    assert after["peak_rss_b"] - before["peak_rss_b"] == pytest.approx(size, rel=0.02)
    if part:
        assert after[part] - before[part] == pytest.approx(size, rel=0.02)
    else:
        assert after["steady_rss_b"] - before["steady_rss_b"] < 0.1 * size


def test_the_peak_can_be_forgotten_between_phases(session, grower):
    process = grower(200 * MIB, "freed")
    before = rss(session, process.pid)
    grow(process)
    sampler = Sampler(session, process.pid, {"memory": Memory()})
    assert sampler.reset_peak()
    assert rss(session, process.pid)["peak_rss_b"] - before["peak_rss_b"] < 10 * MIB


@pytest.fixture
def swap():
    """Swap space on this machine: what it has, or a file of its own for the test's time."""
    free = re.search(r"SwapFree: +(\d+) kB", Path("/proc/meminfo").read_text())
    if free and int(free[1]) >= 300_000:
        yield
        return
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    with tempfile.NamedTemporaryFile(dir="/var/tmp", prefix="edgebench-swap-") as file:
        file.write(bytes(320 * MIB))
        file.flush()
        subprocess.run(["/sbin/mkswap", file.name], check=True, capture_output=True)
        subprocess.run([*root, "/sbin/swapon", file.name], check=True, capture_output=True)
        yield
        subprocess.run([*root, "/sbin/swapoff", file.name], check=True, capture_output=True)


def test_memory_in_swap_is_told_apart(session, grower, swap):
    size = 200 * MIB
    process = grower(size, "swapped")
    before = rss(session, process.pid)
    grow(process)
    after = rss(session, process.pid)
    assert after["peak_swap_b"] + after["steady_rss_b"] - before["peak_swap_b"] - before[
        "steady_rss_b"
    ] == pytest.approx(size, rel=0.02)
    assert after["peak_swap_b"] > 0.5 * size


SPIN = """
import sys, time
print('ready', flush=True)
begin = time.monotonic()
marks = []
while True:
    now = time.monotonic()
    marks.append((now, time.process_time()))
    if now - begin > {seconds}: break
    used = time.process_time()
    while time.process_time() - used < 0.1 * {share}: pass
    time.sleep(max(0, now + 0.1 - time.monotonic()))
# On a busy machine it doesn't get the share it wants: what it got in the last seconds is what counts.
since, used = next(mark for mark in marks if mark[0] > now - 4)
print(since, now, marks[-1][1] - used, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_processor_use_of_a_known_share(session, helper, share):
    process = helper(SPIN.format(share=share, seconds=6))
    with Sampler(session, process.pid, {"cpu": Cpu()}) as sampler:
        begin, end, used = map(float, process.stdout.readline().split())
        assert sampler.wait(lambda s: s.local(s.samples[-1].at) > end, 60)
    measured = sampler.between(begin, end)["cpu_engine"]
    assert measured == pytest.approx(used / (end - begin), abs=0.03)


class Asks:
    """A probe of one reading, for faults."""

    def __init__(self, **reading) -> None:
        self.quantities = {"answer": Quantity("1", "An answer.", {"answer": SampleMetric("last", "answer")})}
        self.sources = {"linux": (ProbeSource(**reading),)}

    def parse(self, at, text):
        return [Sample("answer", float(text.rpartition(":")[2]), at)]


def test_one_bad_probe_costs_nobody_else_anything(session, helper, tmp_path):
    process = helper(HOLD)
    (tmp_path / "number").write_text("41\n")
    (tmp_path / "words").write_text("no number\n")
    probes = {
        "memory": Memory(),
        "missing": Asks(files=(f"{tmp_path}/absent",)),
        "garbage": Asks(files=(f"{tmp_path}/words",)),
        "hangs": Asks(command="sleep 987"),
        "fails": Asks(command="echo cannot >&2; exit 3", interval=0.5),
        "works": Asks(command="echo 42", interval=0.5),
    }
    with Sampler(session, process.pid, probes) as sampler:
        assert sampler.wait(seen("rss_b", 4), 60)
        assert sampler.wait(seen("answer", 2), 60)
    assert sampler.between(0, time.monotonic())["answer"] == 42


@pytest.mark.parametrize(
    ("reading", "reason"),
    [
        ({"files": ("/proc/absent",)}, "/proc/absent: No such file or directory"),
        ({"files": ("/proc/version",)}, "cannot parse: could not convert"),
        ({"command": "sleep 987"}, "nothing was reported"),
        ({"command": "echo permission denied >&2; exit 3", "interval": 0.5}, "cannot parse: could not"),
        ({"command": "no-such-program-here", "interval": 0.5}, "not found"),
    ],
)
def test_what_could_not_be_read_says_why(session, helper, reading, reason):
    process = helper(HOLD)
    with Sampler(session, process.pid, {"memory": Memory(), "asks": Asks(**reading)}) as sampler:
        assert sampler.wait(seen("rss_b", 4), 60)
    assert reason in sampler.absent["answer"]


def running(word: str) -> bool:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if word.encode() in path.read_bytes():
                return True
    return False


def gone(word: str) -> bool:
    end = time.monotonic() + 30
    while running(word) and time.monotonic() < end:
        time.sleep(0.1)
    return not running(word)


def test_it_ends_with_its_channel(shell, session, helper):
    process = helper(HOLD)
    mark = f"/tmp/edgebench-no-such-{os.getpid()}"
    with Sampler(session, process.pid, {"memory": Memory(), "asks": Asks(files=(mark,))}) as sampler:
        assert sampler.wait(seen("rss_b", 1), 60)
        assert running(mark)
    assert gone(mark)
    assert process.poll() is None


def test_it_ends_when_nobody_listens(shell, helper):
    """As after a broken wire: standard output is closed, nobody sends a signal."""
    process = helper(HOLD)
    mark = f"/tmp/edgebench-no-such-{os.getpid()}"
    text = loops.posix_loop(
        {"a.0": ProbeSource(files=("/proc/{pid}/status", mark)), "b.0": ProbeSource(command="echo 1")},
        process.pid,
        perl=True,
    )
    loop = subprocess.Popen(["/bin/sh", "-c", text], stdout=subprocess.PIPE)
    assert loop.stdout.readline()
    loop.stdout.close()
    assert loop.wait(30) is not None
    assert gone(mark)


def test_it_ends_with_the_engine(shell, session, helper):
    process = helper(HOLD)
    with Sampler(session, process.pid, {"memory": Memory()}) as sampler:
        assert sampler.wait(seen("rss_b", 1), 60)
        process.kill()
        process.wait()
        sampler.wait(lambda s: False, 60)
        assert sampler.between(0, time.monotonic())["peak_rss_b"] > MIB
        assert not sampler.wait(seen("rss_b", 10_000), 60)


class Says:
    """A system whose loop prints what a device once printed."""

    def __init__(self, text: str) -> None:
        self.text = text

    def loop(self, sources, pid):
        return f"printf %s {shlex.quote(self.text)}; sleep 60"


def device_time(ticks: int) -> str:
    return f"/proc/self/stat:99 (grep) R 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {ticks} 0 0\n"


def test_lines_cut_in_half_and_a_denied_file(session):
    said = (
        "! grep: /proc/stat: Permission denied\n"
        + device_time(1000)
        + "/proc/7/status:VmRSS:\t  1024 kB\n/proc/7/sta\n% - 5 (sh) S 1\n"
        + "\xff> \n> nobody 1 x\n> memory.0\n%\n% -\n:::\n"
        + device_time(1100)
        + "/proc/7/status:VmRSS:\t  2048 kB\n% - 5 (sh) S 1\n"
    )
    session.system = Says(said)
    with Sampler(session, 7, {"memory": Memory(), "cpu": Cpu()}) as sampler:
        assert sampler.wait(seen("rss_b", 2), 60)
    assert [(sample.value, sample.at) for sample in sampler.samples] == [(MIB, 10.0), (2 * MIB, 11.0)]
    assert sampler.absent["steal"] == "/proc/stat: Permission denied"
    assert sampler.cost is None


def test_a_proc_that_hides_other_peoples_processes(session):
    """What the loop printed as nobody, of root's process 3, in a namespace whose /proc has hidepid=2."""
    session.system = Says(
        "! grep: /proc/3/stat: No such file or directory\n! grep: /proc/3/status: No such file or directory\n"
        "% - 8 (sh) R 4 8 8 0 -1 4194560 298 1177 0 0 0 0 0 0 20 0 1 0 1685533 2654208 386\n"
    )
    with Sampler(session, 3, {"memory": Memory(), "cpu": Cpu()}) as sampler:
        assert sampler.wait(lambda s: "No such file" in s.absent["rss_b"], 60)
    assert sampler.absent["rss_b"] == "/proc/3/status: No such file or directory"
    assert sampler.samples == []


def test_a_short_stretch_takes_its_part_of_a_reading(session):
    said = "".join(
        device_time(ticks) + f"/proc/stat:cpu {busy} 0 0 {idle} 0 0 0 0\n% - x\n"
        for ticks, busy, idle in ((1000, 0, 0), (1100, 100, 0), (1200, 100, 100))
    )
    session.system = Says(said)
    with Sampler(session, 7, {"cpu": Cpu()}) as sampler:
        assert sampler.wait(seen("cpu_util", 2), 60)
    first, middle, last = (sampler.local(at) for at in (10.0, 11.0, 12.0))
    assert sampler.between(first, middle)["cpu_util"] == pytest.approx(1, abs=0.03)
    assert sampler.between(middle, last)["cpu_util"] == pytest.approx(0, abs=0.03)
    assert sampler.between((first + middle) / 2, (middle + last) / 2)["cpu_util"] == pytest.approx(0.5, abs=0.03)
    assert sampler.between(last + 1, last + 2) == {}


def test_a_step_of_the_wall_clock_changes_nothing(shell, session, helper, monkeypatch):
    """The controller's is set back by decades while it samples; the device's own is asked for by no one."""
    process = helper(HOLD)
    assert "date" not in re.findall(r"\w+", session.system.loop({"a.0": ProbeSource(files=("/proc/{pid}/status",))}, 1))
    before = time.monotonic()
    with Sampler(session, process.pid, {"memory": Memory()}) as sampler:
        assert sampler.wait(seen("rss_b", 2), 60)
        monkeypatch.setattr(time, "time", lambda: 0.0)
        assert sampler.wait(seen("rss_b", 4), 60)
    times = [sampler.local(sample.at) for sample in sampler.samples if sample.name == "rss_b"]
    assert times == sorted(times)
    slack = sampler.clock.uncertainty + sampler.clock_at_end.uncertainty + 0.05
    assert before - slack <= times[0] <= times[-1] <= time.monotonic() + slack
    assert abs(sampler.clock.offset - sampler.clock_at_end.offset) <= slack
