"""The sampler's loop for systems that aren't here: its syntax where an interpreter exists, and its shape."""

from __future__ import annotations

import base64
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import tree_sitter_powershell
from tree_sitter import Language, Parser

from edgebench import plugins
from edgebench.bench.sampler import Sampler
from edgebench.core import Device, ProbeSource
from edgebench.device.session import Session
from edgebench.errors import UsageError
from edgebench.systems import loops, powershell
from edgebench.systems.cmd import MAX_COMMAND_CHARS

QUOTES = 'it\'s "here" $(echo no) `echo no` äß'


def sources(system: str) -> dict[str, ProbeSource]:
    """Of all installed probes."""
    return {
        f"{name}.{index}": reading
        for name in plugins.names("probes")
        for index, reading in enumerate(plugins.load("probes", name)().sources.get(system, ()))
    }


@pytest.mark.parametrize("shell", ["dash", "bash", "mksh"])
@pytest.mark.parametrize("system", ["linux", "android", "termux", "macos"])
def test_every_posix_loop_is_valid_shell(shell, system):
    text = loops.posix_loop(sources(system), 4711, proc=system != "macos", perl=system == "linux")
    script = shlex.split(text)[-1]
    checked = subprocess.run([shell, "-n", "-c", script], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    # dropbear drops a connection whose command is much longer.
    assert len(text) < 8000


def script_of(text: str) -> str:
    program, _, encoded = text.rpartition(" ")
    assert program == "powershell -NoProfile -NonInteractive -EncodedCommand"
    return base64.b64decode(encoded).decode("utf-16-le")


def test_the_windows_loop_fits_cmd_and_quotes_its_commands():
    text = powershell.loop(sources("windows"), 4711)
    assert len(text) < MAX_COMMAND_CHARS
    script = script_of(text)
    assert "{pid}" not in script
    assert all(script.count(left) == script.count(right) for left, right in ("()", "{}", "[]"))
    quoted = script_of(powershell.loop({"a.0": ProbeSource(command=QUOTES)}, 4711))
    assert "'it''s \"here\" $(echo no) `echo no` äß'" in quoted


def test_the_windows_loop_is_valid_powershell():
    """By tree-sitter's grammar: there is no PowerShell here to run it."""
    parser = Parser(Language(tree_sitter_powershell.language()))
    script = script_of(powershell.loop(sources("windows"), 4711))
    assert not parser.parse(script.encode()).root_node.has_error
    assert parser.parse(script.replace("foreach(", "foreach", 1).encode()).root_node.has_error


def test_too_many_windows_probes_are_refused_in_words():
    with pytest.raises(UsageError, match="characters"):
        powershell.loop({f"a.{i}": ProbeSource(command="Get-Something " * 20) for i in range(20)}, 1)


def seen(name: str):
    return lambda sampler: any(sample.name == name for sample in list(sampler.samples))


class Mac:
    """macOS's loop, run here by a shell that has no /proc to look at, with the Mac's programs acted out."""

    loop = staticmethod(lambda sources, pid: loops.posix_loop(sources, pid, proc=False))


def test_the_loop_without_proc_runs_commands_and_uses_arrival_times(tmp_path, monkeypatch):
    acted = {
        "ps": f'case "$*" in *rss*) echo "  {os.getpid()}     1   2048";; *) echo "  {os.getpid()} 1 0:01.50";; esac',
        "footprint": "echo '    phys_footprint: 15517760 B'; echo '    phys_footprint_peak: 15616064 B'",
        "top": "while :; do echo 'CPU usage: 5.26% user, 10.52% sys, 84.21% idle '; sleep 0.2; done",
        "ioreg": "exit 1",
        "pmset": "sleep 600",
    }
    for name, script in acted.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert shutil.which("perl")
    with Session(Device("mac", "linux", {"kind": "local"})) as session:
        session.system = Mac()
        session.device = Device("mac", "macos", {"kind": "local"})
        with Sampler(session, os.getpid()) as sampler:
            for name in ("rss_b", "footprint_peak_b", "cpu_util"):
                assert sampler.wait(seen(name), 60), sampler.absent
    metrics = sampler.between(0, float("inf"))
    assert metrics["peak_rss_b"] == 2048 * 1024
    assert metrics["footprint_peak_b"] == 15616064
    assert metrics["cpu_util"] == pytest.approx(0.1578)
    assert sampler.absent["throttled"] == "nothing was reported"
    assert sampler.absent["steal"] == "not read on macos"
    assert sampler.clock is None


@pytest.fixture(params=[True, False], ids=["listed", "not listed"])
def family(request, tmp_path):
    """A /proc: 100 has children of two threads, one of them has a child; 104 is somebody else's."""
    parents = {100: 1, 101: 100, 102: 100, 103: 101, 104: 1}
    for pid, parent in parents.items():
        task = tmp_path / str(pid) / "task" / str(pid)
        task.mkdir(parents=True)
        (tmp_path / str(pid) / "status").write_text(f"Name:\tx\nPPid:\t{parent}\n")
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a) S 7 (b) S {parent} 1 1 0\n")
        if request.param:
            (task / "children").write_text("".join(f"{k} " for k, v in parents.items() if v == pid and k != 102))
    if request.param:
        other = tmp_path / "100" / "task" / "105"
        other.mkdir()
        (other / "children").write_text("102 ")
    return tmp_path


@pytest.mark.parametrize("shell", ["dash", "bash", "mksh"])
def test_the_process_tree_by_the_kernels_list_and_by_looking_at_all(shell, family):
    script = loops._TREE.replace("/proc", str(family))
    said = subprocess.check_output([shell, "-c", f"p=100\n{script}\ntree; echo $t"], text=True)
    assert sorted(map(int, said.split())) == [100, 101, 102, 103]


