"""Memory read bandwidth of a device: the ceiling of the decode rate (roofline)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files

from edgebench.core import Command, DeviceSession, Fields
from edgebench.errors import TimedOut

READ_S, REPETITIONS = 0.4, 3
"""Seconds that each thread reads, and repetitions; the best one counts, since it is a ceiling."""
BUFFER_B = 128 << 20
"""Bytes that each thread reads repeatedly: larger than most caches."""

# memchr of the C library reads every byte with the widest loads and writes nothing; a foreign call
# releases the GIL. Standard library only.
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
    while time.perf_counter() - start < {READ_S}:
        find(place, 2, size)
        done.append(size)
best = 0
for _ in range({REPETITIONS}):
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
"""Approximate number of bytes that the second method copies in total."""


NO_KERNEL_CACHE = {"MESA_SHADER_CACHE_DISABLE": "true", "__GL_SHADER_DISK_CACHE": "0", "CUDA_CACHE_DISABLE": "1"}
"""Keeps compiled kernels out of the drivers' caches, so that the engine's first start remains its first."""
GPU_TIMEOUT_S = 180
"""Timeout of the GPU measurement; most of the time compiles kernels."""


@dataclass(frozen=True)
class Bandwidth:
    """Memory read bandwidth in bytes per second, and how it was measured."""

    bytes_per_s: float
    method: str
    threads: int | None = None
    device: str = ""
    """The GPU's name."""


def measure(session: DeviceSession, file: str = "", size: int = 0, python: str = "python3") -> Bandwidth | str:
    """Measure the bandwidth of the device's CPU, in about a second; a string is the reason for its absence.

    If the device has Python (``python``, its own or the bundled engine's), every core scans a separate
    buffer. Otherwise every core copies ``file`` (``size`` bytes, in the page cache) with ``dd``, which
    is reported as a lower bound, since copying itself takes time.
    """
    try:
        output = session.run(f"{session.system.quote([python])} -", timeout=60, stdin=_PYTHON.encode())
        if bandwidth := _parse_scan(output.stdout):
            return bandwidth
        reason = _last_line(output.stderr) or f"{python} printed no output"
        if file and size and session.device.system in ("linux", "android", "termux"):
            repetitions = max(1, COPY_B // max(1, size) // 4)
            command = _COPY.format(file=session.system.quote([file]), times=repetitions)
            return _parse_copy(session.run(command, timeout=120).stdout, size, repetitions) or reason
    except TimedOut as error:
        return str(error)
    return reason


def measure_gpu(session: DeviceSession, routine: Command) -> Bandwidth | str:
    """Measure the bandwidth of the first GPU with the engine's own kernels (``servers/gpu_bandwidth.py``).

    A string is the reason for its absence.
    """
    environment = [f"{name}={value}" for name, value in {**NO_KERNEL_CACHE, **routine.env}.items()]
    argv = ["env", *environment, *routine.argv]
    program = (files("edgebench") / "servers" / "gpu_bandwidth.py").read_bytes()
    try:
        output = session.run(session.system.quote(argv), timeout=GPU_TIMEOUT_S, stdin=program)
    except TimedOut as error:
        return str(error)
    return _parse_gpu(output.stdout) or _last_line(output.stderr) or f"{routine.argv[0]} printed no output"


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1][:200] if text.strip() else ""


def _parse_gpu(text: str) -> Bandwidth | str | None:
    try:
        reply = Fields(json.loads(_last_line(text)))
    except ValueError:
        return None
    if reason := reply.text("absent"):
        return reason
    rate, weight_type, device = reply.number("bytes_per_s"), reply.text("type"), reply.text("device")
    if rate is None or weight_type is None or device is None:
        return None
    return Bandwidth(rate, f"the engine's own ggml multiplies a vector by 4 × 64 MiB of {weight_type}", device=device)


def _parse_scan(text: str) -> Bandwidth | None:
    words = text.split()
    if len(words) == 3 and words[0] == "bandwidth":
        return Bandwidth(float(words[1]), "every core scans 128 MiB of its own (memchr)", int(words[2]))
    return None


def _parse_copy(text: str, size: int, repetitions: int) -> Bandwidth | None:
    words = text.split()
    if len(words) != 4 or words[0] != "copied" or float(words[2]) <= float(words[1]):
        return None
    count = int(words[3])
    rate = size * repetitions * count / (float(words[2]) - float(words[1]))
    return Bandwidth(rate, "every core copies a cached file (dd): a lower bound", count)
