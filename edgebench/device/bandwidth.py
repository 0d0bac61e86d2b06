"""How fast a device reads its memory: the ceiling of the decode rate (roofline)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files

from edgebench.core import Command, DeviceSession, Fields
from edgebench.errors import TimedOut

SECONDS, TIMES = 0.4, 3
"""How long each thread reads, and how often: the best counts, since it is a ceiling."""
BUFFER_B = 128 << 20
"""Bytes that each thread reads over and over: beyond most caches."""

# memchr of the C library looks at every byte with the widest loads it has and writes nothing; a
# foreign call lets other threads run. Standard library only.
_PYTHON = f"""\
import ctypes, os, threading, time
find = ctypes.CDLL(None).memchr
find.restype, find.argtypes = ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
size = {BUFFER_B}
count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
try:
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    count = max(1, min(count, free // 2 // size))
except (ValueError, OSError):
    pass
buffers = [ctypes.create_string_buffer(size) for _ in range(count)]
for one in buffers:
    ctypes.memset(one, 1, size)
def read(one, start, done):
    place = ctypes.addressof(one)
    while time.perf_counter() < start:
        pass
    while time.perf_counter() - start < {SECONDS}:
        find(place, 2, size)
        done.append(size)
best = 0
for _ in range({TIMES}):
    done, start = [], time.perf_counter() + 0.02
    threads = [threading.Thread(target=read, args=(one, start, done)) for one in buffers]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    best = max(best, sum(done) / (time.perf_counter() - start))
print("bandwidth", best, count)
"""
_COPY = (
    "n=$(getconf _NPROCESSORS_ONLN 2>/dev/null || nproc); cat {file} >/dev/null; i=0; "
    "while [ $i -lt $n ]; do dd if={file} of=/dev/null bs=262144 2>/dev/null & i=$((i+1)); done; wait; "
    "read a x </proc/uptime; j=0; while [ $j -lt {times} ]; do i=0; while [ $i -lt $n ]; do "
    "dd if={file} of=/dev/null bs=262144 2>/dev/null & i=$((i+1)); done; wait; j=$((j+1)); done; "
    "read b x </proc/uptime; echo copied $a $b $n"
)
COPY_B = 4 << 30
"""Bytes that are copied in all by the second method, about."""


UNCACHED = {"MESA_SHADER_CACHE_DISABLE": "true", "__GL_SHADER_DISK_CACHE": "0", "CUDA_CACHE_DISABLE": "1"}
"""Compiled kernels stay out of the drivers' caches: the engine's first start is still its first."""
GPU_S = 180
"""Seconds that the GPU may take: mostly to compile its kernels."""


@dataclass(frozen=True)
class Bandwidth:
    """Bytes per second read from memory by what computes, and how that was measured."""

    bytes_per_s: float
    method: str
    threads: int | None = None
    device: str = ""
    """The GPU's name."""


def measure(session: DeviceSession, file: str = "", size: int = 0, python: str = "python3") -> Bandwidth | str:
    """Measure the processors' on the device, in about a second; text: why it could not be had.

    With Python there (``python``, the device's own or the bundled engine's): every core scans a
    buffer of its own. Without: every core copies ``file`` (of ``size`` bytes, in the page cache) with
    ``dd``; the copying itself costs, so this is a lower bound and says so.
    """
    try:
        said = session.run(f"{session.system.quote([python])} -", timeout=60, stdin=_PYTHON.encode())
        if found := _scanned(said.stdout):
            return found
        why = _last(said.stderr) or f"{python} printed nothing"
        if file and size and session.device.system in ("linux", "android", "termux"):
            times = max(1, COPY_B // max(1, size) // 4)
            command = _COPY.format(file=session.system.quote([file]), times=times)
            return _copied(session.run(command, timeout=120).stdout, size, times) or why
    except TimedOut as error:
        return str(error)
    return why


def measure_gpu(session: DeviceSession, routine: Command) -> Bandwidth | str:
    """The first GPU's, by the engine's own kernels (``servers/gpu_bandwidth.py``); text: why not."""
    environment = [f"{name}={value}" for name, value in {**UNCACHED, **routine.env}.items()]
    argv = ["env", *environment, *routine.argv]
    program = (files("edgebench") / "servers" / "gpu_bandwidth.py").read_bytes()
    try:
        said = session.run(session.system.quote(argv), timeout=GPU_S, stdin=program)
    except TimedOut as error:
        return str(error)
    return _multiplied(said.stdout) or _last(said.stderr) or f"{routine.argv[0]} printed nothing"


def _last(text: str) -> str:
    return text.strip().splitlines()[-1][:200] if text.strip() else ""


def _multiplied(text: str) -> Bandwidth | str | None:
    try:
        answer = Fields(json.loads(_last(text)))
    except ValueError:
        return None
    if reason := answer.text("absent"):
        return reason
    rate, kind, device = answer.number("bytes_per_s"), answer.text("type"), answer.text("device")
    if rate is None or kind is None or device is None:
        return None
    return Bandwidth(rate, f"the engine's own ggml multiplies a vector by 4 × 64 MiB of {kind}", device=device)


def _scanned(text: str) -> Bandwidth | None:
    words = text.split()
    if len(words) == 3 and words[0] == "bandwidth":
        return Bandwidth(float(words[1]), "every core scans 128 MiB of its own (memchr)", int(words[2]))
    return None


def _copied(text: str, size: int, times: int) -> Bandwidth | None:
    words = text.split()
    if len(words) != 4 or words[0] != "copied" or float(words[2]) <= float(words[1]):
        return None
    count = int(words[3])
    rate = size * times * count / (float(words[2]) - float(words[1]))
    return Bandwidth(rate, "every core copies a cached file (dd): a lower bound", count)
