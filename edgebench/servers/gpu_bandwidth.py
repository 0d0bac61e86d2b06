"""How fast a GPU reads its memory, by the engine's own kernels: a program for the device's Python.

Run as ``python3 - PROGRAM < this file`` in the engine's environment. Near PROGRAM (or in Python's
packages ``llama_cpp`` or ``xllamacpp``) lie ggml's shared libraries. The first GPU that ggml finds
multiplies a vector by four matrices of 64 MiB in turn, which is what decoding does with weights:
each must be read whole, and no cache holds them. Best of F16 and Q4_0, best of several times: a
ceiling. Prints one line of JSON: ``bytes_per_s``, ``device`` and ``type``, or ``absent``: why not.
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
KINDS = {"F16": (1, 8192), "Q4_0": (2, 28672)}
"""ggml's number of a type, and rows that make about 64 MiB."""
MATRICES = 4
SECONDS = 1.0
"""How long each type is measured for, once its kernels are compiled."""
NAMES = ("libggml*.so*", "libggml*.dylib", "ggml*.dll", "xllamacpp*.so", "xllamacpp*.pyd")
GPU, INTEGRATED = 1, 2
"""ggml's kinds of device (older builds have only the first, and 2 is an accelerator such as BLAS)."""


class Params(ctypes.Structure):
    """``struct ggml_init_params``."""

    _fields_ = [("size", ctypes.c_size_t), ("buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool)]


class Absent(Exception):
    """Why it could not be measured."""


class Ggml:
    """ggml's functions, from whichever of its libraries has them."""

    def __init__(self, program: str) -> None:
        self.folder, paths = libraries(program)
        self.libraries: dict[str, ctypes.CDLL] = {}
        why = ""
        for _ in paths:  # each may need others: try again until no more can be loaded
            for path in paths:
                try:
                    self.libraries.setdefault(path, ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL))
                except OSError as error:
                    why = str(error)
        if not self.libraries:
            raise Absent("ggml's libraries can't be loaded: " + why)

    def find(self, name: str, result: type | None = ctypes.c_void_p) -> Callable[..., Any]:
        for library in self.libraries.values():
            function = getattr(library, name, None)
            if function is not None:
                function.restype = result
                return function  # type: ignore[no-any-return]
        raise Absent("this build of ggml has no " + name)

    def pointer(self, name: str, *arguments: object) -> ctypes.c_void_p:
        return ctypes.c_void_p(self.find(name)(*arguments))


def libraries(program: str) -> tuple[str, list[str]]:
    """The folder that has ggml's libraries, and their paths."""
    here = [Path(program).resolve().parent] if program else []
    folders = [*here, *(folder.parent / "lib" for folder in here)]
    for package in ("llama_cpp", "xllamacpp"):
        spec = find_spec(package)
        places = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
        folders += [*(place / "lib" for place in places), *places]
    for folder in folders:
        found = sorted(str(path) for name in NAMES for path in folder.glob(name))
        if found:
            return str(folder), found
    raise Absent("no ggml shared libraries next to " + (program or "this Python's packages"))


def first_gpu(ggml: Ggml) -> ctypes.c_void_p:
    with contextlib.suppress(Absent):  # older builds have no backends to load
        ggml.find("ggml_backend_load_all_from_path", None)(ggml.folder.encode())
    count = ggml.find("ggml_backend_dev_count", ctypes.c_size_t)()
    devices = [ggml.pointer("ggml_backend_dev_get", ctypes.c_size_t(index)) for index in range(count)]
    for wanted in (GPU, INTEGRATED):
        for device in devices:
            if ggml.find("ggml_backend_dev_type", ctypes.c_int)(device) == wanted:
                return device
    raise Absent("ggml finds no GPU")


def rate(ggml: Ggml, backend: ctypes.c_void_p, kind: int, rows: int) -> float | None:
    """Bytes per second; None where the matrices have no room."""
    size = ggml.find("ggml_tensor_overhead", ctypes.c_size_t)() * 32
    size += ggml.find("ggml_graph_overhead", ctypes.c_size_t)()
    context = ggml.pointer("ggml_init", Params(size, None, True))

    def matrix(kind: int, rows: int) -> ctypes.c_void_p:
        shape = ctypes.c_int64(COLUMNS), ctypes.c_int64(rows)
        return ggml.pointer("ggml_new_tensor_2d", context, ctypes.c_int(kind), *shape)

    vector, matrices = matrix(0, 1), [matrix(kind, rows) for _ in range(MATRICES)]
    graph = ggml.pointer("ggml_new_graph", context)
    for one in matrices:
        ggml.find("ggml_build_forward_expand", None)(graph, ggml.pointer("ggml_mul_mat", context, one, vector))
    buffer = ggml.pointer("ggml_backend_alloc_ctx_tensors", context, backend)
    if not buffer.value:
        return None
    ggml.find("ggml_backend_buffer_clear", None)(buffer, ctypes.c_uint8(0))
    compute = ggml.find("ggml_backend_graph_compute", ctypes.c_int)
    if compute(backend, graph) != 0:  # the first time kernels are compiled
        return None
    read = MATRICES * ggml.find("ggml_nbytes", ctypes.c_size_t)(matrices[0])
    began, best = time.perf_counter(), 0.0
    while time.perf_counter() - began < SECONDS:
        since = time.perf_counter()
        compute(backend, graph)
        best = max(best, read / (time.perf_counter() - since))
    ggml.find("ggml_backend_buffer_free", None)(buffer)
    return best


def measure(program: str) -> dict[str, object]:
    ggml = Ggml(program)
    device = first_gpu(ggml)
    backend = ggml.pointer("ggml_backend_dev_init", device, None)
    if not backend.value:
        raise Absent("ggml can't open the GPU")
    rates = {name: found for name, kind in KINDS.items() if (found := rate(ggml, backend, *kind))}
    if not rates:
        raise Absent("256 MiB have no room on the GPU")
    best = max(rates, key=lambda name: rates[name])
    name = ggml.find("ggml_backend_dev_description", ctypes.c_char_p)(device)
    return {"bytes_per_s": rates[best], "type": best, "device": name.decode("utf-8", "replace")}


if __name__ == "__main__":
    try:
        said = measure(sys.argv[1] if len(sys.argv) > 1 else "")
    except Absent as why:
        said = {"absent": str(why)}
    print("\n" + json.dumps(said), flush=True)
    os._exit(0)  # drivers' own ends may take long or crash
