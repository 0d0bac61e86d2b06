"""Parsers of Linux's memory and processor files, on texts that real machines printed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from lab.paths import RECORDED

from edgebench.probes.cpu import Cpu
from edgebench.probes.memory import Memory

STATUS = RECORDED / "linux-6.18-status.txt"


def values(samples):
    return {sample.name: sample.value for sample in samples if not sample.labels}


def test_memory_of_a_process_is_split():
    text = "\n".join(f"/proc/1/status:{line}" for line in STATUS.read_text().splitlines() if ":" in line)
    assert values(Memory().parse(1.0, text)) == {
        "peak_rss_b": 1760 * 1024,
        "rss_b": 1760 * 1024,
        "rss_anon_b": 112 * 1024,
        "rss_file_b": 1648 * 1024,
        "rss_shmem_b": 0,
        "swap_b": 0,
    }


def test_memory_of_a_tree_is_added_up_and_old_kernels_have_no_split():
    text = "/proc/7/status:VmHWM:\t  100 kB\n/proc/7/status:VmRSS:\t  80 kB\n/proc/12/status:VmRSS:\t  20 kB"
    assert values(Memory().parse(1.0, text)) == {"peak_rss_b": 100 * 1024, "rss_b": 100 * 1024}


def test_a_zombie_and_cut_lines_give_nothing():
    text = "/proc/7/status:Name:\tx\n/proc/7/status:VmRSS:\t  8\nVmRSS:\t  80 kB\n/proc/7/sta"
    assert values(Memory().parse(1.0, text)) == {}


def test_swap_traffic_needs_the_page_size_and_two_readings():
    memory = Memory()
    first = "/proc/vmstat:pswpin 100\n/proc/vmstat:pswpout 50"
    assert values(memory.parse(1.0, first)) == {}
    assert values(memory.parse(1.0, "16384")) == {}
    assert values(memory.parse(2.0, first)) == {}
    after = values(memory.parse(3.0, "/proc/vmstat:pswpin 103\n/proc/vmstat:pswpout 50"))
    assert after == {"swap_in_b": 3 * 16384, "swap_out_b": 0}


def stat(user: int, idle: int, steal: int = 0, core: str = "") -> str:
    return f"/proc/stat:cpu{core} {user} 0 0 {idle} 0 0 0 {steal} 0 0"


def process(pid: int, ticks: int, born: int = 0, name: str = "llama-server") -> str:
    return f"/proc/{pid}/stat:{pid} ({name}) S 1 1 1 0 -1 0 0 0 0 0 {ticks} 0 0 0 20 0 8 0 {born} 0 0"


def test_shares_between_two_readings():
    cpu = Cpu()
    assert not list(cpu.parse(10.0, "\n".join([stat(1000, 1000), stat(500, 500, core="0"), process(7, 100)])))
    samples = list(cpu.parse(11.0, "\n".join([stat(1120, 1060, 20), stat(580, 500, core="0"), process(7, 180)])))
    assert values(samples) == {"cpu_engine": 0.8, "cpu_util": 0.6, "steal": 0.1, "other_load": 0.2}
    assert not [s for s in samples if s.labels]
    samples = list(cpu.parse(12.0, "\n".join([stat(1300, 1080, 20), stat(650, 550, core="0"), process(7, 180)])))
    assert [(s.value, s.labels) for s in samples if s.labels] == [(0.75, {"core": "0"})]


def test_a_child_counts_from_its_birth_and_a_strange_name_is_read():
    cpu = Cpu()
    list(cpu.parse(10.0, process(7, 100, name="a) S 1 ((")))
    born_since = process(8, 30, born=1020)
    seen_late = process(9, 5000, born=3)
    samples = cpu.parse(11.0, "\n".join([process(7, 120, name="a) S 1 (("), born_since, seen_late]))
    assert values(samples) == {"cpu_engine": 0.5}


def test_termux_without_proc_stat_still_knows_the_engine():
    cpu = Cpu()
    list(cpu.parse(10.0, process(7, 100)))
    assert values(cpu.parse(12.0, process(7, 200))) == {"cpu_engine": 0.5}


def test_counters_that_run_backwards_give_no_negative_share():
    cpu = Cpu()
    list(cpu.parse(10.0, stat(1000, 1000)))
    assert all(value >= 0 for value in values(cpu.parse(11.0, stat(990, 1100))).values())
    assert values(cpu.parse(11.0, stat(2000, 1100))) == {}


@given(st.text(alphabet="/proc1stau:cp VmRSS()kB \t\n-9", max_size=200))
def test_garbage_is_never_a_negative_number(text):
    for probe in (Memory(), Cpu()):
        for at in (1.0, 2.0):
            assert all(sample.value >= 0 for sample in probe.parse(at, text))
