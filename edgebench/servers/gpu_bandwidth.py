"""Measure the memory read bandwidth of a GPU with the engine's own kernels, in the device's Python.

Run as ``python3 - PROGRAM < this file`` in the engine's environment. ggml's shared libraries are next to
PROGRAM, or in Python's packages ``llama_cpp`` or ``xllamacpp``. The first GPU that ggml lists multiplies
a vector by four matrices of 64 MiB in turn, as decoding does with weights: each is read completely, and
no cache holds them. The best of F16 and Q4_0 and of all repetitions is the ceiling. Prints one line of
JSON: ``bytes_per_s``, ``device`` and ``type``, or ``absent`` with the reason.
Standard library only, Python 3.8 or later.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

COLUMNS = 4096
WEIGHT_TYPES = {"F16": (1, 8192), "Q4_0": (2, 28672)}
"""ggml's ID of a type, and the number of rows for about 64 MiB."""
MATRICES = 4
MEASURE_S = 1.0
"""Duration of the measurement of each type, after its kernels are compiled."""
LIBRARY_PATTERNS = ("libggml*.so*", "libggml*.dylib", "ggml*.dll", "xllamacpp*.so", "xllamacpp*.pyd")
GPU, INTEGRATED = 1, 2
"""ggml's device types (older builds have only the first, and 2 is an accelerator such as BLAS)."""


class Params(ctypes.Structure):
    """``struct ggml_init_params``."""

    _fields_ = [("size", ctypes.c_size_t), ("buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool)]


class Unavailable(Exception):
    """The reason why the bandwidth cannot be measured."""


class Ggml:
    """ggml's functions, looked up in all of its libraries."""

    def __init__(self, program: str) -> None:
        self.folder, paths = libraries(program)
        self.libraries: dict[str, ctypes.CDLL] = {}
        reason = ""
        for _ in paths:  # a library may require others: retry until no more can be loaded
            for path in paths:
                try:
                    self.libraries.setdefault(path, ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL))
                except OSError as error:
                    reason = str(error)
        if not self.libraries:
            raise Unavailable("cannot load ggml's libraries: " + reason)

    def function(self, name: str, result: type | None = ctypes.c_void_p) -> Callable[..., Any]:
        for library in self.libraries.values():
            function = getattr(library, name, None)
            if function is not None:
                function.restype = result
                return function  # type: ignore[no-any-return]
        raise Unavailable("this build of ggml has no " + name)

    def call_pointer(self, name: str, *arguments: object) -> ctypes.c_void_p:
        return ctypes.c_void_p(self.function(name)(*arguments))


def libraries(program: str) -> tuple[str, list[str]]:
    """The folder that has ggml's libraries, and their paths."""
    program_folders = [Path(program).resolve().parent] if program else []
    folders = [*program_folders, *(folder.parent / "lib" for folder in program_folders)]
    for package in ("llama_cpp", "xllamacpp"):
        spec = find_spec(package)
        package_folders = (
            [Path(package_folder) for package_folder in (spec.submodule_search_locations or ())] if spec else []
        )
        folders += [*(package_folder / "lib" for package_folder in package_folders), *package_folders]
    for folder in folders:
        paths = sorted(str(path) for name in LIBRARY_PATTERNS for path in folder.glob(name))
        if paths:
            return str(folder), paths
    raise Unavailable("no ggml shared libraries next to " + (program or "this Python's packages"))


def first_gpu(ggml: Ggml) -> ctypes.c_void_p:
    with contextlib.suppress(Unavailable):  # older builds have no backends to load
        ggml.function("ggml_backend_load_all_from_path", None)(ggml.folder.encode())
    count = ggml.function("ggml_backend_dev_count", ctypes.c_size_t)()
    devices = [ggml.call_pointer("ggml_backend_dev_get", ctypes.c_size_t(index)) for index in range(count)]
    for device_type in (GPU, INTEGRATED):
        for device in devices:
            if ggml.function("ggml_backend_dev_type", ctypes.c_int)(device) == device_type:
                return device
    raise Unavailable("ggml finds no GPU")


def rate(ggml: Ggml, backend: ctypes.c_void_p, weight_type: int, rows: int) -> float | None:
    """Bytes per second; None if the matrices do not fit."""
    size = ggml.function("ggml_tensor_overhead", ctypes.c_size_t)() * 32
    size += ggml.function("ggml_graph_overhead", ctypes.c_size_t)()
    context = ggml.call_pointer("ggml_init", Params(size, None, True))

    def matrix(weight_type: int, rows: int) -> ctypes.c_void_p:
        shape = ctypes.c_int64(COLUMNS), ctypes.c_int64(rows)
        return ggml.call_pointer("ggml_new_tensor_2d", context, ctypes.c_int(weight_type), *shape)

    vector, matrices = matrix(0, 1), [matrix(weight_type, rows) for _ in range(MATRICES)]
    graph = ggml.call_pointer("ggml_new_graph", context)
    for weights in matrices:
        ggml.function("ggml_build_forward_expand", None)(
            graph, ggml.call_pointer("ggml_mul_mat", context, weights, vector)
        )
    buffer = ggml.call_pointer("ggml_backend_alloc_ctx_tensors", context, backend)
    if not buffer.value:
        return None
    ggml.function("ggml_backend_buffer_clear", None)(buffer, ctypes.c_uint8(0))
    compute = ggml.function("ggml_backend_graph_compute", ctypes.c_int)
    if compute(backend, graph) != 0:  # the first call compiles the kernels
        return None
    bytes_read = MATRICES * ggml.function("ggml_nbytes", ctypes.c_size_t)(matrices[0])
    started, best_rate = time.perf_counter(), 0.0
    while time.perf_counter() - started < MEASURE_S:
        iteration_started = time.perf_counter()
        compute(backend, graph)
        best_rate = max(best_rate, bytes_read / (time.perf_counter() - iteration_started))
    ggml.function("ggml_backend_buffer_free", None)(buffer)
    return best_rate


def measure(program: str) -> dict[str, object]:
    ggml = Ggml(program)
    device = first_gpu(ggml)
    backend = ggml.call_pointer("ggml_backend_dev_init", device, None)
    if not backend.value:
        raise Unavailable("ggml cannot open the GPU")
    rates = {
        name: bytes_per_s
        for name, parameters in WEIGHT_TYPES.items()
        if (bytes_per_s := rate(ggml, backend, *parameters))
    }
    if not rates:
        raise Unavailable("256 MiB do not fit on the GPU")
    best = max(rates, key=lambda name: rates[name])
    name = ggml.function("ggml_backend_dev_description", ctypes.c_char_p)(device)
    return {"bytes_per_s": rates[best], "type": best, "device": name.decode("utf-8", "replace")}


if __name__ == "__main__":
    try:
        reply = measure(sys.argv[1] if len(sys.argv) > 1 else "")
    except Unavailable as why:
        reply = {"absent": str(why)}
    print("\n" + json.dumps(reply), flush=True)
    os._exit(0)  # drivers' exit handlers may take long or crash
