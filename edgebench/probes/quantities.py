"""Quantities that more than one probe gives: one definition for all of them."""

from __future__ import annotations

from edgebench.core import Quantity

PEAK_RSS = Quantity(
    "bytes",
    "The most memory of the engine's process tree since it started or since the last reset: the kernel's own peak of "
    "resident memory (VmHWM, PeakWorkingSet64), or resident plus swapped out where that is more; several processes "
    "are added up. Where the system keeps no peak it is the highest reading, and the label `how` says so.",
    {"peak_rss_b": "max"},
)
RSS = Quantity("bytes", "Resident memory of the engine's process tree.", {"steady_rss_b": "median"})
AVAILABLE = Quantity("bytes", "Memory the machine could still give to programs.", {"available_min_b": "min"})
GPU_MEMORY = Quantity(
    "bytes",
    "GPU memory of the engine's process that isn't part of its resident memory; the label `how` says so where it "
    "isn't the driver's own figure for that process.",
    {"peak_gpu_b": "max", "gpu_memory_b": "median"},
    across="sum",
)
GPU_SHARED = Quantity(
    "bytes",
    "Main memory lent to the GPU for the engine's process (Windows' shared usage; what AMD's Linux driver evicted from "
    "the card); may be in resident memory too.",
    {"gpu_shared_b": "max"},
    across="sum",
)
GPU_USED = Quantity("bytes", "Memory in use on the whole GPU, by everybody.", {"gpu_used_b": "max"}, across="sum")
GPU_UTIL = Quantity(
    "ratio",
    "Share of the time in which the GPU computed; of several engines or GPUs the busiest.",
    {"gpu_util": "mean", "gpu_util_p95": "p95"},
    across="max",
)
GPU_CLOCK = Quantity("Hz", "Clock of the GPU's compute units.", {"gpu_clock_hz": "mean"}, across="max")
CPU_UTIL = Quantity(
    "ratio",
    "Share of the machine's processor time spent working, all cores, stolen time left out.",
    {"cpu_util": "mean", "cpu_util_p95": "p95"},
)
CPU_CORE = Quantity("ratio", "The same for one core.", {})
CPU_ENGINE = Quantity(
    "cores",
    "Processor time of the engine's process tree per second: how many cores it keeps busy.",
    {"cpu_engine": "mean", "cpu_engine_p95": "p95"},
)
POWER = Quantity("W", "Power drawn; the label `of` says by what: the whole device (battery, psys) or a part of it.", {})
TEMPERATURE = Quantity("°C", "Temperature; the label `of` names the sensor.", {"temp_max_c": "max"}, across="max")
THROTTLED = Quantity(
    "ratio",
    "1 while something slows the device down for its heat or its power supply; the label `by` says what does.",
    {"throttled": "mean"},
    across="max",
)