def perl(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    program = loops._PERL.replace("/proc", str(folder))
    return subprocess.Popen(["perl", "-e", program, *arguments], stdout=subprocess.PIPE, text=True)


def machine(folder: Path, uptime: float) -> None:
    (folder / "uptime").write_text(f"{uptime} 1.00\n")
    (folder / "self").mkdir()
    (folder / "self" / "stat").write_text("9 (perl) R 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 100000 0 0\n")


def test_one_perl_reads_the_whole_tree(family):
    machine(family, 1000.02)
    (family / "fixed").write_text("wanted 1\nnot this\nwanted 2")
    reader = perl(
        family, "100", "0.01", "5", "1", "^PPid|^wanted", f"{family}/fixed {family}/gone", f"{family}/$x/status"
    )
    said = [reader.stdout.readline().replace(f"{family}/", "") for _ in range(8)]
    assert said[:3] == ["uptime:1000.02 1.00\n", "fixed:wanted 1\n", "fixed:wanted 2\n"]
    assert sorted(said[3:7]) == [
        f"{pid}/status:PPid:\t{parent}\n" for pid, parent in ((100, 1), (101, 100), (102, 100), (103, 101))
    ]
    assert said[7].startswith("% - 9 (perl) R 1")
    shutil.rmtree(family / "100")
    reader.stdout.close()
    assert reader.wait(30) is not None


def test_a_container_with_a_clock_of_its_own_is_left_to_grep(tmp_path):
    """lxcfs shows the container's own uptime: it doesn't go with the times of processes."""
    machine(tmp_path, 30.5)
    assert perl(tmp_path, "0", "0.01", "5").wait(30) == 1


def ticks(shell: str, script: str, many: int) -> list[str]:
    """The lines of so many ticks of a loop that a shell runs."""
    with subprocess.Popen([shell, "-c", script], stdout=subprocess.PIPE, text=True) as loop:
        said: list[str] = []
        while sum(line.startswith("% - ") for line in said) < many and (line := loop.stdout.readline()):
            said.append(line.rstrip("\n"))
        loop.kill()
    return said


ALONE = ["bash", "mksh"]
OWN = ProbeSource(files=("/proc/{pid}/status",), lines=("VmRSS:", "Rss"), interval=0.1)


@pytest.fixture
def watched():
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process.pid
        process.kill()


@pytest.mark.parametrize("shell", ALONE)
def test_a_shell_that_reads_by_itself_starts_nothing_while_it_does(shell, watched):
    everything = ProbeSource(files=("/proc/{pid}/statm", "/proc/gone"), interval=0.1)
    script = shlex.split(loops.posix_loop({"a.0": OWN, "b.0": everything}, watched))[-1]
    said = ticks(shell, script, 8)
    ends = [line.rpartition(") ")[2].split() for line in said if line.startswith("% - ")]
    # Page faults of the children it waited for: they change with each of them.
    assert {end[8] for end in ends[2:]} == {ends[1][8]}
    assert {line.partition(":")[0] for line in said[-7:-1]} == {
        "/proc/uptime",
        f"/proc/{watched}/status",
        f"/proc/{watched}/statm",
    }
    assert sum(":Rss" in line or ":VmRSS" in line for line in said[-7:-1]) == 4
    times = [float(line[13:].split()[0]) for line in said if line.startswith("/proc/uptime:")]
    assert times[-1] - times[1] > 0.1


@pytest.mark.parametrize("shell", ALONE)
@pytest.mark.parametrize("uptime", ["30.5 1.00\n", None], ids=["its own", "denied"])
def test_a_shell_without_the_devices_clock_leaves_reading_to_grep(shell, uptime, watched, tmp_path):
    """In a container that shows its own uptime, in Termux that shows none."""
    if uptime:
        (tmp_path / "uptime").write_text(uptime)
    script = shlex.split(loops.posix_loop({"a.0": OWN}, watched))[-1].replace("/proc/uptime", str(tmp_path / "uptime"))
    said = ticks(shell, script, 3)
    assert sum(line.startswith("/proc/self/stat:") and "(grep)" in line for line in said) == 2
    assert sum(":VmRSS" in line for line in said) == 2


@pytest.mark.parametrize("shell", ALONE)
def test_a_shell_that_cannot_wait_on_a_pipe_sleeps(shell, watched):
    """It must never read on without a pause."""
    script = shlex.split(loops.posix_loop({"a.0": OWN}, watched))[-1].replace("exec 3<", "exec 4<")
    times = [float(line[13:].split()[0]) for line in ticks(shell, script, 5) if line.startswith("/proc/uptime:")]
    assert times[-1] - times[1] > 0.2


def test_without_perl_a_shell_that_reads_by_itself_is_looked_for(tmp_path):
    for name in ("dash", "bash", "grep", "sed", "sleep"):
        (tmp_path / ("sh" if name == "dash" else name)).symlink_to(shutil.which(name))
    words = shlex.split(loops.posix_loop({"a.0": OWN}, 4711, perl=True))
    assert words[:3] == ["exec", "sh", "-c"]

    def first_line() -> str:
        run = [str(tmp_path / "sh"), "-c", words[3], 'echo "bash $BASH_VERSION"']
        return subprocess.check_output(run, env={"PATH": str(tmp_path)}, text=True)

    assert first_line() > "bash 3"
    (tmp_path / "bash").unlink()
    assert first_line() == "bash \n"
