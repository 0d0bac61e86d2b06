"""Quantities that several probes provide, defined once."""

from __future__ import annotations

from edgebench.core import Quantity, SampleMetric

PEAK_RSS = Quantity(
    "bytes",
    "Peak memory of the engine's process tree since it started or since the last reset: the kernel's peak resident "
    "memory (VmHWM, PeakWorkingSet64), or resident plus swapped memory if larger; summed over processes. If the system "
    "keeps no peak, the highest sample is used and the label `how` says so.",
    {"peak_rss_b": SampleMetric("max", "peak resident memory", "lower")},
)
RSS = Quantity(
    "bytes",
    "Resident memory of the engine's process tree.",
    {"steady_rss_b": SampleMetric("median", "resident memory, steady state", "lower")},
)
AVAILABLE = Quantity(
    "bytes",
    "Memory still available to programs on the machine.",
    {"available_min_b": SampleMetric("min", "minimum available memory", "higher")},
)
GPU_MEMORY = Quantity(
    "bytes",
    "GPU memory of the engine's process that isn't part of its resident memory; the label `how` says so where it "
    "isn't the driver's own figure for that process.",
    {
        "peak_gpu_b": SampleMetric("max", "peak GPU memory", "lower"),
        "gpu_memory_b": SampleMetric("median", "GPU memory, steady state", "lower"),
    },
    across="sum",
)
GPU_SHARED = Quantity(
    "bytes",
    "Main memory lent to the GPU for the engine's process (Windows' shared usage; what AMD's Linux driver evicted from "
    "the card); may be in resident memory too.",
    {"gpu_shared_b": SampleMetric("max", "shared GPU memory")},
    across="sum",
)
GPU_USED = Quantity(
    "bytes",
    "Memory in use on the whole GPU, by all processes.",
    {"gpu_used_b": SampleMetric("max", "GPU memory in use")},
    across="sum",
)
GPU_UTIL = Quantity(
    "ratio",
    "Fraction of time during which the GPU was busy; with several engines or GPUs, the busiest.",
    {"gpu_util": SampleMetric("mean", "GPU utilisation"), "gpu_util_p95": SampleMetric("p95", "GPU utilisation, p95")},
    across="max",
)
GPU_CLOCK = Quantity(
    "Hz", "Clock of the GPU's compute units.", {"gpu_clock_hz": SampleMetric("mean", "GPU clock")}, across="max"
)
CPU_UTIL = Quantity(
    "ratio",
    "Fraction of the machine's CPU time spent working, over all cores, excluding stolen time.",
    {"cpu_util": SampleMetric("mean", "CPU utilisation"), "cpu_util_p95": SampleMetric("p95", "CPU utilisation, p95")},
)
CPU_CORE = Quantity("ratio", "The same for one core.", {})
CPU_ENGINE = Quantity(
    "cores",
    "CPU time per second of the engine's process tree, i.e. the number of cores it keeps busy.",
    {
        "cpu_engine": SampleMetric("mean", "CPU cores used by the engine"),
        "cpu_engine_p95": SampleMetric("p95", "CPU cores used by the engine, p95"),
    },
)
POWER = Quantity("W", "Power drawn; the label `of` says by what: the whole device (battery, psys) or a part of it.", {})
TEMPERATURE = Quantity(
    "°C",
    "Temperature; the label `of` names the sensor.",
    {"temp_max_c": SampleMetric("max", "maximum temperature", "lower")},
    across="max",
)
THROTTLED = Quantity(
    "ratio",
    "1 while the device is throttled because of heat or power supply; the label `by` names the cause.",
    {"throttled": SampleMetric("mean", "throttled time", "lower")},
    across="max",
)
